# SPDX-License-Identifier: BSD-2-Clause
"""Real clients: what each one's requests look like in the log, and on which connection."""

import json
import shlex
import subprocess

from lib.case import case, check, equal
from lib.clients import (curl_command, curl_report, node_client, python_client,
                         s_client_command)
from lib.entries import Report, compare
from lib.servers import NodeServer, PythonServer, SServer
from lib.test import PYTHON_NAME


@case("bpf", "curl")
def curl_in_command_mode(test):
    server = PythonServer(test)
    trace = test.trace_early(*curl_command(server.url("/size/1234?page=2&sort=up")))
    entries = trace.finish_command()
    report = curl_report(trace.process.text(), trace.stderr())
    compare(entries, [report])
    served = server.reports(1)[0]
    compare(entries, [served.seen_by_peer("client", executable="curl")])
    equal("executable", entries[0].at("process.executable.path"), "/usr/bin/curl")
    equal("tls.library", entries[0].at("tls.library"), "openssl")
    check(entries[0].at("process.pid") != trace.pid, "the pid is tlstrace's own")
    equal("server", [entries[0].at("server.address"), entries[0].at("server.port")],
          ["127.0.0.1", server.port])


@case("bpf", "curl")
def curl_started_by_a_shell(test):
    server = PythonServer(test)
    command = curl_command("-H", "X-Mark: one", "-d", "x=1", server.url("/echo"))
    trace = test.trace_early("sh", "-c", 'echo pid=$$; exec "$@"', "sh", *command)
    entries = trace.finish_command()
    pid = int(trace.process.wait_text(r"^pid=(\d+)")[1])
    compare(entries, [curl_report(trace.process.text(), trace.stderr(), pid)])
    equal("method", entries[0].at("http.request.method"), "POST")
    equal("header", entries[0].header("request", "x-mark"), ["one"])


@case("bpf", "curl")
def curl_methods(test):
    """Every method, each by a curl of its own, all descendants of one command."""
    server = PythonServer(test)
    lines = [shlex.join(curl_command("-X", method, server.url("/m")))
             for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")]
    lines.append(shlex.join(curl_command("-I", server.url("/size/5000"))))
    entries = test.trace_early("sh", "-c", "\n".join(lines)).finish_command()
    compare(entries, [report.seen_by_peer("client", executable="curl")
                      for report in server.reports(len(lines))])


@case("bpf", "curl", limit=90)
def two_hundred_short_lived_curls(test):
    server = PythonServer(test)
    script = (f"i=0; while [ $i -lt 200 ]; do curl -sk -o /dev/null {server.url('/n/$i')} "
              "|| exit 9; i=$((i+1)); done")
    entries = test.trace_early("sh", "-c", script).finish_command(timeout=80)
    equal("entries", len(entries), 200)
    compare(entries, [report.seen_by_peer("client", executable="curl")
                      for report in server.reports(200)])
    equal("different processes", len({entry.at("process.pid") for entry in entries}), 200)


@case("bpf")
def python_keep_alive_session(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    reports = [
        client.request("/a?x=1"),
        client.request("/echo", "POST", 300, headers={"X-Two": "second", "Accept": "text/plain"}),
        client.request("/size/70000"),
        client.request("/size/10", "HEAD"),
        client.request("/status/204", "DELETE"),
    ]
    client.reconnect()
    reports.append(client.request("/after-reconnect"))
    compare(trace.finish(len(reports)), reports)
    check(reports[0].local != reports[-1].local, "the same port after a reconnect")


@case("bpf")
def python_in_command_mode(test):
    """The probes are there before a library that only dlopen brings: _ssl's libssl."""
    server = PythonServer(test)
    script = ("import http.client, ssl\n"
              f"c = http.client.HTTPSConnection('localhost', {server.port}, "
              "context=ssl._create_unverified_context())\n"
              "for i in range(3):\n"
              "    c.request('GET', f'/{i}'); c.getresponse().read()\n")
    entries = test.trace_early("/usr/bin/python3", "-c", script).finish_command()
    compare(entries, [report.seen_by_peer("client", executable=PYTHON_NAME)
                      for report in server.reports(3)])
    equal("server", entries[0].at("server.address"), "localhost")


@case("bpf")
def threads_with_their_own_connections(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    reports = client.requests_in_threads(8, 20)
    compare(trace.finish(len(reports)), reports)


def _s_client_entries(test, server, requests):
    """What a traced openssl s_client that sends `requests` leaves in the log."""
    with open(test.write("requests", requests), "rb") as source:
        trace = test.trace_early(*s_client_command(server.port), stdin=source)
        return trace.finish_command()


@case("bpf", "openssl")
def s_client_pipelined(test):
    server = PythonServer(test)
    requests = "".join(
        f"GET /size/{size} HTTP/1.1\r\nHost: pipe.example\r\nX-Number: {size}\r\n\r\n"
        for size in (10, 20, 30, 40)) + "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    entries = _s_client_entries(test, server, requests)
    compare(entries, [report.seen_by_peer("client", executable="openssl")
                      for report in server.reports(5)])
    equal("order", [entry.at("url.path") for entry in entries],
          ["/size/10", "/size/20", "/size/30", "/size/40", "/last"])
    equal("connections", len({entry.at("network.local.port") for entry in entries}), 1)


@case("bpf", "openssl")
def s_client_chunked_with_trailers(test):
    """A chunked request; the response is chunked with extensions and a trailer."""
    server = PythonServer(test)
    entries = _s_client_entries(test, server, (
        "POST /chunked/2500 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        "Trailer: X-Sum\r\nConnection: close\r\n\r\n"
        "5\r\nhello\r\n1A;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-Sum: 31\r\n\r\n"))
    served = server.reports(1)[0]
    equal("request body as served", served.request_size, 31)
    compare(entries, [served.seen_by_peer("client", executable="openssl")])
    equal("trailer", entries[0].at("http.response.trailer"), {"x-check": ["done"]})


@case("bpf", "openssl")
def s_client_bare_line_feeds(test):
    server = PythonServer(test)
    entries = _s_client_entries(
        test, server, "GET /lf?a=b HTTP/1.1\nHost: lf.example\nConnection: close\n\n")
    compare(entries, [report.seen_by_peer("client", executable="openssl")
                      for report in server.reports(1)])
    equal("server", [entries[0].at("server.address"), entries[0].at("server.port")],
          ["lf.example", 443])


@case("bpf", "openssl")
def s_client_http_1_0(test):
    server = PythonServer(test)
    entries = _s_client_entries(
        test, server, "GET /until-close/3000 HTTP/1.0\r\nHost: old\r\n\r\n")
    equal("entries", len(entries), 1)
    equal("path", entries[0].at("url.path"), "/until-close/3000")
    equal("size", entries[0].at("http.response.body.size"), 3000)
    equal("complete", entries[0].at("capture.complete"), True)


@case("bpf", "openssl")
def s_client_and_s_server(test):
    """Both ends are openssl's own programs, both traced."""
    server = SServer(test, "-naccept", "1")
    trace = test.trace("-p", server.pid)
    client = test.start(s_client_command(server.port), stdin=subprocess.PIPE, name="s_client")
    client.send("GET /plain HTTP/1.1\r\nHost: h\r\n\r\n")
    server.process.wait_text("GET /plain HTTP/1.1\r?\n(.*\n)*\r?\n")
    server.process.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Who: s_server\r\n\r\nbody")
    client.wait_text("body")
    entries = trace.finish(1)
    compare(entries, [Report("GET", "/plain", 200, 4, side="server", pid=server.pid,
                             executable="openssl",
                             request_headers=[["Host", "h"]],
                             response_headers=[["Content-Length", "4"], ["X-Who", "s_server"]])])
    equal("local port", entries[0].at("network.local.port"), server.port)


@case("bpf", "node")
def node_client_and_server(test):
    """OpenSSL inside the executable, memory BIOs: the addresses may be absent, never wrong."""
    server = NodeServer(test)
    client = node_client(test, server.port)
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    reports = [client.request("/a?b=c"), client.request("/echo", "POST", 20000),
               client.request("/size/100000"), client.request("/size/77", "HEAD")]
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports)), addresses=False)


@case("bpf", "node")
def node_in_command_mode(test):
    server = PythonServer(test)
    script = (f"require('https').get({{host: '127.0.0.1', port: {server.port}, path: '/n', "
              "rejectUnauthorized: false}, (r) => r.resume());")
    entries = test.trace_early("/usr/bin/node", "-e", script).finish_command()
    compare(entries, [report.seen_by_peer("client", executable="node")
                      for report in server.reports(1)], addresses=False)


def _tls_client(test, binary, mode, buffer_size, *targets):
    """tests/e2e/targets/tls_client.c in command mode, its entries compared with both reports."""
    server = PythonServer(test)
    command = [f"{test.shared}/{binary}", "127.0.0.1", server.port, mode, buffer_size, *targets]
    trace = test.trace_early(*command)
    entries = trace.finish_command()
    reports = [Report(side="client", executable=binary, **json.loads(line))
               for line in trace.process.text().splitlines()]
    equal("requests made", len(reports), len(targets))
    compare(entries, reports)
    compare(entries, [report.seen_by_peer("client") for report in server.reports(len(targets))])


SIZES = ("/size/0", "/size/1", "/size/8191", "/size/8192", "/size/8193", "/size/70000")


@case("bpf", "tls_client")
def classic_calls(test):
    _tls_client(test, "tls_client", "classic", 8192, *SIZES)


@case("bpf", "tls_client")
def classic_calls_with_small_buffers(test):
    _tls_client(test, "tls_client", "classic", 1, "/size/3", "/size/700")


@case("bpf", "tls_client")
def ex_calls(test):
    _tls_client(test, "tls_client", "ex", 16384, *SIZES)


@case("bpf", "tls_client")
def peeked_bytes_count_once(test):
    _tls_client(test, "tls_client", "peek", 4096, *SIZES)


@case("bpf", "tls_client")
def cleared_objects_are_new_connections(test):
    _tls_client(test, "tls_client", "clear", 4096, *SIZES)


@case("bpf", "tls_client")
def freed_objects_are_new_connections(test):
    _tls_client(test, "tls_client", "renewed", 4096, *SIZES)


@case("bpf", "tls_client")
def retried_calls_count_once(test):
    _tls_client(test, "tls_client", "nonblocking", 100000, *SIZES, "/delay/50", "/size/1000000")


@case("bpf", "tls_client_static")
def tls_inside_the_executable(test):
    _tls_client(test, "tls_client_static", "classic", 8192, *SIZES)


@case("bpf", "tls_client_static")
def tls_inside_the_executable_ex(test):
    _tls_client(test, "tls_client_static", "ex", 8192, *SIZES)
