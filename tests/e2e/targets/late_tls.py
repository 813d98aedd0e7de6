#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A process that has no TLS library until it is told: it loads one and makes a GET at once.

Usage: late_tls.py import|ctypes HOST PORT TARGET. Prints `ready`, waits for a line of input, then
loads libssl (through Python's ssl module, or by dlopen and plain calls), makes one request, and
prints a JSON line with its pid and its socket's address and the response's status line.
"""

import ctypes
import json
import os
import socket
import sys

how, host, port, target = sys.argv[1:]
REQUEST = (f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").encode()


def through_import(connection):
    import ssl
    context = ssl._create_unverified_context()
    with context.wrap_socket(connection) as tls:
        tls.sendall(REQUEST)
        response = b""
        while chunk := tls.recv(4096):
            response += chunk
        return response


def through_ctypes(connection):
    library = ctypes.CDLL("libssl.so.3")
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
    tls = ctypes.c_void_p(library.SSL_new(context))
    library.SSL_set_fd(tls, connection.fileno())
    if library.SSL_connect(tls) != 1:
        sys.exit("SSL_connect failed")
    if library.SSL_write(tls, REQUEST, len(REQUEST)) != len(REQUEST):
        sys.exit("SSL_write failed")
    response = b""
    buffer = ctypes.create_string_buffer(4096)
    while (count := library.SSL_read(tls, buffer, len(buffer))) > 0:
        response += buffer.raw[:count]
    library.SSL_shutdown(tls)
    library.SSL_free(tls)
    return response


def main():
    print("ready", flush=True)
    sys.stdin.readline()
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        # Blocking in truth: with a timeout Python makes the descriptor a non-blocking one.
        connection.settimeout(None)
        local = connection.getsockname()[:2]
        response = {"import": through_import, "ctypes": through_ctypes}[how](connection)
    print(json.dumps({"pid": os.getpid(), "local": local,
                      "status": int(response.split()[1])}), flush=True)
    # Stays, so that a trace of this pid ends when the case says so.
    sys.stdin.readline()


main()
