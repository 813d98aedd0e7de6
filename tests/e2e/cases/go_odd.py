# SPDX-License-Identifier: BSD-2-Clause
"""Go's crypto/tls where a connection does not go its usual way: a new handshake in the middle,
handshakes that fail, and a panic inside of Read."""

import os
import socket
import ssl
import subprocess

from cases.go import each_build
from lib import bpf, golang
from lib.case import check, equal
from lib.entries import compare
from lib.golang import GoClient, GoServer
from lib.servers import own_copy
from lib.waiting import free_port, until

ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Number: %d\r\n\r\nok"


def _wait_count(process, text, count):
    until(lambda: process.text().count(text) >= count, f"{count} times {text!r}")


@each_build("openssl")
def renegotiation(test, version, form):
    """The server has the handshake repeated between requests, in the client's Read."""
    count, port = 4, free_port()
    server = test.start(["/usr/bin/openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2",
                         "-cert", test.pki.certificate, "-key", test.pki.key],
                        stdin=subprocess.PIPE)
    server.wait_text("^ACCEPT")
    path = own_copy(test, golang.program(version, form), "go-https")
    trace = test.trace_early(path, "client", port, "http1", stdin=subprocess.PIPE,
                             env=dict(os.environ, RENEGOTIATE="1"))
    client, reports = GoClient(trace.process, path), []
    for number in range(count):
        client.order([{"target": f"/r/{number}"}])
        server.wait_text(f"^GET /r/{number} ")
        server.send(ANSWER % number)
        reports += client.answers()
        if number < count - 1:
            server.send("r\n")
            _wait_count(server, "SSL_do_handshake -> 1", number + 1)
    trace.process.close_stdin()
    compare(trace.finish_command(), reports)
    equal("connections", len({tuple(report.local) for report in reports}), 1)


def _fail_handshakes(port):
    """One of each kind: no TLS, nothing at all, and a client that refuses the certificate."""
    for hello in (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(hello)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
    with socket.create_connection(("127.0.0.1", port)) as peer:
        try:
            ssl.create_default_context().wrap_socket(peer, server_hostname="localhost")
        except ssl.SSLCertVerificationError:
            return
    check(False, "the certificate was not refused")


@each_build()
def failed_handshakes(test, version, form):
    """They show nothing, and nothing is kept of them; requests between them are as ever."""
    path = own_copy(test, golang.program(version, form), "go-https")
    server = GoServer(test, path)
    trace = test.trace("-p", server.pid)
    client = GoClient(test.start(golang.client_command(path, server, "http1"),
                                 stdin=subprocess.PIPE), path)
    count = 10
    for number in range(count):
        _fail_handshakes(server.port)
        client.requests({"target": f"/size/{number}"})
        client.reconnect()
    client.process.close_stdin()
    reports = server.reports(count)
    for name in ("connections", "fresh"):
        until(lambda name=name: not bpf.map_keys(trace.pid, name), f"no entry in map {name}")
    # Threads stay, goroutines do not.
    until(lambda: not any(key["goroutine"] for key in bpf.map_keys(trace.pid, "threads")),
          "no goroutine in map threads")
    compare(trace.finish(count), reports)


@each_build()
def panics(test, version, form):
    """What Read has deferred is run by a panic, and is not taken for its return."""
    path = own_copy(test, golang.program(version, form), "go-https")
    clients, count = 4, 3
    server = GoServer(test, path, "raw-server", env=dict(os.environ, PANIC=str(count)))
    trace = test.trace("-p", server.pid)
    for number in range(clients):
        client = test.start([path, "raw-client", server.port, count], stdin=subprocess.PIPE)
        client.send("\n")
        equal("client's status", client.wait(10), 0)
        _wait_count(server.process, "panic: broken", number + 1)
    reports, _ = golang.raw_reports(server.process.text(), "server", path)
    equal("requests", len(reports), clients * count)
    compare(trace.finish(len(reports)), reports)
