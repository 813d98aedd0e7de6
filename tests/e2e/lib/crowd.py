# SPDX-License-Identifier: BSD-2-Clause
"""Many TLS connections of one traced program at a time, whose other end is this process: its own
sockets tell the addresses that the entries must have.

Targets are /size/N?QUERY, which is answered with N bytes; the query makes each one unique. Every
other connection is TLS 1.2, the rest TLS 1.3.
"""

import http.client
import itertools
import socket
import ssl
import threading

from .case import Failure, check
from .entries import Report
from .waiting import until

CROWD = 8  # connections of a generation
SMALL, LARGE = 300, 60000
PATIENCE_SECONDS = 20


def _configure(context, number):
    context.set_alpn_protocols(["http/1.1"])
    if number % 2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def target(size, name, number):
    return f"/size/{size}?name={name}&number={number}"


class Line:
    """A connection to a server; a request and its response are separate steps."""

    def __init__(self, port, generation, number):
        context = _configure(ssl.create_default_context(), number)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.name = f"{generation}{number}"
        self._sent = 0
        self._socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS),
            server_hostname="localhost")
        self.local, self.peer = (list(self._socket.getsockname()), list(self._socket.getpeername()))

    def send(self, size):
        self._target = target(size, self.name, self._sent)
        self._sent += 1
        self._headers = [["Host", "localhost"], ["X-Name", self.name]]
        lines = [f"GET {self._target} HTTP/1.1", *map(": ".join, self._headers), "", ""]
        self._socket.sendall("\r\n".join(lines).encode())

    def receive(self):
        """The response's Report, as the server must have seen it."""
        response = http.client.HTTPResponse(self._socket, method="GET")
        try:
            response.begin()
            size = len(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self._target}: no response: {error!r}") from None
        check(not response.will_close, f"{self._target}: the server closes the connection")
        return Report("GET", self._target, response.status, size, 0, self._headers,
                      response.getheaders(), local=self.peer, peer=self.local, side="server")

    def close(self):
        self._socket.close()


def exchange(lines, size):
    """A request on every line, all under way at once; their Reports."""
    for line in lines:
        line.send(size)
    return [line.receive() for line in reversed(lines)]


class HoldingServer:
    """A server whose responses wait until release(), so that its clients' connections stay open.

    A connection that was held is closed by its third response: clients open new ones then, whose
    first responses wait until there are CROWD of them, less the lanes of requests that came to
    their end: those with the number `last`.
    """

    REQUESTS_OF_HELD = 3

    def __init__(self, pki, last=None):
        self._last = f"&number={last}"
        self._contexts = [_configure(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), number)
                          for number in range(2)]
        for context in self._contexts:
            context.load_cert_chain(pki.certificate, pki.key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._released = False
        self._new = self._ended = 0
        self.held = []  # Reports of the exchanges that were under way then
        self.reports = []  # and of those that began later; both as the client must have seen them
        self.errors = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for context in itertools.cycle(self._contexts):
            connection = self._listener.accept()[0]
            threading.Thread(target=self._serve, args=(context, connection), daemon=True).start()

    def _serve(self, context, connection):
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                self._answer_all(tls)
                self._say_goodbye(tls)
        except ConnectionError:
            pass  # a client that goes without a word
        except OSError as error:
            self.errors.append(repr(error))

    @staticmethod
    def _say_goodbye(tls):
        """The TLS close, without waiting for the client's."""
        tls.settimeout(0)
        try:
            tls.unwrap()
        except OSError:
            pass

    def _answer_all(self, tls):
        requests, was_held = tls.makefile("rb"), False
        served = 0
        while line := requests.readline():
            method, path, version = line.decode().split()
            headers = []
            while (field := requests.readline().decode().rstrip("\r\n")):
                name, _, value = field.partition(":")
                headers.append([name, value.strip()])
            served += 1
            last = was_held and served == self.REQUESTS_OF_HELD
            size = int(path.partition("?")[0].rpartition("/")[2])
            answer = [["Content-Length", str(size)], ["X-Served", str(served)],
                      *([["Connection", "close"]] if last else [])]
            report = Report(method, path, 200, size, 0, headers, answer,
                            local=list(tls.getpeername()), peer=list(tls.getsockname()),
                            version=version.partition("/")[2], side="client")
            was_held |= self._wait(report)
            if served == 1 and not was_held:
                self._wait_for_all()
            head = ["HTTP/1.1 200 OK", *map(": ".join, answer), "", ""]
            tls.sendall("\r\n".join(head).encode() + b"x" * size)
            if last:
                return

    def _wait(self, report):
        """Notes the exchange; where it must wait for the release, returns true after that."""
        with self._changed:
            if self._released:
                self.reports.append(report)
                self._ended += report.target.endswith(self._last)
                self._changed.notify_all()
                return False
            self.held.append(report)
            self._changed.wait_for(lambda: self._released)
            return True

    def _wait_for_all(self):
        """For the first exchange of a connection opened after the release."""
        with self._changed:
            self._new += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._new + self._ended >= CROWD,
                                          PATIENCE_SECONDS):
                raise TimeoutError(f"{self._new} new connections")

    def wait_held(self, count, process):
        """Waits until `count` requests wait for their responses."""
        until(lambda: len(self.held) >= count or process.poll() is not None,
              f"{count} connections", PATIENCE_SECONDS)
        if len(self.held) < count:
            raise Failure(f"{len(self.held)} of {count} connections\n{process.output()}")

    def release(self):
        with self._changed:
            self._released = True
            self._changed.notify_all()
