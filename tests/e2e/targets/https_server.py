#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A threaded HTTPS server (HTTP/1.1, keep-alive) that reports every request it served.

Usage: https_server.py CERTIFICATE KEY HOST PORT LOG. One JSON object a request is appended to LOG
once the response is written: the request and the response as this process saw them, and the
addresses of its socket. The path says what is answered:

  /size/N       N bytes                          /chunked/N   N bytes, chunked, with a trailer
  /status/N     status N without a body          /until-close/N   N bytes, ended by the close
  /header/N     a header with a value of N bytes /delay/MS    an answer after MS milliseconds
  /hints        103 before the 200               /upgrade     101, then lines are sent back
  /secrets      secrets in response headers      /half/N      N bytes announced, half sent at once,
  /parts/N/M    N bytes, in chunks of M                       the rest after a byte on the fifo
  anything else the request's body
"""

import http.client
import http.server
import json
import os
import ssl
import sys
import threading
import time

# The library refuses more than 100 header lines; some cases send thousands.
http.client._MAXHEADERS = 20000

LOG_LOCK = threading.Lock()
BLOCK = bytes(range(32, 127)) * 690


def body_of(size):
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "e2e"
    # The name that the log below goes to is set by main.
    log_path = None

    def log_message(self, *_):
        pass

    def send_response(self, code, message=None):
        self.sent_headers = []
        self.sent_status = code
        super().send_response(code, message)

    def send_header(self, keyword, value):
        self.sent_headers.append([keyword, str(value)])
        super().send_header(keyword, value)

    def report(self, response_bytes, trailers=()):
        line = json.dumps({
            "method": self.command, "target": self.path, "status": self.sent_status,
            "version": self.request_version.partition("/")[2],
            "request_headers": self.headers.items(), "response_headers": self.sent_headers,
            "response_trailers": list(trailers),
            "request_size": self.request_bytes, "response_size": response_bytes,
            "local": self.connection.getsockname()[:2], "peer": self.connection.getpeername()[:2],
            "pid": os.getpid(),
        }) + "\n"
        with LOG_LOCK, open(self.log_path, "a", encoding="utf-8") as log:
            log.write(line)

    def read_chunked(self):
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self.read_chunked()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, body, headers=(), status=200):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        self.wfile.write(body)
        self.report(len(body))

    def answer_size(self, size):
        self.answer(body_of(size))

    def answer_status(self, status):
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Length", 0)
        self.end_headers()
        self.report(0)

    def answer_chunked(self, size):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Check")
        self.end_headers()
        body = body_of(size)
        for start in range(0, size, 1000):
            part = body[start:start + 1000]
            self.wfile.write(b"%x;ext=1\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\nX-Check: done\r\n\r\n")
        self.report(size, [["X-Check", "done"]])

    def answer_parts(self, size, part_size):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = b"%x\r\n%s\r\n" % (part_size, body_of(part_size))
        for _ in range(size // part_size):
            self.wfile.write(chunk)
        self.wfile.write(b"0\r\n\r\n")
        self.report(size // part_size * part_size)

    def answer_until_close(self, size):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body_of(size))
        self.report(size)

    def answer_header(self, size):
        self.answer(b"ok", [("X-Long", "v" * size)])

    def answer_delay(self, milliseconds):
        time.sleep(milliseconds / 1000)
        self.answer(b"late")

    def answer_hints(self):
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        self.answer(b"after the hints")

    def answer_upgrade(self):
        self.send_response(101)
        self.send_header("Upgrade", "lines")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        sent = 0
        while line := self.rfile.readline():
            sent += self.wfile.write(line)
        self.request_bytes += sent
        self.report(sent)

    def answer_secrets(self):
        self.answer(b"ok", [
            ("Set-Cookie", "sid=hush-setcookie; Path=/; HttpOnly"),
            ("Location", "https://user:hush-userinfo@other.example/next?token=hush-location&a=b"),
            ("X-Session-Id", "hush-session"),
            ("X-RateLimit-Token", "plain-ratelimit"),
        ])

    def answer_half(self, size):
        self.send_response(200)
        self.send_header("Content-Length", size)
        self.end_headers()
        body = body_of(size)
        self.wfile.write(body[:size // 2])
        with open(self.headers["X-Fifo"], "rb") as fifo:
            fifo.read(1)
        self.wfile.write(body[size // 2:])
        self.report(size)

    def handle_request(self):
        body = self.read_body()
        self.request_bytes = len(body)
        words = self.path.partition("?")[0].strip("/").split("/")
        answer = getattr(self, "answer_" + words[0].replace("-", "_"), None)
        if answer is None:
            self.answer(body)
        else:
            answer(*map(int, words[1:]))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_request


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, tls):
        self.tls = tls
        self.address_family = 10 if ":" in address[0] else 2
        super().__init__(address, Handler)

    def finish_request(self, request, client_address):
        # In the connection's own thread: a slow handshake must not hold the others up.
        with self.tls.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)
            self.say_goodbye(connection)

    @staticmethod
    def say_goodbye(connection):
        """Sends the TLS close, which clients expect, without waiting for theirs."""
        connection.settimeout(0)
        try:
            connection.unwrap()
        except OSError:
            pass

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    certificate, key, host, port, Handler.log_path = sys.argv[1:]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.num_tickets = 0
    Server((host, int(port)), tls).serve_forever()


main()
