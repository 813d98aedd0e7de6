# SPDX-License-Identifier: BSD-2-Clause
"""Go's crypto/tls: targets/go as built by several versions of Go in several forms, and Debian's hey
and caddy, over HTTP/1 and HTTP/2.

A case is made for each program. What a program is asked on a connection that began before the
attach over HTTP/2 may need header fields from before: such an entry says so, and what it shows is
right nevertheless.
"""

import collections
import shutil
import subprocess

from cases.late_tables import join_again_and_again
from lib import golang
from lib.case import case, check, equal
from lib.clients import RawPeer
from lib.entries import compare, differences, headers_of
from lib.golang import Caddy, GoClient, GoServer
from lib.servers import own_copy
from lib.waiting import until

PROTOCOLS = ("http1", "http2")
CROWD = 8
LIMIT_SECONDS = 60


def _register(name, needs, function, *arguments):
    def run(test):
        function(test, *arguments)
    run.__module__, run.__name__ = function.__module__, name
    case("bpf", *needs, limit=LIMIT_SECONDS)(run)


def each_build(*needs):
    """Decorator: a case of each of golang.BUILDS."""
    def register(function):
        for version, form in golang.BUILDS:
            name = f"{function.__name__}_{version.replace('.', '_')}_{form}"
            _register(name, (f"go {version} {form}", *needs), function, version, form)
        return function
    return register


def each_load(*needs):
    """Decorator: a case of each of golang.LOADS and protocol, which is given both."""
    def register(function):
        for suite in golang.LOADS:
            for protocol in PROTOCOLS:
                _register(f"{function.__name__}_{suite}_{protocol}", (f"hey {suite}", *needs),
                          function, suite, protocol)
        return function
    return register


def _suite(_):
    """Stands for all cases with what this suite has."""


for _name in golang.UNWANTED:
    _register(f"suite_{_name}", (f"go-suite {_name}",), _suite)


def _program(test, version, form):
    """A copy that is this case's alone."""
    return own_copy(test, golang.program(version, form), "go-https")


def _orders(name):
    """Requests that differ in method and sizes, some larger than a TLS record or a frame."""
    return [{"target": f"/size/{size}?{name}={number}", "method": method, "size": sent}
            for number, (size, method, sent) in enumerate((
                (0, "GET", None), (300, "GET", None), (70000, "GET", None), (20, "POST", 10),
                (300, "PUT", 40000), (200000, "POST", 100000), (1, "DELETE", None)))]


def _crowd(name):
    """Requests that are under way at the same time."""
    return [{"target": f"/meet/{CROWD}?{name}={number}", "method": "POST", "size": 100 + number}
            for number in range(CROWD)]


def _one_after_another(client, orders):
    """Their Reports, HTTP/1: over one connection."""
    return [report for order in orders for report in client.requests(order)]


def _start_client(test, path, server, protocol):
    return GoClient(test.start(golang.client_command(path, server, protocol),
                               stdin=subprocess.PIPE), path)


@each_build()
def command(test, version, form):
    """The client is the command; its server is traced before it has a connection."""
    path = _program(test, version, form)
    for protocol in PROTOCOLS:
        server = GoServer(test, path)
        trace = test.trace("-p", server.pid, name=f"server-{protocol}")
        command_trace = test.trace_early(*golang.client_command(path, server, protocol),
                                         name=f"client-{protocol}", stdin=subprocess.PIPE)
        client = GoClient(command_trace.process, path)
        reports = _one_after_another(client, _orders("single")) + client.requests(*_crowd("all"))
        client.process.close_stdin()
        compare(command_trace.finish_command(), reports)
        compare(trace.finish(len(reports)), server.reports(len(reports)))


@each_build()
def binary(test, version, form):
    """-b before the program runs for the first time: both sides are it."""
    path = _program(test, version, form)
    trace = test.trace("-b", path)
    server = GoServer(test, path)
    reports = []
    for protocol in PROTOCOLS:
        client = _start_client(test, path, server, protocol)
        reports += _one_after_another(client, _orders("single")) + client.requests(*_crowd("all"))
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports)))


@each_build()
def attached(test, version, form):
    """-p while both run and have connections, which they then close: all that follows is whole."""
    path = _program(test, version, form)
    server = GoServer(test, path)
    clients = [_start_client(test, path, server, protocol) for protocol in PROTOCOLS]
    for client in clients:
        client.requests(*_crowd("before"))
    trace = test.trace("-p", ",".join(str(p.pid) for p in (server, *clients)))
    reports = []
    for client in clients:
        client.reconnect()
        reports += _one_after_another(client, _orders("single")) + client.requests(*_crowd("all"))
    entries = trace.finish(2 * len(reports))
    served = server.reports(len(reports) + CROWD * len(clients))
    compare(entries, reports + [report for report in served if "before" not in report.target])


@each_build("cookies")
def idle(test, version, form):
    """Keep-alive connections on which both sides wait inside Read when tlstrace comes."""
    path = _program(test, version, form)
    server = GoServer(test, path)
    client = _start_client(test, path, server, "http1")
    before = {tuple(report.local) for report in client.requests(*_crowd("before"))}
    equal("connections", len(before), CROWD)
    trace = test.trace("-p", f"{server.pid},{client.pid}")
    reports = client.requests(*_crowd("first")) + client.requests(*_crowd("second"))
    after = {tuple(report.local) for report in reports}
    check(after <= before, f"new connections: {after - before}")
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports) + CROWD)[CROWD:])


def _compare_known(entry, report):
    """An entry that need not be complete: what it shows must be right."""
    if entry.at("capture.complete"):
        wrong = differences(entry, report)
        check(not wrong, f"{report.target}: {wrong}")
        return
    equal("reason", entry.at("capture.reason"), "unknown_headers")
    known = {
        "http.request.method": report.method, "http.response.status_code": report.status,
        "http.request.body.size": report.request_size,
        "http.response.body.size": report.response_size}
    for path, want in known.items():
        check(entry.at(path) in (None, want), f"{path}: got {entry.at(path)}, want {want}")
    equal("local", entry.local(), list(report.local))
    equal("peer", entry.peer(), list(report.peer))
    for message, pairs in (("request", report.request_headers),
                           ("response", report.response_headers)):
        sent = headers_of(pairs)
        for name, values in (entry.at(f"http.{message}.header") or {}).items():
            # A field whose name is not known is shown without it.
            check(name == "?" or values == sent.get(name),
                  f"{report.target}: {name}: got {values}, want {sent.get(name)}")


@each_build("cookies")
def idle_http2(test, version, form):
    """The same over HTTP/2: what its header tables held before is not known."""
    path = _program(test, version, form)
    server = GoServer(test, path)
    client = _start_client(test, path, server, "http2")
    client.requests(*_crowd("before"))
    trace = test.trace("-p", f"{server.pid},{client.pid}")
    reports = _one_after_another(client, _orders("single")) + client.requests(*_crowd("all"))
    entries = trace.finish(2 * len(reports))
    equal("entries", len(entries), 2 * len(reports))
    expected = {(report.side, report.target): report for report in
                reports + server.reports(len(reports) + CROWD)[CROWD:]}
    for entry in entries:
        key = (entry["side"], entry.target())
        check(key in expected, f"of no request: {key}: {entry}")
        _compare_known(entry, expected.pop(key))


class _Asker:
    """What late_tables.LateClient is, in Go."""

    def __init__(self, client):
        self._client, self._count = client, 0

    def requests(self, count):
        orders = [{"target": f"/size/5?n={self._count + number}", "method": "GET"}
                  for number in range(count)]
        self._count += count
        return _one_after_another(self._client, orders)


@each_build("cookies", "bpf_loop")
def tables_of_http2(test, version, form):
    """Soon nothing is unknown any more of a connection that is older than the trace."""
    path = _program(test, version, form)
    server = GoServer(test, path)
    client = _start_client(test, path, server, "http2")
    join_again_and_again(test, _Asker(client), {"client": client.pid, "server": server.pid})


@each_build()
def buffers_on_moving_stacks(test, version, form):
    """Goroutines whose stack grows inside Read, with Read's buffer on it: server and client."""
    count = 100
    path = _program(test, version, form)
    server = GoServer(test, path, "raw-server")
    trace = test.trace("-p", server.pid, name="server")
    client_trace = test.trace_early(path, "raw-client", server.port, count, stdin=subprocess.PIPE,
                                    name="client")
    client_trace.process.wait_text("^ready")
    client_trace.process.send("\n")
    entries = client_trace.finish_command()
    server.process.wait_text("^.*moved")
    for text, side, of_side in ((client_trace.process.text(), "client", entries),
                                (server.process.text(), "server", trace.finish(count))):
        reports, moved = golang.raw_reports(text, side, path)
        equal("requests", len(reports), count)
        check(moved > 0, f"no buffer of the {side} was moved")
        compare(of_side, reports)


@case("bpf", "go 1.19 stripped")
def a_connection_that_closes_within_a_request(test):
    server = GoServer(test, _program(test, "1.19", "stripped"))
    trace = test.trace("-p", server.pid)
    # The first one's response comes after what the server sends of its own accord: what a client
    # leaves unread makes its close a reset, by which the server would lose what it has not read.
    RawPeer(test, [{"send": "GET /size/2 HTTP/1.1\r\nHost: h\r\n\r\n"}, {"until": "gg"},
                   {"send": "POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf"},
                   {"close": True}], port=server.port).done()
    first, half = trace.finish(2)
    compare([first], server.reports(1))
    equal("target", half.target(), "/half")
    equal("complete", half.at("capture.complete"), False)


@case("bpf", "go 1.19 stripped")
def rewritten_in_place(test):
    """Another program is written over a traced one, in the same file: its probes must not stay."""
    path = _program(test, "1.19", "stripped")
    trace = test.trace("-b", path)
    reports = []
    for form in ("plain", "pie"):
        server = GoServer(test, path)
        client = _start_client(test, path, server, "http1")
        reports += client.requests(*_crowd("all"))
        client.process.close_stdin()
        equal("client's status", client.process.wait(10), 0)
        reports += server.reports(CROWD)
        server.process.stop()
        shutil.copyfile(golang.program("1.19", form), path)
    compare(trace.finish(len(reports)), reports)


def _tally(things):
    return collections.Counter(
        (thing.side, thing.method, thing.target, thing.status, thing.response_size,
         tuple(thing.local), tuple(thing.peer), thing.version, thing.pid) for thing in things)


def _entry_tally(entries):
    return collections.Counter(
        (e["side"], e.at("http.request.method"), e.target(), e.at("http.response.status_code"),
         e.at("http.response.body.size"), tuple(e.local()), tuple(e.peer()),
         e.at("network.protocol.version"), e.at("process.pid")) for e in entries)


def _same(what, entries, reports):
    got, want = _entry_tally(entries), _tally(reports)
    check(got == want, f"{what}: too many {list((got - want).items())[:5]}, "
                       f"missing {list((want - got).items())[:5]}")


def _as_client(reports, pid):
    return [report.seen_by_peer("client", pid) for report in reports]


@each_load()
def load(test, suite, protocol):
    """hey as the command, caddy traced from before; caddy's log is the truth."""
    client, server_suite = golang.LOADS[suite]
    server = Caddy(test, server_suite)
    count = 400
    trace = test.trace("-p", server.pid, name="server")
    client_trace = test.trace_early(
        *golang.hey_command(client, protocol, "-n", count, "-c", CROWD, server.url("/load?x=1")),
        name="client")
    entries = client_trace.finish_command()
    served = trace.finish(count)
    # To see that it listens, the case connected; this is no request.
    reports = server.reports(count)
    equal("requests", len(reports), count)
    for side in (entries, served):
        equal("what is missing", collections.Counter(e.at("capture.reason") for e in side),
              {None: count})
        equal("libraries", {e.at("tls.library") for e in side}, {"go"})
    _same("caddy", served, reports)
    _same("hey", entries, _as_client(reports, entries[0].at("process.pid")))


def _of_log(entry, logged):
    """Whether what the entry shows of method, target, status and size is what caddy logged."""
    report = logged.get((entry["side"], tuple(entry.local()), tuple(entry.peer())))
    if not report:  # the addresses may be unknown, but not others
        return entry.at("capture.tuple") == "none" and not entry.at("capture.complete")
    return all(got in (None, want) for got, want in (
        (entry.at("http.request.method"), report.method), (entry.target(), report.target),
        (entry.at("http.response.status_code"), report.status),
        (entry.at("http.response.body.size"), report.response_size),
        (entry.at("process.pid"), report.pid), (entry["side"], report.side)))


@each_load("cookies")
def load_joined_in_the_middle(test, suite, protocol):
    """Attached to both under load: nothing is shown that was not. hey asks always for the same."""
    client, server_suite = golang.LOADS[suite]
    server = Caddy(test, server_suite)
    hey = test.start(golang.hey_command(client, protocol, "-z", "60s", "-q", "50", "-c", CROWD,
                                        server.url("/load?x=1")))
    until(lambda: len(server.lines()) > 2 * CROWD, "hey's first requests")
    trace = test.trace("-p", f"{server.pid},{hey.pid}", "-n", "1000")
    equal("exit status", trace.process.wait(30), 0)
    hey.stop()
    entries = trace.checked_entries()
    reports = server.reports(1)
    reports += _as_client(reports, hey.pid)
    logged = {(r.side, tuple(r.local), tuple(r.peer)): r for r in reports}
    wrong = [e for e in entries if not _of_log(e, logged)]
    check(not wrong, f"{len(wrong)} of {len(entries)} wrong: {wrong[:2]}")
    whole = [e for e in entries if e.at("http.response.status_code") and e.at("http.request")]
    check(len(whole) >= len(entries) - 2 * CROWD, f"{len(whole)} whole of {len(entries)}")
    reasons = collections.Counter(e.at("capture.reason") for e in whole)
    check(reasons["joined_late"] <= 2 * CROWD, f"what is missing: {reasons}")
    # What hey's fields are is in the tables of HTTP/2 from before.
    known = {None, "joined_late", *(["unknown_headers"] if protocol == "http2" else [])}
    check(set(reasons) <= known, f"what is missing: {reasons}")
