# SPDX-License-Identifier: BSD-2-Clause
"""Real servers: what each one's requests look like in the log, compared with its own."""

import itertools

from lib.case import case, check, equal
from lib.clients import curl, node_client, python_client, trace_both
from lib.entries import compare
from lib.servers import Nginx, NodeServer, PythonServer
from lib.test import PYTHON_NAME


def _workers(nginx):
    return ",".join(map(str, nginx.workers))


def _same_connections(entries, nginx_lines):
    """Entries are grouped into connections just as nginx groups its requests."""
    by_entry, by_nginx = {}, {}
    for entry in entries:
        by_entry.setdefault(entry.at("network.peer.port"), []).append(entry.target())
    for line in nginx_lines:
        by_nginx.setdefault(line["remote"][1], []).append(line["target"])
    equal("requests by connection", by_entry, by_nginx)


@case("bpf", "nginx", "curl")
def nginx_files(test):
    """Bodies of 1 KB, 100 KB and 10 MB, HEAD, 304, 404 and a discarded POST, by curls."""
    nginx = Nginx(test)
    trace = test.trace("-p", _workers(nginx))
    etag = dict(curl(test, nginx.url("/1k?first=1")).response_headers)["ETag"]
    reports = [
        curl(test, nginx.url("/100k")), curl(test, nginx.url("/10m")),
        curl(test, "-I", nginx.url("/10m")), curl(test, nginx.url("/missing")),
        curl(test, "-H", f"If-None-Match: {etag}", nginx.url("/1k")),
        curl(test, "-d", "x" * 5000, nginx.url("/sink")),
        curl(test, "-r", "0-99", nginx.url("/100k?range")),
    ]
    equal("statuses", [r.status for r in reports], [200, 200, 200, 404, 304, 200, 206])
    entries = trace.finish(len(reports) + 1)
    compare(entries, nginx.reports(len(reports) + 1))
    compare([entry for entry in entries if entry.at("url.query") != "first=1"],
            [report.seen_by_peer("server", executable="nginx") for report in reports])
    check(set(e.at("process.pid") for e in entries) <= set(nginx.workers), "a pid of no worker")


@case("bpf", "nginx")
def nginx_keep_alive(test):
    nginx = Nginx(test)
    trace = test.trace("-p", _workers(nginx))
    clients = [python_client(test, nginx.port) for _ in range(4)]
    reports = [client.request(f"/1k?client={number}&round={turn}")
               for turn, (number, client) in itertools.product(range(10), enumerate(clients))]
    reports += [clients[0].request("/1k", "HEAD"), clients[0].request("/sink", "POST", 40000)]
    entries = trace.finish(len(reports))
    compare(entries, [report.seen_by_peer("server", executable="nginx") for report in reports])
    compare(entries, nginx.reports(len(reports)))
    _same_connections(entries, nginx.lines(len(reports)))


@case("bpf", "nginx")
def nginx_with_an_upstream_over_tls(test):
    """nginx is a server and a client at once: one trace shows both sides of each request."""
    upstream = PythonServer(test)
    nginx = Nginx(test, upstream=upstream.port)
    client = python_client(test, nginx.port)
    trace = test.trace("-p", _workers(nginx))
    reports = [client.request("/upstream/size/100000"), client.request("/upstream/echo?x=y",
                                                                       "POST", 30000),
               client.request("/upstream/chunked/5000"), client.request("/upstream/status/404")]
    count = len(reports)
    entries = trace.finish(2 * count)
    downstream = [entry for entry in entries if entry["side"] == "server"]
    onward = [entry for entry in entries if entry["side"] == "client"]
    compare(downstream, [r.seen_by_peer("server", executable="nginx") for r in reports])
    compare(onward, [report.seen_by_peer("client", executable="nginx")
                     for report in upstream.reports(count)])
    for before, after in zip(downstream, onward):
        equal("process of both sides", after.at("process.pid"), before.at("process.pid"))


@case("bpf", "nginx")
def nginx_over_ipv6(test):
    nginx = Nginx(test)
    client = python_client(test, nginx.port, "::1")
    trace = test.trace("-p", _workers(nginx))
    reports = [client.request("/1k?v=6"), client.request("/100k")]
    entries = trace.finish(2)
    compare(entries, [report.seen_by_peer("server", executable="nginx") for report in reports])
    equal("address", entries[0].at("network.local.address"), "::1")


@case("bpf", "nginx")
def nginx_upstream_connections_closed_each_time(test):
    """nginx closes every upstream connection: objects come and go at the same addresses."""
    upstream = PythonServer(test)
    nginx = Nginx(test, workers=1, upstream=upstream.port)
    client = python_client(test, nginx.port)
    trace = test.trace("-p", _workers(nginx))
    for number in range(30):
        client.request(f"/upstream/n/{number}")
    onward = [entry for entry in trace.finish(60) if entry["side"] == "client"]
    compare(onward, [report.seen_by_peer("client", executable="nginx")
                     for report in upstream.reports(30)])


@case("bpf", "curl")
def python_server_with_threads(test):
    server = PythonServer(test)
    trace = test.trace("-p", server.pid)
    client = python_client(test, server.port)
    reports = client.requests_in_threads(6, 10)
    entries = trace.finish(len(reports))
    compare(entries, server.reports(len(reports)))
    compare(entries, [report.seen_by_peer("server", executable=PYTHON_NAME)
                      for report in reports])


@case("bpf")
def both_sides_in_one_trace(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = [client.request(f"/both/{number}") for number in range(5)]
    compare(trace.finish(10), reports + server.reports(5))


@case("bpf", "node")
def node_server(test):
    server = NodeServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", server.pid)
    reports = [client.request("/a"), client.request("/size/50000"),
               client.request("/echo", "PUT", 8192)]
    entries = trace.finish(len(reports))
    compare(entries, server.reports(len(reports)), addresses=False)


@case("bpf", "node")
def node_client_of_a_python_server(test):
    server = PythonServer(test)
    client = node_client(test, server.port)
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    reports = [client.request(f"/size/{size}") for size in (0, 1, 16385)]
    entries = trace.finish(2 * len(reports))
    compare([e for e in entries if e["side"] == "client"], reports, addresses=False)
    compare([e for e in entries if e["side"] == "server"], server.reports(len(reports)))
