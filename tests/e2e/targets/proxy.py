#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A proxy that knows CONNECT and nothing else, over plain TCP or over TLS.

Usage: proxy.py HOST PORT [CERTIFICATE KEY]. Prints a JSON line a tunnel: the addresses of the
client's connection and of the one to the destination.
"""

import json
import select
import socket
import ssl
import sys
import threading


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(4096)
        if not chunk:
            raise OSError("closed before the request was whole")
        head += chunk
    return head


def relay(first, second):
    """Copies both ways until either side ends."""
    while True:
        pending = getattr(first, "pending", lambda: 0)()
        ready = [first] if pending else select.select([first, second], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (second if source is first else first).sendall(data)


def serve(connection, context):
    with connection:
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        host, _, port = read_head(connection).split()[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as onward:
            print(json.dumps({"client": connection.getpeername()[:2],
                              "onward": onward.getsockname()[:2]}), flush=True)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: e2e\r\n\r\n")
            relay(connection, onward)
        connection.close()


def main():
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
    with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=serve, args=(connection, context), daemon=True).start()


main()
