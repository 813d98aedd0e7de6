# SPDX-License-Identifier: BSD-2-Clause
"""The target never notices: tlstrace attached, detached and killed under full load, and commands
that outlive it."""

import os
import re
import signal
import subprocess

from lib.case import Failure, case, check, equal
from lib.clients import python_client
from lib.entries import parse
from lib.servers import NGINX, Nginx, PythonServer, own_copy
from lib.test import PYTHON
from lib.waiting import until

CYCLES = 50
CONNECTIONS = 16


class Load:
    """wrk against nginx until stop(), which returns how many requests it made, all good."""

    def __init__(self, test, nginx):
        # Longer than any case may take: stop() ends it.
        self.process = test.start(["wrk", "-t1", "-c", CONNECTIONS, "-d", "600", "--timeout", "10",
                                   nginx.url("/1k")], name="wrk")
        self._nginx = nginx

    def stop(self):
        """wrk counts a response that is not whole or not 2xx, and every failed connection."""
        check(self.process.poll() is None, f"wrk ended: {self.process.output()}")
        equal("exit status of wrk", self.process.stop(signal.SIGINT), 0)
        text = self.process.text()
        for sign in ("Socket errors", "Non-2xx"):
            check(sign not in text, f"failed requests:\n{text}")
        requests = int(re.search(r"(\d+) requests in", text)[1])
        check(requests > 0, text)
        return requests


def _loaded_nginx(test):
    nginx = Nginx(test, binary=own_copy(test, NGINX), log=False)
    return nginx, Load(test, nginx)


def _check_undamaged(test, nginx):
    """nginx's processes are the same, and nothing went wrong in them."""
    equal("workers", nginx.find_workers(2), nginx.workers)
    with open(os.path.join(nginx.dir, "error.log"), encoding="utf-8") as file:
        bad = [line for line in file if re.search(r"\[(alert|crit|emerg)\]", line)]
    equal("nginx's errors", bad, [])
    test.note("nginx undamaged")


def _grown(trace):
    """Waits until entries come in: the probes deliver."""
    until(lambda: os.path.exists(trace.path) and os.path.getsize(trace.path) > 0, "entries")


@case("bpf", "nginx", "wrk", alone=True, limit=120)
def attached_and_detached_fifty_times_under_load(test):
    nginx, load = _loaded_nginx(test)
    workers = ",".join(map(str, nginx.workers))
    for cycle in range(CYCLES):
        # Both ways to name a target, and both signals that end a trace in order.
        target = ["-b", nginx.binary] if cycle % 2 else ["-p", workers]
        trace = test.trace(*target)
        if cycle % 5 == 0:
            _grown(trace)
        equal("exit status", trace.stop((signal.SIGINT, signal.SIGTERM)[cycle % 2]), 0)
        os.unlink(trace.path)
    test.note(f"{load.stop()} requests")
    _check_undamaged(test, nginx)


@case("bpf", "nginx", "wrk", alone=True, limit=90)
def killed_under_load(test):
    """SIGKILL at full load leaves no probe behind: the same program can be traced at once."""
    nginx, load = _loaded_nginx(test)
    for turn in range(6):
        trace = test.trace("-b", nginx.binary, name=f"killed{turn}")
        _grown(trace)
        equal("exit status", trace.stop(signal.SIGKILL), -signal.SIGKILL)
        os.unlink(trace.path)
    trace = test.trace("-b", nginx.binary, name="last")
    _grown(trace)
    equal("exit status", trace.stop(), 0)
    test.note(f"{load.stop()} requests")
    _check_undamaged(test, nginx)


@case("bpf", "nginx", "wrk", alone=True, limit=60)
def killed_during_the_attach(test):
    """SIGKILL before tlstrace is ready, at many moments."""
    nginx, load = _loaded_nginx(test)
    for turn in range(20):
        trace = test.trace_early("-b", nginx.binary, name=f"killed{turn}")
        try:
            trace.process.wait_text("^tlstrace: ready", "stderr", timeout=0.005 * turn)
        except Failure:
            pass  # the moments before it is ready are what this is about
        trace.stop(signal.SIGKILL)
    test.note(f"{load.stop()} requests")
    _check_undamaged(test, nginx)


@case("bpf", "nginx", "wrk", alone=True, limit=90)
def losses_at_saturation_are_counted(test):
    """With no loss counted, every request has a complete entry; none ever has two."""
    nginx = Nginx(test, binary=own_copy(test, NGINX), log=False)
    trace = test.trace("-b", nginx.binary)
    load = Load(test, nginx)
    until(lambda: os.path.getsize(trace.path) > 10 << 20, "entries of 10 MB", timeout=30)
    requests = load.stop()
    _wait_settled(trace.path)
    equal("exit status", trace.stop(), 0)
    total, lost, unconnected = trace.totals()
    entries = parse(trace.text())
    complete = sum(entry.at("capture.complete") for entry in entries)
    test.note(f"{requests} requests by wrk, {total} entries, {complete} complete, {lost} lost")
    equal("entries", len(entries), total)
    equal("without a connection", unconnected, 0)
    # What is under way when wrk ends is not in its count.
    check(total <= requests + CONNECTIONS, f"{total} entries of {requests} requests")
    if lost == 0:
        check(complete >= requests, f"{complete} complete entries of {requests}, no loss counted")
    else:
        check(any(not e.at("capture.complete") for e in entries), "a loss, but all is complete")


def _wait_settled(path):
    """Waits until a file has not grown for half a second."""
    sizes = [-1]

    def has_settled():
        sizes.append(os.path.getsize(path))
        return sizes[-1] == sizes[-2]
    until(has_settled, f"the end of what is written to {path}", every=0.5)


@case("bpf", "curl", limit=90)
def command_outlives_a_killed_tlstrace(test):
    """A command is not left stopped when tlstrace is killed at any moment of it."""
    server = PythonServer(test)
    requests = 0
    for turn in range(8):
        end = test.path(f"end{turn}")
        script = (f"for i in $(seq 20); do curl -sk -o /dev/null {server.url('/k')} || "
                  f"{{ echo curl: $? > {end}; exit; }}; done; echo fine > {end}")
        trace = test.trace_early("sh", "-c", script, name=f"trace{turn}",
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.reports(requests + 1 + 2 * turn)
        trace.stop(signal.SIGKILL)
        with_text = until(lambda path=end: os.path.exists(path) and os.path.getsize(path) and path,
                          "the end of the command")
        with open(with_text, encoding="ascii") as file:
            equal("end of the command", file.read(), "fine\n")
        requests += 20


@case("bpf")
def target_killed_while_traced(test):
    """The target's death ends the trace in order."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    client.request("/once")
    client.process.stop(signal.SIGKILL)
    equal("exit status", trace.process.wait(10), 0)
    equal("entries", len(trace.checked_entries()), 1)


@case("bpf")
def nothing_stays_in_the_target(test):
    """After the trace, no breakpoint is left in the library that the target maps."""
    # A libssl that nobody else traces: probes are in every process that maps the file.
    library = own_copy(test, _library_of_python(), "libssl.so.3")
    client = python_client(test, PythonServer(test).port,
                           env={**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library)})
    check(_code_is_intact(client.pid, library), "changed before the trace")
    trace = test.trace("-p", client.pid)
    check(not _code_is_intact(client.pid, library), "no probe is to be seen")
    client.request("/")
    trace.finish(1)
    check(_code_is_intact(client.pid, library), "a probe has stayed")


def _library_of_python():
    """The libssl that Debian's Python loads."""
    script = "import ssl; print(open('/proc/self/maps').read())"
    maps = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True)
    return re.search(r"/\S*/libssl\.so\S*", maps.stdout)[0]


def _code_is_intact(pid, library):
    """Whether the code of the library is the same in the process as in the file."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        line = next(line for line in maps if line.endswith(f"{library}\n") and " r-xp " in line)
    addresses, _, offset = line.split()[:3]
    begin, end = (int(part, 16) for part in addresses.split("-"))
    with open(f"/proc/{pid}/mem", "rb") as memory, open(library, "rb") as file:
        memory.seek(begin)
        file.seek(int(offset, 16))
        return memory.read(end - begin) == file.read(end - begin)
