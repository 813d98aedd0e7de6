#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""One TLS connection, as client or server, whose every call is scripted.

Usage: raw_peer.py listen CERTIFICATE KEY HOST PORT STEPS | raw_peer.py connect HOST PORT STEPS |
raw_peer.py later HOST PORT STEPS, which connects after a line of input.
STEPS is a JSON file, a list of steps: {"send": TEXT} (one TLS write; TEXT is latin-1, "times"
repeats it), {"read": N} (exactly N bytes), {"until": TEXT} (reads up to TEXT), {"say": TEXT}
(prints it), {"line": true} (waits for a line of input), {"close": true} (a TLS close). Prints a
JSON line with pid and addresses once connected, and `done` when all steps are through.
"""

import json
import os
import socket
import ssl
import sys


def accept(certificate, key, host, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # Session tickets are writes inside the handshake; without them a trace is only our steps.
    context.num_tickets = 0
    listener = socket.create_server(
        (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    print("listening", flush=True)
    return context.wrap_socket(listener.accept()[0], server_side=True)


def connect(host, port):
    context = ssl._create_unverified_context()
    return context.wrap_socket(socket.create_connection((host, int(port))))


def connect_later(host, port):
    print("waiting", flush=True)
    sys.stdin.readline()
    return connect(host, port)


class Player:
    def __init__(self, tls):
        self.tls = tls
        self.unread = b""

    def receive(self):
        chunk = self.tls.recv(65536)
        if not chunk:
            sys.exit(f"the peer closed; unread: {self.unread!r}")
        self.unread += chunk

    def send(self, step):
        self.tls.sendall((step["send"] * step.get("times", 1)).encode("latin-1"))

    def read(self, step):
        while len(self.unread) < step["read"]:
            self.receive()
        self.unread = self.unread[step["read"]:]

    def until(self, step):
        end = step["until"].encode("latin-1")
        while end not in self.unread:
            self.receive()
        self.unread = self.unread.partition(end)[2]

    def say(self, step):
        print(step["say"], flush=True)

    def line(self, _):
        sys.stdin.readline()

    def close(self, _):
        # Without waiting for the peer's own close.
        self.tls.settimeout(0)
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.tls.close()

    def play(self, steps):
        for step in steps:
            getattr(self, next(iter(step)))(step)


def main():
    steps_path = sys.argv[-1]
    begin = {"listen": accept, "connect": connect, "later": connect_later}[sys.argv[1]]
    tls = begin(*sys.argv[2:-1])
    print(json.dumps({"pid": os.getpid(), "local": tls.getsockname()[:2],
                      "peer": tls.getpeername()[:2]}), flush=True)
    with open(steps_path, encoding="utf-8") as file:
        steps = json.load(file)
    try:
        Player(tls).play(steps)
    except ssl.SSLError as error:
        sys.exit(f"TLS: {error}")
    print("done", flush=True)


main()
