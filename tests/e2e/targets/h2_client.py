# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP/2 client on Debian's h2: one connection, and what it is told on each line of its input.

    h2_client.py HOST PORT [wire]

A line is a JSON list of requests that are sent at once: {"target", "method", "headers", "size",
"cancel", "protocol"}; the answer is a line with a list of what was sent and received of each. "cancel"
resets the stream when the response has begun. "protocol" makes it an extended CONNECT (RFC 8441).
With `wire`, the answer has under "wire" what the header blocks said, {"request", "response"}, and
{"join": true} tells from when on (h2_wire.py).
"""

import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
from h2_wire import Wire

HOST, PORT = sys.argv[1], int(sys.argv[2])
WIRE = sys.argv[3:] == ["wire"]


def text(pairs):
    return [[name.decode() if isinstance(name, bytes) else name,
             value.decode() if isinstance(value, bytes) else value] for name, value in pairs]


def regular(pairs):
    return [pair for pair in text(pairs) if not pair[0].startswith(":")]


def connect():
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    sock = context.wrap_socket(socket.create_connection((HOST, PORT)))
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    sock.sendall(connection.data_to_send())
    return sock, connection, Wire(connection) if WIRE else None


def send(connection, wire, order):
    stream = connection.get_next_available_stream_id()
    size = order.get("size")
    protocol = [(":protocol", order["protocol"])] if "protocol" in order else []
    headers = [(":method", order.get("method", "GET")), *protocol, (":scheme", "https"),
               (":authority", f"{HOST}:{PORT}"), (":path", order["target"]),
               ("user-agent", "h2-client"), *map(tuple, order.get("headers", []))]
    connection.send_headers(stream, headers, end_stream=size is None)
    on_wire = {"wire": {"request": wire.sent(), "response": None}} if wire else {}
    for start in range(0, size or 0, 16000):
        connection.send_data(stream, b"b" * min(16000, size - start))
    if size is not None:
        connection.end_stream(stream)
    return stream, {"method": order.get("method", "GET"), "target": order["target"],
                    "request_headers": regular(headers), "request_size": size or 0,
                    "response_size": 0, "status": None, "response_headers": None,
                    "response_trailers": [], "version": "2", "pid": None, **on_wire}


def exchange(sock, connection, wire, orders):
    told = dict(send(connection, wire, order) for order in orders)
    cancelled = {stream for stream, order in zip(told, orders) if order.get("cancel")}
    sock.sendall(connection.data_to_send())
    receive(sock, connection, wire, told, cancelled)
    return list(told.values())


def receive(sock, connection, wire, told, cancelled=(), first=b""):
    """Completes what is told of streams; `first` was read before."""
    open_streams = set(told)
    while open_streams:
        data, first = first or sock.recv(65536), b""
        if not data:
            raise SystemExit("closed by the server")
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                report = told[event.stream_id]
                report["status"] = int(dict(text(event.headers))[":status"])
                report["response_headers"] = regular(event.headers)
                if wire:
                    report["wire"]["response"] = wire.received()
                if event.stream_id in cancelled:
                    connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.CANCEL)
                    open_streams.discard(event.stream_id)
            elif isinstance(event, h2.events.DataReceived):
                told[event.stream_id]["response_size"] += len(event.data)
                connection.acknowledge_received_data(event.flow_controlled_length,
                                                     event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                told[event.stream_id]["response_trailers"] = regular(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                open_streams.discard(event.stream_id)
        sock.sendall(connection.data_to_send())
    for report in told.values():
        report["local"], report["peer"] = sock.getsockname(), sock.getpeername()


def main():
    sock, connection, wire = connect()
    print("{}", flush=True)
    for line in sys.stdin:
        orders = json.loads(line)
        if orders == {"reconnect": True}:
            sock.close()
            sock, connection, wire = connect()
            print("{}", flush=True)
        elif orders == {"join": True}:
            wire.join()
            print("{}", flush=True)
        else:
            print(json.dumps(exchange(sock, connection, wire, orders)), flush=True)


if __name__ == "__main__":
    main()
