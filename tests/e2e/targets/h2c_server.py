# SPDX-License-Identifier: BSD-2-Clause
"""An HTTPS server that can be upgraded from HTTP/1.1 to HTTP/2 inside TLS, on Debian's h2.

Usage: h2c_server.py CERTIFICATE KEY HOST PORT LOG. As https_server.py it appends a JSON object for
each request to LOG. The path says what is answered:

  /size/N       N bytes                          /trailers/N   N bytes and a trailer
  /hints/N      103 before N bytes               anything else as many bytes as the request's body

A query that has `apart` sends the 101 by itself, before the first frames.
"""

import json
import os
import socket
import ssl
import sys
import threading

import h2.config
import h2.connection
import h2.events

CERTIFICATE, KEY, HOST, PORT, LOG = sys.argv[1:6]
LOG_LOCK = threading.Lock()


def text(pairs):
    return [[name.decode() if isinstance(name, bytes) else name,
             value.decode() if isinstance(value, bytes) else value] for name, value in pairs]


def log(report):
    with LOG_LOCK, open(LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(report) + "\n")


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.http2 = None
        self.reports = {}  # of streams
        self.left = {}  # bytes to send, of streams that are being answered

    def report(self, method, target, headers, size):
        return {"method": method, "target": target, "request_headers": headers,
                "request_size": size, "response_trailers": [], "pid": os.getpid(),
                "local": self.sock.getsockname()[:2], "peer": self.sock.getpeername()[:2]}

    @staticmethod
    def size_of(report):
        kind, *rest = report["target"].partition("?")[0].strip("/").split("/")
        return kind, int(rest[0]) if rest else report["request_size"]

    # HTTP/1.1

    def fill(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def read_request(self):
        """A Report's fields, or None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        method, target, _ = line.split()
        headers = [field.split(": ", 1) for field in fields]
        size = int(dict(headers).get("Content-Length", 0))
        while len(self.buffer) < size:
            self.fill()
        self.buffer = self.buffer[size:]
        return self.report(method, target, headers, size)

    def answer(self, report):
        size = self.size_of(report)[1]
        headers = [["X-By", "HTTP/1.1"], ["Content-Length", str(size)]]
        head = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.sock.sendall("\r\n".join(head).encode() + b"s" * size)
        log({**report, "status": 200, "version": "1.1", "response_headers": headers,
             "response_size": size})

    def serve(self):
        while report := self.read_request():
            fields = {name.lower(): value for name, value in report["request_headers"]}
            if "http2-settings" in fields:
                self.upgrade(report, fields)
                return
            self.answer(report)

    # HTTP/2

    def upgrade(self, report, fields):
        switch = ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                  f"Upgrade: {fields['upgrade']}\r\nX-Only-Of: the 101\r\n\r\n").encode()
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.http2.initiate_upgrade_connection(fields["http2-settings"].encode())
        if "apart" in report["target"]:
            self.sock.sendall(switch)
            switch = b""
        self.reports[1] = report
        self.begin_answer(1)
        self.sock.sendall(switch + self.http2.data_to_send())
        while self.buffer or self.fill():
            data, self.buffer = self.buffer, b""
            for event in self.http2.receive_data(data):
                self.take(event)
            self.send_more()
            self.sock.sendall(self.http2.data_to_send())

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            headers = text(event.headers)
            pseudo = dict(headers)
            self.reports[event.stream_id] = self.report(
                pseudo[":method"], pseudo[":path"],
                [pair for pair in headers if not pair[0].startswith(":")], 0)
        elif isinstance(event, h2.events.DataReceived):
            self.reports[event.stream_id]["request_size"] += len(event.data)
            self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.begin_answer(event.stream_id)

    def begin_answer(self, stream):
        report = self.reports[stream]
        kind, size = self.size_of(report)
        if kind == "hints":
            self.http2.send_headers(stream, [(":status", "103"), ("link", "</style.css>")])
        headers = [["server", "h2c-server"], ["x-by", "HTTP/2"], ["x-stream", str(stream)]]
        self.http2.send_headers(stream, [(":status", "200"), *map(tuple, headers)])
        report.update(status=200, version="2", response_headers=headers, response_size=size)
        if kind == "trailers":
            report["response_trailers"] = [["x-check", f"stream {stream}"]]
        self.left[stream] = size
        self.send_more()

    def send_more(self):
        """What the windows have room for."""
        for stream, left in list(self.left.items()):
            while part := min(left, self.http2.local_flow_control_window(stream),
                              self.http2.max_outbound_frame_size):
                self.http2.send_data(stream, b"s" * part)
                left -= part
            self.left[stream] = left
            if not left:
                self.end_answer(stream)

    def end_answer(self, stream):
        report = self.reports.pop(stream)
        del self.left[stream]
        if report["response_trailers"]:
            self.http2.send_headers(stream, report["response_trailers"], end_stream=True)
        else:
            self.http2.end_stream(stream)
        log(report)


def serve(sock, context):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with context.wrap_socket(sock, server_side=True) as tls:
            Connection(tls).serve()
    except (ConnectionError, ssl.SSLError):
        pass


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    context.set_alpn_protocols(["http/1.1"])
    listener = socket.create_server((HOST, int(PORT)))
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], context), daemon=True).start()


main()
