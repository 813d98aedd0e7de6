# SPDX-License-Identifier: BSD-2-Clause
"""Both ends of a TLS connection that carries lines of no protocol: CERTIFICATE KEY."""

import socket
import ssl
import sys
import threading

certificate, key = sys.argv[1:]


def answer(listener, context):
    plain, _ = listener.accept()
    with context.wrap_socket(plain, server_side=True) as connection:
        while line := connection.recv(1000):
            connection.sendall(b"250 " + line)


server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server.load_cert_chain(certificate, key)
listening = socket.create_server(("127.0.0.1", 0))
thread = threading.Thread(target=answer, args=(listening, server))
thread.start()
client = ssl.create_default_context(cafile=certificate)
client.check_hostname = False
with client.wrap_socket(socket.create_connection(listening.getsockname())) as stream:
    for _ in range(3):
        stream.sendall(b"EHLO x\r\n")
        stream.recv(1000)
thread.join()
