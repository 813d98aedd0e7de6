# SPDX-License-Identifier: BSD-2-Clause
"""What lasts: WebSockets, server-sent events, tunnels that are cut, gRPC of a real library; and the
lines that tell of it while it goes on."""

import os
import pty
import re
import signal
import subprocess

from lib.case import case, check, equal
from lib.clients import CURL, KeepAliveClient, curl_command, h2_client, trace_both
from lib.entries import compare, parse
from lib.servers import Nginx, NodeServer, own_copy
from lib.test import HERE, PYTHON_NAME
from lib.waiting import free_port, until

# A line of what goes on, without its time.
GOES_ON = re.compile(r"^\S+ \S+ -> \S+ GET \S+ 200 \.\.\. \.\.\. HTTP/\S+ \[sse: ttfb \S+\]$",
                     re.MULTILINE)
ENDED = re.compile(r"^\S+ \S+ -> \S+ GET \S+ !?200 \d+B \S+ HTTP/\S+ \[sse: ttfb \S+\]",
                   re.MULTILINE)


class StreamServer:
    """targets/stream_server.py, or another that says that it listens and takes the same words."""

    def __init__(self, test, script="stream_server.py"):
        self.port = free_port()
        self.process = test.start_target(script, test.pki.certificate, test.pki.key, self.port)
        self.process.wait_text("^listening")

    @property
    def pid(self):
        return self.process.pid

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"


def _websocket_client(test, server):
    process = test.start_target("websocket_client.py", server.url("/websocket"),
                                stdin=subprocess.PIPE)
    return KeepAliveClient(process, PYTHON_NAME, r"^\{")


def _check_websocket(entry, told, complete=True):
    equal("marks", (entry.at("http.upgrade"), entry.at("http.stream")), ("websocket", "websocket"))
    equal("status", entry.at("http.response.status_code"), 101)
    equal("sizes", (entry.at("http.request.body.size"), entry.at("http.response.body.size")),
          (told["sent"], told["received"]))
    equal("complete", entry.at("capture.complete"), complete)
    equal("error", entry.at("error.type"), None)


@case("bpf", "aiohttp")
def websocket(test):
    """Both ends, frames of all lengths: an entry at the end, with what was carried each way."""
    server = StreamServer(test)
    client = _websocket_client(test, server)
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    client.tell({"open": True})
    for size in (1, 125, 126, 40000, 70000):
        client.tell({"messages": 20, "size": size})
    equal("entries while it is open", trace.entries(), [])
    told = client.tell({"close": True})
    entries = trace.finish(2)
    equal("sides", sorted(e["side"] for e in entries), ["client", "server"])
    for entry in entries:
        _check_websocket(entry, told)
        check(entry["ttfb_ms"] < entry["duration_ms"], f"{entry}")


@case("bpf", "aiohttp")
def websocket_whose_client_is_killed(test):
    """The probes leave out what follows an Upgrade; what they left out is counted all the same."""
    server = StreamServer(test)
    client = _websocket_client(test, server)
    trace = test.trace("-p", client.pid)
    client.tell({"open": True})
    client.tell({"messages": 1, "size": 10})
    told = client.tell({"messages": 500, "size": 300})
    client.process.send_signal(signal.SIGKILL)
    equal("exit status", trace.process.wait(), 0)
    entry, = trace.checked_entries()
    _check_websocket(entry, told)


@case("bpf", "aiohttp")
def websocket_at_the_end_of_the_trace(test):
    server = StreamServer(test)
    client = _websocket_client(test, server)
    recording = test.path("recording")
    trace = test.trace("-w", recording, "-p", f"{client.pid},{server.pid}")
    client.tell({"open": True})
    told = client.tell({"messages": 500, "size": 300})
    entries = trace.finish()
    equal("sides", sorted(e["side"] for e in entries), ["client", "server"])
    for entry in entries:
        _check_websocket(entry, told, complete=False)
        equal("reason", entry.at("capture.reason"), "no_response")
        equal("duration", entry.at("duration_ms"), None)
    replay = test.tlstrace("-r", recording, "-f", "json")
    equal("replay", replay.text(), trace.text())


@case("bpf", "python-h2", "node")
def websocket_over_http2(test):
    """Extended CONNECT (RFC 8441), both ends."""
    server = NodeServer(test, "node_h2_server.js")
    client = h2_client(test, server.port)
    trace = trace_both(test, client, server)
    client.requests({"target": "/chat", "method": "CONNECT", "protocol": "websocket",
                     "size": 50000})
    entries = trace.finish(2)
    equal("sides", sorted(e["side"] for e in entries), ["client", "server"])
    for entry in entries:
        equal("entry", [entry.at(path) for path in (
            "http.request.method", "http.upgrade", "http.stream", "url.path",
            "http.response.status_code", "http.request.body.size", "http.response.body.size",
            "capture.complete")],
            ["CONNECT", "websocket", "websocket", "/chat", 200, 50000, 50000, True])


def _check_events(entries, method, count, version):
    equal("sides", sorted(e["side"] for e in entries), ["client", "server"])
    for entry in entries:
        equal("entry", [entry.at(path) for path in (
            "http.request.method", "http.stream", "http.response.status_code",
            "http.response.body.size", "network.protocol.version", "capture.complete")],
            [method, "sse", 200, 9 * count, version, True])
        # The first event is there at once, the others come 60 ms apart.
        check(entry["duration_ms"] >= 50 * count, f"duration_ms {entry['duration_ms']}")
        check(entry["ttfb_ms"] <= entry["duration_ms"] / 2, f"ttfb_ms {entry['ttfb_ms']}")


@case("bpf", "aiohttp", "curl")
def events_in_chunks(test):
    """As language models answer: a POST, and a stream of events."""
    server = StreamServer(test)
    trace = test.trace("-p", server.pid)
    command = curl_command("-N", "-d", "{}", server.url("/events/20/60"))
    client = test.trace_early(*command, name="client").finish_command()
    _check_events(client + trace.finish(1), "POST", 20, "1.1")


@case("bpf", "node", "curl")
def events_over_http2(test):
    server = NodeServer(test, "node_h2_server.js")
    trace = test.trace("-p", server.pid)
    command = curl_command("-N", server.url("/events/20/60"), version="--http2")
    client = test.trace_early(*command, name="client").finish_command()
    _check_events(client + trace.finish(1), "GET", 20, "2")


def _endless(curl, server, version="--http1.1"):
    return [curl, "-skN", version, "-o", "/dev/null", server.url("/events/1000000/20")]


def _lines_of_what_goes_on(test, server, version):
    """-H into a pipe: a block while it goes on, one at its end, and one request in the totals."""
    recording, curl = test.path("recording"), own_copy(test, CURL)
    process = test.start([test.program, "-H", "-w", recording, "-n", "1", "-b", curl])
    process.wait_text("^tlstrace: ready", "stderr")
    client = test.start(_endless(curl, server, version))
    process.wait_text(GOES_ON.pattern)
    process.wait_text(r"^< (?i:content-type): text/event-stream")
    check(not ENDED.search(process.text()), "an entry of what goes on")
    client.send_signal(signal.SIGTERM)
    equal("exit status", process.wait(), 0)
    text = process.text()
    equal("lines", (len(GOES_ON.findall(text)), len(ENDED.findall(text))), (1, 1))
    equal("heads", len(re.findall(r"^> GET ", text, re.MULTILINE)), 2)
    check("tlstrace: 1 requests, " in process.text("stderr"), process.text("stderr"))
    replay = test.tlstrace("-r", recording, "-H")
    equal("replay", replay.text(), text)
    replay = test.tlstrace("-r", recording, "-f", "json")
    equal("objects", len(parse(replay.text())), 1)
    plain = test.tlstrace("-r", recording)
    check(not GOES_ON.search(plain.text()), f"in a file, without -H: {plain.text()}")


@case("bpf", "aiohttp", "curl")
def lines_of_what_goes_on(test):
    _lines_of_what_goes_on(test, StreamServer(test), "--http1.1")


@case("bpf", "node", "curl")
def lines_of_what_goes_on_over_http2(test):
    _lines_of_what_goes_on(test, NodeServer(test, "node_h2_server.js"), "--http2")


@case("bpf", "aiohttp", "curl")
def a_line_of_what_goes_on_on_a_terminal(test):
    server = StreamServer(test)
    curl = own_copy(test, CURL)
    master, slave = pty.openpty()
    process = test.start([test.program, "-b", curl], stdout=slave,
                         env={**os.environ, "NO_COLOR": "1"})
    os.close(slave)
    process.wait_text("^tlstrace: ready", "stderr")
    client = test.start(_endless(curl, server))
    os.set_blocking(master, False)
    shown = ""

    def shows(pattern):
        nonlocal shown
        try:
            shown += os.read(master, 65536).decode().replace("\r\n", "\n")
        except BlockingIOError:
            pass
        return pattern.search(shown)
    until(lambda: shows(GOES_ON), "a line of what goes on")
    equal("lines", shown.count("\n"), 1)
    client.send_signal(signal.SIGTERM)
    until(lambda: shows(ENDED), "the line of its end")
    equal("exit status", process.stop(signal.SIGINT), 0)
    os.close(master)


@case("bpf", "nginx", "curl")
def a_download_at_the_end_of_the_trace(test):
    """What the probes left out of bodies is counted to the end, whatever carries it."""
    nginx = Nginx(test, workers=1, http2=True)
    for version in ("--http1.1", "--http2"):
        path = test.path(f"received{version}")
        # Not more than this is on its way between nginx and the file.
        slack = 2 << 20
        recording = test.path(f"recording{version}")
        trace = test.trace_early("-w", recording, CURL, "-sk", version, "--limit-rate", "3M", "-o",
                                 path, nginx.url("/10m"), name=f"trace{version}")
        until(lambda: os.path.exists(path) and os.path.getsize(path) > 4 << 20, "4 MB")
        trace.stop()
        entry, = trace.checked_entries()
        size, received = entry.at("http.response.body.size"), os.path.getsize(path)
        check(received <= size <= received + slack, f"{version}: {size} of {received}")
        equal("reason", entry.at("capture.reason"), "no_response")
        replay = test.tlstrace("-r", recording, "-f", "json")
        equal("replay", replay.text(), trace.text())


@case("bpf", "grpcio")
def grpc_of_a_real_library(test):
    """grpcio, whose TLS reads and writes a pair of BIOs: all kinds of calls, both ends."""
    server = StreamServer(test, "grpc_server.py")
    client = test.start_target("grpc_client.py", test.pki.certificate, server.port, "later",
                               stdin=subprocess.PIPE)
    client.wait_text("^waiting")
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    client.send("\n")
    client.wait_text("^done")
    expected = {
        "Unary": ((5005, 5005), {"status_code": 0, "request_messages": 1, "response_messages": 1}),
        "Stream": ((7, 15 * 105),
                   {"status_code": 0, "request_messages": 1, "response_messages": 15}),
        "Bidi": ((19, 19), {"status_code": 0, "request_messages": 3, "response_messages": 3}),
        "Fail": ((6, 0), {"status_code": 5, "status_message": "not there: ü",
                          "request_messages": 1, "response_messages": 0}),
        "Unknown": ((6, 0), {"status_code": 12, "status_message": "Method not found!",
                             "request_messages": 1, "response_messages": 0}),
    }
    entries = trace.finish(2 * len(expected))
    equal("entries", sorted((e["side"], e.at("rpc.method")) for e in entries),
          sorted((side, method) for side in ("client", "server") for method in expected))
    for entry in entries:
        sizes, grpc = expected[entry.at("rpc.method")]
        equal("rpc", entry["rpc"], {"system": "grpc", "service": "shop.Cart",
                                    "method": entry.at("rpc.method"), "grpc": grpc})
        equal("sizes", (entry.at("http.request.body.size"), entry.at("http.response.body.size")),
              sizes)
        equal("complete", entry.at("capture.complete"), True)
        equal("how the connection was found", entry.at("capture.tuple"), "ciphertext")
        ports = (entry.local()[1], entry.peer()[1])
        equal("port", ports[entry["side"] == "client"], server.port)


HTTPX = """
import httpx, sys
with httpx.Client(http2=True, verify=False) as client:
    for target in sys.argv[2:]:
        response = client.get(sys.argv[1] + target)
        print(response.http_version, response.status_code, len(response.content))
"""


@case("bpf", "httpx", "python-h2", "node")
def httpx(test):
    server = NodeServer(test, "node_h2_server.js")
    script = test.write("client.py", HTTPX)
    targets = [f"/size/{size}" for size in (0, 10, 100000)]
    trace = test.trace_early("/usr/bin/python3", script, server.url(""), *targets)
    entries = trace.finish_command()
    equal("what httpx says", trace.process.text().split("\n")[2], "HTTP/2 200 100000")
    compare(entries, [r.seen_by_peer("client", executable=PYTHON_NAME)
                      for r in server.reports(len(targets))])
