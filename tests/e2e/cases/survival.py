"""The target never notices: tlstrace attached, detached and killed under full load, and commands
that outlive it."""

import os
import re
import signal

from lib.case import Failure, case, check, equal
from lib.clients import python_client
from lib.entries import parse
from lib.servers import NGINX, Nginx, PythonServer, own_copy
from lib.waiting import until

CYCLES = 50


class Load:
    """wrk against nginx until stop(), which returns how many requests it made, all good."""

    def __init__(self, test, nginx):
        # Longer than any case may take: stop() ends it.
        self.process = test.start(["wrk", "-t1", "-c", "16", "-d", "600", "--timeout", "10",
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
    equal("workers", nginx._workers(2), nginx.workers)
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
    for turn in range(8):
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


@case("bpf", "nginx", "wrk", alone=True, limit=60)
def losses_at_saturation_are_counted(test):
    """Without a counted loss every request has a complete entry; an entry that lacks something
    says so; and no request has two."""
    nginx, load = _loaded_nginx(test)
    trace = test.trace("-b", nginx.binary)
    _grown(trace)
    requests = load.stop()
    # What was under way when the trace began counts in wrk's sum and not in tlstrace's.
    until(lambda size=[-1]: size[0] == (size.__setitem__(0, os.path.getsize(trace.path))
                                        or size[0]), "the end of the entries", every=0.5)
    equal("exit status", trace.stop(), 0)
    total, lost, unconnected = trace.totals()
    entries = parse(trace.text())
    complete = sum(entry.at("capture.complete") for entry in entries)
    test.note(f"{requests} requests by wrk, {total} entries, {complete} complete, {lost} lost")
    equal("entries", len(entries), total)
    equal("without a connection", unconnected, 0)
    check(total <= requests + 16, f"{total} entries of {requests} requests")
    if lost == 0:
        partial = [e for e in entries if not e.at("capture.complete")
                   and e.at("capture.reason") not in ("joined_late", "no_response")]
        equal("incomplete entries without a loss", partial, [])


@case("bpf", "curl")
def command_outlives_a_killed_tlstrace(test):
    """A command is not left stopped when tlstrace is killed at any moment of it."""
    server = PythonServer(test)
    for turn in range(1, 6):
        marker = test.path(f"through{turn}")
        script = (f"for i in 1 2 3 4 5 6; do curl -sk -o /dev/null {server.url('/k')} || exit 1; "
                  f"done; touch {marker}")
        trace = test.trace_early("sh", "-c", script, name=f"trace{turn}")
        until(lambda wanted=turn, t=trace: t.count() >= wanted or t.process.poll() is not None,
              "some entries", every=0.002)
        trace.stop(signal.SIGKILL)
        until(lambda path=marker: os.path.exists(path), "the end of the command")


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


@case("bpf", "nginx")
def nothing_stays_in_the_target(test):
    """After the last trace, no breakpoint is left in the libraries that nginx maps."""
    nginx = Nginx(test, workers=1)
    client = python_client(test, nginx.port)
    trace = test.trace("-p", nginx.workers[0])
    client.request("/1k")
    trace.finish(1)
    worker = nginx.workers[0]
    with open(f"/proc/{worker}/maps", encoding="utf-8") as maps:
        line = next(line for line in maps if "libssl" in line and " r-xp " in line)
    begin, end = (int(part, 16) for part in line.split()[0].split("-"))
    offset, path = int(line.split()[2], 16), line.split(maxsplit=5)[5].strip()
    with open(f"/proc/{worker}/mem", "rb") as memory, open(path, "rb") as file:
        memory.seek(begin)
        file.seek(offset)
        check(memory.read(end - begin) == file.read(end - begin),
              "libssl's code is not as in its file")
