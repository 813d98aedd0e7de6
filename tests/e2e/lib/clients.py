# SPDX-License-Identifier: BSD-2-Clause
"""Real HTTPS clients, and what each reports of the requests that it made."""

import json
import os
import subprocess

from .case import Failure
from .entries import Report
from .test import HERE, PYTHON_NAME

CURL = "/usr/bin/curl"


def _curl_lines(trace, mark):
    return [line[2:] for line in trace.splitlines() if line.startswith(mark)]


def _header_pairs(lines):
    return [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""]
            for line in lines if line and not line.startswith("HTTP/")]


def curl_command(*arguments, version="--http1.1"):
    """The command line of a curl whose output curl_report() understands."""
    return [CURL, "-sSvk", version, "-o", "/dev/null", "-w", "%{stdout}%{json}\n", *arguments]


def curl_report(output, trace, pid=None):
    """A Report of curl's -w json line and -v trace, of one request."""
    told = json.loads(output.strip().splitlines()[-1])
    sent, received = _curl_lines(trace, "> "), _curl_lines(trace, "< ")
    # Of several heads (a CONNECT before, 1xx responses) the last is the exchange's.
    first = max(i for i, line in enumerate(sent) if line.endswith((" HTTP/1.1", " HTTP/2")))
    status = max(i for i, line in enumerate(received) if line.startswith("HTTP/"))
    method, target, _ = sent[first].split(" ")
    return Report(
        method=method, target=target, status=told["http_code"],
        response_size=told["size_download"], request_size=told["size_upload"],
        request_headers=_header_pairs(sent[first + 1:]),
        response_headers=_header_pairs(received[status:]),
        local=[told["local_ip"], told["local_port"]],
        peer=[told["remote_ip"], told["remote_port"]],
        version="1.1" if told["http_version"] == "1" else told["http_version"],
        side="client", executable="curl", pid=pid)


def curl(test, *arguments, version="--http1.1"):
    """Runs curl once (arguments end with the URL); returns its Report."""
    process = test.run(curl_command(*arguments, version=version))
    if process.poll() != 0:
        raise Failure(f"curl failed with {process.poll()}:\n{process.output()}")
    return curl_report(process.text(), process.text("stderr"), process.pid)


class KeepAliveClient:
    """A process that makes requests on one connection when told: Python's or node's client."""

    def __init__(self, process, executable, first_line):
        self.process, self._executable = process, executable
        self._lines_read = 0
        process.wait_text(first_line)
        self._read_line()

    @property
    def pid(self):
        return self.process.pid

    def _read_line(self):
        self._lines_read += 1
        self.process.wait_text(r"\A(.*\n){%d}" % self._lines_read)
        return self.process.text().splitlines()[self._lines_read - 1]

    def _report(self, told):
        return Report(side="client", executable=self._executable, **told)

    def order(self, order):
        """Sends an order; answer() is to follow."""
        self.process.send(json.dumps(order) + "\n")

    def answer(self):
        line = self._read_line()
        try:
            return json.loads(line)
        except ValueError:
            raise Failure(f"{self.process.name} says {line!r}\n"
                          f"{self.process.text('stderr')[-2000:]}") from None

    def tell(self, order):
        """Sends an order, returns the parsed answer."""
        self.order(order)
        return self.answer()

    def request(self, target, method="GET", size=None, **more):
        return self._report(self.tell(dict(more, target=target, method=method, size=size)))

    def request_in_fork(self, target):
        return self._report(self.tell({"fork": {"target": target}}))

    def requests_in_threads(self, threads, each):
        return [self._report(told) for told in self.tell({"threads": threads, "each": each})]

    def reconnect(self):
        self.tell({"reconnect": True})


def trace_both(test, client, server, *options):
    """Traces a client and its server; returns the Trace.

    The client connects anew: a server that is inside SSL_read when the probes come does not show
    what that call returns.
    """
    trace = test.trace(*options, "-p", f"{client.pid},{server.pid}")
    client.reconnect()
    return trace


def python_client(test, port, host="127.0.0.1", **options):
    process = test.start_target("https_client.py", host, port, stdin=subprocess.PIPE, **options)
    return KeepAliveClient(process, PYTHON_NAME, r"^\{")


class H2Client(KeepAliveClient):
    """targets/h2_client.py: several requests at once on one connection."""

    def answers(self):
        """The Reports of a list of orders."""
        return [self._report(told) for told in self.answer()]

    def requests(self, *orders):
        self.order(list(orders))
        return self.answers()


def h2_client(test, port, *options, host="127.0.0.1"):
    process = test.start_target("h2_client.py", host, port, *options, stdin=subprocess.PIPE)
    return H2Client(process, PYTHON_NAME, r"^\{")


class UpgradingClient(H2Client):
    """targets/h2c_client.py: one request at a time until upgrade(), then as H2Client."""

    def upgrade(self, **order):
        return self._report(self.tell({"upgrade": order}))


def h2c_client(test, port, protocol="h2c"):
    process = test.start_target("h2c_client.py", "127.0.0.1", port, protocol,
                                stdin=subprocess.PIPE)
    return UpgradingClient(process, PYTHON_NAME, r"^\{")


def node_client(test, port, host="127.0.0.1"):
    process = test.start(["/usr/bin/node", os.path.join(HERE, "targets", "node_client.js"),
                          host, port], stdin=subprocess.PIPE)
    return KeepAliveClient(process, "node", "^ready")


def s_client_command(port, *options):
    return ["/usr/bin/openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet",
            "-verify_quiet", *options]


class RawPeer:
    """targets/raw_peer.py: one connection whose every call is scripted."""

    def __init__(self, test, steps, *, port=None, listen_port=None, later=False,
                 host="127.0.0.1", name="raw"):
        path = test.write(f"{name}.steps", json.dumps(steps))
        if listen_port:
            where = ["listen", test.pki.certificate, test.pki.key, host, listen_port]
        else:
            where = ["later" if later else "connect", host, port]
        self.process = test.start_target("raw_peer.py", *where, path, stdin=subprocess.PIPE)
        # Its TLS library is loaded then: a trace from now on need not wait for that.
        if listen_port:
            self.process.wait_text("^listening")
        elif later:
            self.process.wait_text("^waiting")

    @property
    def pid(self):
        return self.process.pid

    def connected(self):
        """Its pid and addresses, once it has a connection."""
        return json.loads(self.process.wait_text(r"^\{.*\}$")[0])

    def go_on(self):
        """Lets it pass a {"line": true}, or connect when it was to do so later."""
        self.process.send("\n")

    def done(self):
        self.process.wait_text("^done")
        return self.process.wait()
