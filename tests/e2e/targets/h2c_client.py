# SPDX-License-Identifier: BSD-2-Clause
"""An HTTPS client that goes from HTTP/1.1 to HTTP/2 by an Upgrade inside TLS, on Debian's h2.

    h2c_client.py HOST PORT PROTOCOL

PROTOCOL is what Upgrade asks for. Its input is that of h2_client.py: a list of requests. They are
made by HTTP/1.1, one after the other, until {"upgrade": REQUEST}, which is answered by HTTP/2, and
by HTTP/2 afterwards.
"""

import json
import socket
import ssl
import sys

import h2.config
import h2.connection
from h2_client import HOST, PORT, exchange, receive

PROTOCOL = sys.argv[3]


class Client:
    def __init__(self):
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["http/1.1"])
        self.sock = context.wrap_socket(socket.create_connection((HOST, PORT)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = None  # of HTTP/2

    def close(self):
        self.sock.close()

    def _send(self, order, more=()):
        """Sends a request of HTTP/1.1; what is known of it."""
        size, method = order.get("size"), order.get("method", "GET")
        headers = [["Host", f"{HOST}:{PORT}"], *order.get("headers", []), *more]
        if size is not None:
            headers.append(["Content-Length", str(size)])
        lines = [f"{method} {order['target']} HTTP/1.1", *(f"{n}: {v}" for n, v in headers), "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        if size:
            self.sock.sendall(b"b" * size)
        return {"method": method, "target": order["target"], "request_headers": headers,
                "request_size": size or 0, "response_trailers": [], "pid": None,
                "local": self.sock.getsockname(), "peer": self.sock.getpeername()}

    def _receive_head(self):
        """Status, fields, and what has come behind them."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(65536)
            if not part:
                raise SystemExit("closed by the server")
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), [field.split(": ", 1) for field in fields], rest

    def request(self, order):
        report = self._send(order)
        status, headers, body = self._receive_head()
        size = int(dict(headers)["Content-Length"])
        while len(body) < size:
            body += self.sock.recv(65536)
        return {**report, "status": status, "response_headers": headers, "response_size": len(body),
                "version": "1.1"}

    def upgrade(self, order):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        settings = connection.initiate_upgrade_connection().decode()
        report = self._send(order, [["Connection", "Upgrade, HTTP2-Settings"],
                                    ["Upgrade", PROTOCOL], ["HTTP2-Settings", settings]])
        status, headers, rest = self._receive_head()
        if status != 101 or dict(headers)["Upgrade"] != PROTOCOL:
            raise SystemExit(f"not upgraded: {status} {headers}")
        self.connection = connection
        self.sock.sendall(connection.data_to_send())
        report.update(status=None, response_headers=None, response_size=0, version="2")
        receive(self.sock, connection, None, {1: report}, first=rest)
        return report

    def tell(self, order):
        if "upgrade" in order:
            return self.upgrade(order["upgrade"])
        if self.connection:
            return exchange(self.sock, self.connection, None, order)
        return [self.request(each) for each in order]


def main():
    client = Client()
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order == {"reconnect": True}:
            client.close()
            client = Client()
            print("{}", flush=True)
        else:
            print(json.dumps(client.tell(order)), flush=True)


main()
