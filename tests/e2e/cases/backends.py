# SPDX-License-Identifier: BSD-2-Clause
"""The ways to see socket calls: each that this kernel offers tells the same of the same traffic."""

import os
import re

from lib.case import Skip, case, check, equal
from lib.clients import CURL, python_client
from lib.crowd import LARGE, SMALL, Line, exchange
from lib.entries import Report, compare
from lib.servers import Nginx
from lib.test import HERE, PYTHON, PYTHON_NAME
from lib.waiting import free_port, listening

# As --socket-backend has it, and as --check does.
OFFERED = {"tracepoints": "socket tracepoints", "fexit": "fentry and fexit", "kprobes": "kprobes",
           "syscalls": "syscall tracepoints"}


def _need(test, backend):
    told = re.search(rf"^{OFFERED[backend]}: (.*)", test.tlstrace("--check").text(), re.MULTILINE)
    check(told, f"--check says nothing of {OFFERED[backend]}")
    if not told[1].startswith("yes"):
        raise Skip(f"{OFFERED[backend]}: {told[1]}")


def _asyncio_server(test):
    """A server with memory BIOs, connections to it that were open before, and its process."""
    port = free_port()
    process = test.start([PYTHON, os.path.join(HERE, "targets", "matrix_app.py"), "asyncio",
                          test.pki.certificate, test.pki.key, port])
    listening(port, process)
    lines = [Line(port, "old", number) for number in range(3)]
    exchange(lines, SMALL)
    return process, lines


def _unix_requests(test, path):
    done = test.run([CURL, "-sk", "--http1.1", "--unix-socket", path, "-o", "/dev/null", "-o",
                     "/dev/null", "https://local/1k?unix=1", "https://local/1k?unix=2"])
    equal("curl", done.poll(), 0)


def _see(test, backend):
    """Calls that use sockets, on both sides and on a Unix socket; and a program with memory BIOs.

    Its client connects before the attach: nothing but what follows can tell its addresses.
    """
    _need(test, backend)
    path = test.path("tls.sock")
    nginx = Nginx(test, workers=1)
    local = Nginx(test, workers=1, log=False, name="local", listen=f"listen unix:{path} ssl;")
    client = python_client(test, nginx.port)
    server, lines = _asyncio_server(test)
    trace = test.trace("--socket-backend", backend, "-p",
                       f"{nginx.workers[0]},{local.workers[0]},{client.pid},{server.pid}")
    _unix_requests(test, path)
    reports = [client.request(f"/{size}?{number}") for number, size in
               enumerate(("1k", "100k", "1k"))]
    served = exchange(lines, LARGE) + exchange(lines, SMALL)
    entries = trace.finish(2 * len(reports) + len(served) + 2)

    unix = [entry for entry in entries if entry.at("network.transport") == "unix"]
    compare(unix, [Report("GET", f"/1k?unix={number}", 200, 1024, side="server")
                   for number in (1, 2)], addresses=False)
    rest = [entry for entry in entries if entry not in unix]
    compare(rest, reports + [r.seen_by_peer("server", executable="nginx") for r in reports] + served)
    for entry in rest:
        memory = entry.at("process.executable.name") == PYTHON_NAME and entry["side"] == "server"
        equal(f"capture.tuple of {entry.target()}", entry.at("capture.tuple"),
              "ciphertext" if memory else "nested")
        equal(f"TCP facts of {entry.target()}", entry.at("network.tcp.rtt_us") is None, memory)


@case("bpf", "nginx", "curl")
def tracepoints(test):
    _see(test, "tracepoints")


@case("bpf", "nginx", "curl")
def fexit(test):
    _see(test, "fexit")


@case("bpf", "nginx", "curl")
def kprobes(test):
    _see(test, "kprobes")


@case("bpf", "nginx", "curl")
def syscalls(test):
    _see(test, "syscalls")
