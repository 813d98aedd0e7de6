# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP/2 server on Debian's h2 for one connection, which tells what its header blocks said.

    h2_witness.py CERTIFICATE KEY PORT [HOLD_AT IN_FLIGHT]

From the request HOLD_AT on it does not answer, and prints `held` once IN_FLIGHT requests wait. The
line `join` on its input lets them go on; what was said before it is what somebody who joins there
does not know (h2_wire.py). `report` has it print a JSON list of the exchanges: {"target", "before",
"request", "response"}, where "before" tells that the request came before the join.
"""

import json
import selectors
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events
from h2_wire import Wire

CERTIFICATE, KEY, PORT = sys.argv[1:4]
HOLD_AT, IN_FLIGHT = map(int, sys.argv[4:6]) if len(sys.argv) > 4 else (1 << 30, 0)


class Server:
    def __init__(self, sock):
        self.sock = sock
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.wire = Wire(self.connection)
        self.exchanges, self.waiting = [], []
        self.hold_at = HOLD_AT
        self.connection.initiate_connection()
        self.flush()

    def flush(self):
        self.sock.sendall(self.connection.data_to_send())

    def answer(self, stream, exchange):
        self.connection.send_headers(stream, [
            (":status", "200"), ("server", "witness"), ("content-type", "text/plain"),
            ("x-answer", f"to {exchange['target']}"), ("x-constant", "always the same"),
            ("x-cycle", f"number {stream // 2 % 7}")])
        exchange["response"] = self.wire.sent()
        self.connection.send_data(stream, b"w" * 100, end_stream=True)

    def requested(self, event):
        request = self.wire.received()
        exchange = {"target": {name: value for name, value, *_ in request}[":path"],
                    "before": False, "request": request, "response": None}
        self.exchanges.append(exchange)
        if len(self.exchanges) < self.hold_at:
            self.answer(event.stream_id, exchange)
            return
        self.waiting.append((event.stream_id, exchange))
        if len(self.waiting) == IN_FLIGHT:
            print("held", flush=True)

    def read(self):
        """False at the end of the connection."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        for event in self.connection.receive_data(data) if data else ():
            if isinstance(event, h2.events.RequestReceived):
                self.requested(event)
            elif isinstance(event, h2.events.DataReceived):
                self.connection.acknowledge_received_data(event.flow_controlled_length,
                                                          event.stream_id)
        if data:
            self.flush()
        return bool(data)

    def join(self):
        self.wire.join()
        self.hold_at = 1 << 30
        for exchange in self.exchanges:
            exchange["before"] = True
        print("joined", flush=True)
        for stream, exchange in self.waiting:
            self.answer(stream, exchange)
        self.flush()


def accept():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", int(PORT)))
    print("listening", flush=True)
    return context.wrap_socket(listener.accept()[0], server_side=True)


def main():
    server = Server(accept())
    selector = selectors.DefaultSelector()
    selector.register(server.sock, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                line = sys.stdin.readline().strip()
                if line == "join":
                    server.join()
                elif line == "report":
                    print(json.dumps(server.exchanges), flush=True)
                else:
                    return
            elif not server.read():
                selector.unregister(server.sock)
            while server.sock.pending():
                server.read()


main()
