# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/1 as it occurs: body lengths, 1xx, Upgrade, CONNECT and proxies, large headers, and bytes
that are no HTTP at all."""

import json
import os
import shlex
import subprocess
import time

from lib.case import case, check, equal
from lib.clients import (RawPeer, curl, curl_command, curl_report, python_client,
                         s_client_command, trace_both)
from lib.entries import Report, compare, headers_of
from lib.servers import Nginx, PythonServer, SServer
from lib.test import PYTHON_NAME
from lib.waiting import free_port, listening, until


def _trace_played(test, client, *pids):
    """Traces a RawPeer that connects later, and `pids`, while it does its steps; the Trace.

    It connects after the attach: a server that is inside SSL_read when the probes come does not
    show what that call returns.
    """
    trace = test.trace("-p", ",".join(map(str, (client.pid, *pids))))
    client.go_on()
    equal("exit status of the client", client.done(), 0)
    return trace


LENGTHS = (0, 1, 8191, 8192, 8193, 16384, 16385, 1 << 20)


@case("bpf")
def body_lengths(test):
    """Both directions of both sides, around the sizes where copies and records end."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = []
    for length in LENGTHS:
        reports.append(client.request(f"/size/{length}"))
        reports.append(client.request(f"/echo/?{length}", "POST", length))
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports)))


@case("bpf", "curl")
def body_lengths_of_curl(test):
    server = PythonServer(test)
    lines = []
    for length in LENGTHS:
        test.write(f"body{length}", b"c" * length)
        lines.append(shlex.join(curl_command(server.url(f"/size/{length}"))))
        lines.append(shlex.join(curl_command(
            "-H", "Expect:", "--data-binary", f"@{test.path(f'body{length}')}",
            server.url(f"/echo?{length}"))))
    entries = test.trace_early("sh", "-c", "\n".join(lines)).finish_command()
    compare(entries, [r.seen_by_peer("client", executable="curl")
                      for r in server.reports(len(lines))])


@case("bpf", "nginx")
def body_lengths_sent_to_nginx(test):
    nginx = Nginx(test, workers=1)
    client = python_client(test, nginx.port)
    trace = test.trace("-p", nginx.workers[0])
    reports = [client.request("/sink", "POST", length) for length in LENGTHS]
    compare(trace.finish(len(reports)),
            [r.seen_by_peer("server", executable="nginx") for r in reports])


@case("bpf", "ipv6")
def ipv6(test):
    server = PythonServer(test, "::1")
    client = python_client(test, server.port, "::1")
    trace = trace_both(test, client, server)
    reports = [client.request("/six"), client.request("/size/20000")]
    entries = trace.finish(4)
    compare(entries, reports + server.reports(2))
    equal("server.address", entries[0].at("server.address"), "::1")
    equal("server.port", entries[0].at("server.port"), server.port)


@case("bpf", "curl")
def ipv4_client_of_a_dual_stack_socket(test):
    """An IPv6 socket that speaks to an IPv4 address: the entry shows IPv4."""
    server = PythonServer(test)
    script = ("import http.client, socket, ssl\n"
              "s = socket.socket(socket.AF_INET6)\n"
              f"s.connect(('::ffff:127.0.0.1', {server.port}))\n"
              "t = ssl._create_unverified_context().wrap_socket(s)\n"
              "t.sendall(b'GET /mapped HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n')\n"
              "while t.recv(4096): pass\n")
    entries = test.trace_early("/usr/bin/python3", "-c", script).finish_command()
    compare(entries, [r.seen_by_peer("client", executable=PYTHON_NAME)
                      for r in server.reports(1)])


@case("bpf", "curl")
def continue_100(test):
    server = PythonServer(test)
    command = curl_command("-H", "Expect: 100-continue", "-d", "z" * 3000, server.url("/continued"))
    trace = test.trace("-p", server.pid)
    client = test.trace_early(*command, name="client")
    client_entries = client.finish_command()
    report = curl_report(client.process.text(), client.stderr())
    equal("final status", report.status, 200)
    check("HTTP/1.1 100 Continue" in client.stderr(), "the server sent no 100")
    compare(client_entries, [report])
    compare(trace.finish(1), server.reports(1))


@case("bpf", "curl")
def early_hints_103(test):
    server = PythonServer(test)
    trace = test.trace("-p", server.pid)
    curl(test, server.url("/hints"))
    entries = trace.finish(1)
    compare(entries, server.reports(1))
    check("link" not in entries[0].at("http.response.header"), "a header of the 103")


@case("bpf")
def responses_without_a_body(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = [client.request("/size/5000", "HEAD"), client.request("/status/304"),
               client.request("/status/204"), client.request("/status/404"),
               client.request("/size/3"), client.request("/chunked/0")]
    compare(trace.finish(12), reports + server.reports(6))


@case("bpf")
def chunked_and_close_delimited(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = [client.request("/chunked/100000"), client.request("/until-close/70000")]
    client.reconnect()
    reports.append(client.request("/until-close/0"))
    entries = trace.finish(6)
    compare(entries, reports + server.reports(3))
    equal("trailers", [e.at("http.response.trailer") for e in entries
                       if e.at("url.path") == "/chunked/100000"], [{"x-check": ["done"]}] * 2)


@case("bpf", "curl")
def times(test):
    """A response after 300 ms: both times say so, and the entry's moment is the request's."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    begun = time.time()
    client.request("/delay/300")
    ended = time.time()
    for entry in trace.finish(2):
        check(295 <= entry["ttfb_ms"] <= (ended - begun) * 1000, f"ttfb_ms {entry['ttfb_ms']}")
        check(entry["duration_ms"] <= (ended - begun) * 1000, f"{entry['duration_ms']}")
        check(begun - 0.01 <= entry.when() <= ended - 0.29,
              f"{entry['timestamp']} is not within {begun} and {ended}")


@case("bpf", "curl")
def upgrade_101(test):
    """The 101 ends HTTP on its connection, even when what follows looks like it."""
    server = PythonServer(test)
    client = RawPeer(test, [
        {"send": "GET /upgrade HTTP/1.1\r\nHost: h\r\nUpgrade: lines\r\n"
                 "Connection: Upgrade\r\n\r\n"},
        {"until": "\r\n\r\n"}, {"send": "GET /no-request HTTP/1.1\r\n\r\n"},
        {"until": "/no-request HTTP/1.1\r\n\r\n"}, {"send": "binary \x00\xff\x01\n"},
        {"until": "\xff\x01\n"}], port=server.port, later=True)
    trace = _trace_played(test, client, server.pid)
    told = client.connected()
    server.reports(1)
    report = curl(test, server.url("/another-connection"))
    entries = trace.finish(3)
    served = server.reports(2)
    compare(entries, [served[0].seen_by_peer("client", client.pid, PYTHON_NAME), *served])
    equal("status", served[0].status, 101)
    equal("local", served[0].peer, told["local"])
    equal("report", report.status, 200)


def _proxy(test, *options):
    port = free_port()
    process = test.start_target("proxy.py", "127.0.0.1", port, *options)
    listening(port, process)
    return port, process


def _tunnel(process):
    return json.loads(process.wait_text(r"^\{.*\}$")[0])


@case("bpf", "curl")
def connect_through_a_plain_proxy(test):
    """CONNECT goes in clear, so there is one entry; its connection is the one to the proxy."""
    server = PythonServer(test)
    port, process = _proxy(test)
    trace = test.trace_early(*curl_command(
        "--noproxy", "", "--proxy", f"http://127.0.0.1:{port}", server.url("/tunnelled")))
    entries = trace.finish_command()
    report = curl_report(trace.process.text(), trace.stderr())
    report.local, report.peer = _tunnel(process)["client"], ["127.0.0.1", port]
    compare(entries, [report])
    equal("server", entries[0].at("server.port"), server.port)


@case("bpf", "curl")
def connect_through_an_https_proxy(test):
    """TLS in TLS: an entry for the CONNECT and one for what went through the tunnel."""
    server = PythonServer(test)
    port, process = _proxy(test, test.pki.certificate, test.pki.key)
    trace = test.trace_early(*curl_command(
        "--noproxy", "", "--proxy-insecure", "--proxy", f"https://127.0.0.1:{port}",
        "-d", "q" * 20000, server.url("/size/100000")))
    entries = trace.finish_command()
    report = curl_report(trace.process.text(), trace.stderr())
    report.local, report.peer = _tunnel(process)["client"], ["127.0.0.1", port]
    connects = [e for e in entries if e.at("http.request.method") == "CONNECT"]
    compare([e for e in entries if e not in connects], [report])
    _check_connect(connects, "client", server.port)
    equal("peer", connects[0].peer(), ["127.0.0.1", port])


def _check_connect(entries, side, destination_port):
    equal("CONNECT entries", len(entries), 1)
    entry = entries[0]
    equal("side", entry["side"], side)
    equal("status", entry.at("http.response.status_code"), 200)
    equal("complete", entry.at("capture.complete"), True)
    equal("server", [entry.at("server.address"), entry.at("server.port")],
          ["127.0.0.1", destination_port])


@case("bpf", "curl")
def https_proxy_itself(test):
    """The proxy's side: a CONNECT, then a tunnel whose bytes are no HTTP."""
    server = PythonServer(test)
    port, process = _proxy(test, test.pki.certificate, test.pki.key)
    trace = test.trace("-p", process.pid)
    curl(test, "--noproxy", "", "--proxy-insecure", "--proxy", f"https://127.0.0.1:{port}",
         server.url("/size/50000"))
    entries = trace.finish(1)
    _check_connect(entries, "server", server.port)
    equal("peer", entries[0].peer(), _tunnel(process)["client"])
    equal("headers", entries[0].at("http.response.header"), {"via": ["e2e"]})


@case("bpf")
def header_of_60_kilobytes(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server)
    reports = [client.request("/header/60000"),
               client.request("/sent", headers={"X-Long": "w" * 60000}),
               client.request("/small")]
    entries = trace.finish(6)
    compare(entries, reports + server.reports(3))


@case("bpf")
def header_in_many_calls(test):
    """A head that arrives a byte a call, and one split inside its line ends."""
    server = PythonServer(test)
    head = "GET /slow?a=1 HTTP/1.1\r\nHost: h\r\nX-Folded: one\r\nConnection: close\r\n\r\n"
    client = RawPeer(test, [*({"send": letter} for letter in head),
                            {"until": "\r\n\r\n"}], port=server.port, later=True)
    trace = _trace_played(test, client, server.pid)
    served = server.reports(1)
    compare(trace.finish(2), [*served, served[0].seen_by_peer("client", client.pid, PYTHON_NAME)])


@case("bpf")
def folded_header(test):
    """obs-fold (RFC 9112 5.2): the continuation belongs to the value before."""
    port = free_port()
    server = RawPeer(test, [
        {"until": "\r\n\r\n"},
        {"send": "HTTP/1.1 200 OK\r\nX-Folded: one\r\n  two\r\n\tthree\r\n"
                 "Content-Length: 2\r\n\r\nok"},
        {"line": True}], listen_port=port, name="srv")
    trace = test.trace("-p", server.pid)
    client = RawPeer(test, [{"send": "GET /fold HTTP/1.1\r\nHost: h\r\n\r\n"}, {"until": "ok"}],
                     port=port, name="cli")
    equal("client", client.done(), 0)
    entries = trace.finish(1)
    compare(entries, [Report("GET", "/fold", 200, 2, side="server")])
    folded = " ".join(entries[0].header("response", "x-folded")[0].split())
    equal("value", folded, "one two three")


def _many_headers(test, lines, line_size):
    """A request whose head has `lines` fields with values of `line_size` bytes."""
    port = free_port()
    server = RawPeer(test, [
        {"until": "\r\n\r\n"}, {"send": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {"until": "\r\n\r\n"}, {"send": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {"line": True}], listen_port=port, name="srv")
    head = "".join(f"X-{number}: {'v' * line_size}\r\n" for number in range(lines))
    client = RawPeer(test, [
        {"send": f"GET /many HTTP/1.1\r\nHost: h\r\n{head}\r\n"}, {"until": "ok"},
        {"send": "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"}, {"until": "ok"}],
        port=port, later=True, name="cli")
    trace = _trace_played(test, client, server.pid)
    entries = trace.finish(4)
    for entry in entries:
        equal("status", entry.at("http.response.status_code"), 200)
        if entry.at("url.path") == "/next":
            check(entry.at("capture.complete"), f"not complete: {entry}")
    return [entry for entry in entries if entry.at("url.path") == "/many"]


@case("bpf")
def five_thousand_header_lines(test):
    entries = _many_headers(test, 5000, 2)
    equal("entries", len(entries), 2)
    for entry in entries:
        headers = entry.at("http.request.header")
        if entry.at("capture.complete"):
            equal("headers", len(headers), 5001)
        else:
            equal("reason", entry.at("capture.reason"), "truncated")


@case("bpf")
def header_line_of_70_kilobytes(test):
    """Beyond the maximum: cut and said so, and the requests after it are whole."""
    entries = _many_headers(test, 1, 70000)
    equal("entries", len(entries), 2)
    for entry in entries:
        equal("complete", entry.at("capture.complete"), False)
        equal("reason", entry.at("capture.reason"), "truncated")


@case("bpf", "openssl")
def bytes_that_are_not_http(test):
    """A TLS session of Redis: no entry, no crash, and the next HTTP connection is logged."""
    server = SServer(test)
    trace = test.trace("-p", server.pid)
    client = test.start(s_client_command(server.port), stdin=subprocess.PIPE, name="s_client")
    for number in range(50):
        client.send(f"*2\r\n$4\r\nECHO\r\n${len(str(number))}\r\n{number}\r\n")
    server.process.wait_text(r"ECHO\r?\n\$2\r?\n49")
    for number in range(50):
        server.process.send(f"+PONG {number}\r\n")
    client.wait_text("PONG 49")
    client.stop()
    http = test.start(s_client_command(server.port), stdin=subprocess.PIPE, name="s_client")
    http.send("GET /http HTTP/1.1\r\nHost: h\r\n\r\n")
    server.process.wait_text("GET /http")
    server.process.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    http.wait_text("Content-Length")
    entries = trace.finish(1)
    equal("paths", [e.at("url.path") for e in entries], ["/http"])


@case("bpf")
def binary_bytes_in_both_directions(test):
    """Bytes of every value, as PostgreSQL's and others' protocols send them."""
    port = free_port()
    noise = "".join(map(chr, range(256)))
    server = RawPeer(test, [{"read": 256 * 400}, {"send": noise, "times": 400}],
                     listen_port=port, name="srv")
    client = RawPeer(test, [{"send": noise, "times": 400}, {"read": 256 * 400}],
                     port=port, later=True, name="cli")
    trace = _trace_played(test, client, server.pid)
    equal("exit status", trace.process.wait(10), 0)
    equal("entries", trace.checked_entries(), [])


@case("bpf", "openssl")
def early_data(test):
    """A request in TLS 1.3 early data, seen on both sides."""
    session = test.path("session.pem")
    server = SServer(test, "-tls1_3", "-early_data", "-no_anti_replay")
    first = test.start(s_client_command(server.port, "-tls1_3", "-sess_out", session),
                       stdin=subprocess.PIPE, name="s_client")
    first.send("PING\n")
    server.process.wait_text("PING")
    server.process.send("PONG\n")
    first.wait_text("PONG")
    until(lambda: os.path.exists(session) and os.path.getsize(session), "a session ticket")
    first.stop()
    request = test.write("early", "GET /early?data HTTP/1.1\r\nHost: h\r\n\r\n")
    trace = test.trace("-p", server.pid)
    client = test.trace_early(
        *s_client_command(server.port, "-tls1_3", "-sess_in", session, "-early_data", request),
        stdin=subprocess.PIPE, name="client")
    server.process.wait_text("GET /early")
    server.process.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
    client.process.wait_text("^early")
    server_entries = trace.finish(1)
    client.wait_entries(1)
    client.process.close_stdin()
    server.process.stop()
    client.process.wait()
    client_entries = client.checked_entries()
    for side, entries in (("server", server_entries), ("client", client_entries)):
        compare(entries, [Report("GET", "/early?data", 200, 5, side=side, executable="openssl",
                                 request_headers=[["Host", "h"]])])


@case("bpf", "nginx")
def pipelined_to_nginx(test):
    """Eight requests in one record; nginx answers in their order."""
    nginx = Nginx(test, workers=1)
    count = 8
    requests = "".join(f"GET /1k?{n} HTTP/1.1\r\nHost: h\r\n\r\n" for n in range(count))
    client = RawPeer(test, [{"send": requests},
                            *({"until": "\r\n\r\n" + "f" * 1024} for _ in range(count))],
                     port=nginx.port, later=True)
    trace = _trace_played(test, client, nginx.workers[0])
    served = nginx.reports(count)
    compare(trace.finish(2 * count),
            served + [r.seen_by_peer("client", client.pid, PYTHON_NAME) for r in served])


@case("bpf")
def response_before_the_request_is_whole(test):
    """A server that answers and goes on reading: HTTP allows it."""
    port = free_port()
    server = RawPeer(test, [
        {"until": "\r\n\r\n"}, {"send": "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"},
        {"read": 10000}, {"until": "\r\n\r\n"},
        {"send": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"}, {"line": True}],
        listen_port=port, name="srv")
    client = RawPeer(test, [
        {"send": "POST /big HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n"}, {"until": "no"},
        {"send": "b", "times": 10000}, {"send": "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"until": "yes"}], port=port, name="cli", later=True)
    trace = _trace_played(test, client, server.pid)
    told = client.connected()
    reports = [Report("POST", "/big", 413, 2, 10000, side="client", local=told["local"]),
               Report("GET", "/ok", 200, 3, side="client", local=told["local"])]
    compare(trace.finish(4), reports + [r.seen_by_peer("server", server.pid) for r in reports])


@case("bpf")
def repeated_headers_keep_their_order(test):
    server = PythonServer(test)
    head = ("GET /repeated HTTP/1.1\r\nhost: h\r\nX-A: 1\r\nx-b:  spaced \r\nX-a: 2\r\n"
            "Connection: close\r\n\r\n")
    client = RawPeer(test, [{"send": head}, {"until": "\r\n\r\n"}], port=server.port, later=True)
    trace = _trace_played(test, client)
    equal("exit status", trace.process.wait(10), 0)
    equal("headers", trace.checked_entries()[0].at("http.request.header"), headers_of(
        [("host", "h"), ("x-a", "1"), ("x-b", "spaced"), ("x-a", "2"), ("connection", "close")]))


@case("bpf")
def bytes_that_are_not_utf_8(test):
    """They appear as U+FFFD, control characters are escaped, and the line stays valid JSON."""
    server = PythonServer(test)
    head = ("GET /\xff\xfe\"\\ HTTP/1.1\r\nHost: h\r\nX-Bytes: a\x80b\x01\"c\r\n"
            "Connection: close\r\n\r\n")
    client = RawPeer(test, [{"send": head}, {"until": "\r\n\r\n"}], port=server.port, later=True)
    trace = _trace_played(test, client)
    trace.process.wait(10)
    entries = trace.checked_entries()
    equal("entries", len(entries), 1)
    equal("path", entries[0].at("url.path"), "/\ufffd\ufffd\"\\")
    equal("header", entries[0].header("request", "x-bytes"), ["a\ufffdb\x01\"c"])
