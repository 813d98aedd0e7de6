# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 and gRPC of real programs, from a connection's start and joined in its middle."""

import dataclasses
import json
import shlex

from lib.case import case, check, equal
from lib.clients import curl, curl_command, h2_client, trace_both
from lib.entries import compare, headers_of
from lib.servers import Nghttpd, Nginx, NodeServer


@case("bpf", "nginx", "curl")
def curl_and_nginx(test):
    nginx = Nginx(test, workers=1, http2=True)
    trace = test.trace("-p", nginx.workers[0])
    test.write("body", b"u" * 30000)
    commands = [shlex.join(curl_command(*arguments, version="--http2")) for arguments in (
        (nginx.url("/1k?a=b"),), (nginx.url("/100k"),), (nginx.url("/nothing"),),
        ("--data-binary", f"@{test.path('body')}", nginx.url("/sink")), ("-I", nginx.url("/1k")))]
    entries = test.trace_early("sh", "-c", "\n".join(commands), name="client").finish_command()
    served = nginx.reports(len(commands))
    equal("versions", {report.version for report in served}, {"2.0"})
    served = [dataclasses.replace(report, version="2") for report in served]
    compare(trace.finish(len(commands)), served)
    compare(entries, [report.seen_by_peer("client", executable="curl") for report in served])


@case("bpf", "nginx", "curl")
def fields_as_curl_shows_them(test):
    nginx = Nginx(test, workers=1, http2=True)
    trace = test.trace("-p", nginx.workers[0])
    report = curl(test, "-H", "X-Some: thing", nginx.url("/1k"), version="--http2")
    entry, = trace.finish(1)
    # The line of the request has another version's name, and curl shows Host for :authority.
    sent = [pair for pair in report.request_headers if pair[0].lower() != "host"]
    equal("request's fields", entry.at("http.request.header"), headers_of(sent))
    equal("response's fields", entry.at("http.response.header"),
          headers_of(report.response_headers))


@case("bpf", "python-h2", "node")
def interleaved_streams(test):
    """Both ends, twenty requests at once, of several sizes; one is cancelled."""
    server = NodeServer(test, "node_h2_server.js")
    client = h2_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = client.requests(*(
        {"target": f"/size/{n * 9000}", "headers": [["x-n", str(n)]]} for n in range(10)))
    reports += client.requests(*(
        {"target": f"/echo/{n}", "method": "POST", "size": n * 1000} for n in range(10)))
    reports = [dataclasses.replace(report, pid=client.pid) for report in reports]
    entries = trace.finish(2 * len(reports))
    # Node may use its socket after the entry's time is over.
    compare(entries, reports + server.reports(len(reports)), addresses=False)


@case("bpf", "python-h2", "node")
def a_stream_that_is_reset(test):
    server = NodeServer(test, "node_h2_server.js")
    client = h2_client(test, server.port)
    trace = test.trace("-p", client.pid)
    client.reconnect()
    client.requests({"target": "/size/3000000", "cancel": True})
    client.requests({"target": "/after"})
    cancelled, after = trace.finish(2)
    equal("error.type", cancelled.at("error.type"), "rst_stream:CANCEL")
    equal("reason", cancelled.at("capture.reason"), "no_response")
    equal("status", cancelled.at("http.response.status_code"), 200)
    equal("complete", after.at("capture.complete"), True)


@case("bpf", "python-h2", "node")
def grpc(test):
    server = NodeServer(test, "node_h2_server.js")
    client = h2_client(test, server.port)
    trace = test.trace("-p", client.pid)
    client.reconnect()
    client.requests({"target": "/shop.Cart/Add", "method": "POST", "size": 0,
                     "headers": [["content-type", "application/grpc+proto"], ["te", "trailers"]]})
    entry, = trace.finish(1)
    equal("rpc", entry["rpc"], {
        "system": "grpc", "service": "shop.Cart", "method": "Add",
        "grpc": {"status_code": 5, "status_message": "not there", "request_messages": 0,
                 "response_messages": 2}})
    equal("trailer", entry.at("http.response.trailer"),
          {"grpc-status": ["5"], "grpc-message": ["not%20there"]})


SECRET = "Bearer of-a-connection-joined-late"


@case("bpf", "python-h2", "node")
def joined_in_the_middle(test):
    """What is shown is what was sent; a secret whose name is not known is redacted."""
    server = NodeServer(test, "node_h2_server.js")
    client = h2_client(test, server.port)
    constant = ["x-constant", "always the same"]

    def orders(first):
        return [{"target": f"/echo/{n}", "method": "POST", "size": 100 + n,
                 "headers": [constant, ["x-n", f"value-{n}"],
                             ["x-secret-name", f"{SECRET}-{n}"]]}
                for n in range(first, first + 4)]
    client.requests(*orders(0))
    trace = test.trace("-p", client.pid)
    reports = client.requests(*orders(4)) + client.requests(*orders(8))
    entries = trace.finish(len(reports))
    equal("entries", len(entries), len(reports))
    by_target = {report.target: report for report in reports}
    for entry in entries:
        report = by_target[entry.at("url.path")]
        equal("method", entry.at("http.request.method"), "POST")
        equal("status", entry.at("http.response.status_code"), 200)
        equal("sizes", [entry.at("http.request.body.size"), entry.at("http.response.body.size")],
              [report.request_size, report.response_size])
        equal("reason", entry.at("capture.reason"), "unknown_headers")
        check(entry.at("capture.unknown_headers") > 0, f"nothing is unknown in {entry}")
        sent = headers_of(report.request_headers)
        for name, values in entry.at("http.request.header").items():
            if name == "?":
                check(all(value.startswith("<redacted:") for value in values), f"{values}")
            elif name != "x-secret-name":
                equal(name, values, sent[name])
    check(SECRET not in json.dumps(entries), "a secret in the entries")


@case("bpf", "h2load")
def load_joined_in_the_middle(test):
    """h2load never sends its constant fields again; methods, paths and statuses are right."""
    server = Nghttpd(test)
    load = test.start(["/usr/bin/h2load", "-n", "100000000", "-c", "2", "-m", "5",
                       server.url("/1k")])
    trace = test.trace("-p", load.pid, "-n", "2000")
    equal("exit status", trace.process.wait(30), 0)
    entries = trace.entries()
    whole = [entry for entry in entries if entry.at("http.request") and
             entry.at("http.response")]
    check(len(whole) > 1000, f"{len(whole)} of {len(entries)} with request and response")
    for entry in whole:
        equal("what is known", [entry.at("http.request.method"), entry.at("url.path"),
                                entry.at("http.response.status_code"),
                                entry.at("http.response.body.size")], ["GET", "/1k", 200, 1024])
    load.stop()


@case("bpf", "h2load")
def load_from_its_start(test):
    server = Nghttpd(test)
    entries = test.trace_early("/usr/bin/h2load", "-n", "3000", "-c", "3", "-m", "10",
                               server.url("/1k")).finish_command()
    equal("entries", len(entries), 3000)
    for entry in entries:
        equal("what is known", [entry.at("http.request.method"), entry.at("url.path"),
                                entry.at("http.response.status_code"),
                                entry.at("http.response.body.size"),
                                entry.at("capture.complete")], ["GET", "/1k", 200, 1024, True])
