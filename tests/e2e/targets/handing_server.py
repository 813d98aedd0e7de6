#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""An HTTPS server that accepts a connection, does its handshake, then forks: the child has socket
and TLS state, and serves the requests.

Usage: handing_server.py CERTIFICATE KEY PORT. Prints a JSON line for each request answered.
"""

import json
import os
import socket
import ssl
import sys


def read_head(tls):
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = tls.recv(4096)
        if not chunk:
            return None
        head += chunk
    return head.decode()


def answer(tls, head):
    target = head.split()[1]
    # A line in one write: children print at the same time.
    line = json.dumps({
        "method": "GET", "target": target, "status": 200, "response_size": len(target),
        "local": tls.getsockname(), "peer": tls.getpeername(), "pid": os.getpid()})
    os.write(1, f"{line}\n".encode())
    tls.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(target)}\r\n\r\n{target}".encode())


def main():
    certificate, key, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        while True:
            tls = listener.accept()[0]
            try:
                tls = context.wrap_socket(tls, server_side=True)
            except OSError:
                continue  # whoever only looked whether there is a listener
            if os.fork() == 0:
                while head := read_head(tls):
                    answer(tls, head)
                os._exit(0)
            tls.close()


main()
