# SPDX-License-Identifier: BSD-2-Clause
"""Large bodies: counted to the byte, though nearly nothing of them leaves the kernel."""

import os

from lib.case import case, check, equal
from lib.clients import CURL, python_client
from lib.entries import compare
from lib.servers import NGINX_FILES, Nginx, NodeServer, PythonServer
from lib.test import PYTHON_NAME
from lib.waiting import free_port, listening

MB = 1000 * 1000
# Of a body, at most so much is captured; what passes before the probes are told comes on top.
# What passes before tlstrace has had its say depends on when the scheduler lets it run.
CAPTURED_SHARE, CAPTURED_FIXED = 0.01, 16 * MB


class _Recorded:
    """A trace that records too: what is recorded is what left the kernel."""

    def __init__(self, test, pids):
        self._path = test.path("recording")
        self._trace = test.trace("-w", self._path, "-p", ",".join(map(str, pids)))

    def finish(self, count, body_bytes):
        """The entries, all that there are, after comparing the recording's size with the bodies."""
        entries = self._trace.finish(count)
        equal("number of entries", len(entries), count)
        size = os.path.getsize(self._path)
        most = body_bytes * CAPTURED_SHARE + CAPTURED_FIXED
        check(size < most, f"{size} bytes recorded of {body_bytes} bytes of bodies")
        for entry in entries:
            check(entry.at("capture.complete"), f"not complete: {entry}")
        return entries


def _big_file(test, size):
    """A sparse file."""
    path = test.write("big", b"")
    os.truncate(path, size)
    return path


def _follow_each_other(entries):
    equal("number of connections", len({entry.at("network.peer.port") for entry in entries}), 1)


@case("bpf", "nginx", alone=True)
def download_of_known_length(test):
    nginx = Nginx(test, workers=1)
    os.rename(_big_file(test, 200 * MB), os.path.join(nginx.dir, "www", "big"))
    client = python_client(test, nginx.port)
    trace = _Recorded(test, nginx.workers)
    reports = [client.request(target) for target in ("/1k?before", "/big", "/1k?after")]
    equal("size that the client got", reports[1].response_size, 200 * MB)
    entries = trace.finish(3, 200 * MB)
    compare(entries, [report.seen_by_peer("server", executable="nginx") for report in reports])
    _follow_each_other(entries)


@case("bpf", "node", alone=True)
def chunked_download_from_node(test):
    server = NodeServer(test)
    client = python_client(test, server.port)
    trace = _Recorded(test, [server.pid])
    reports = [client.request(target)
               for target in (f"/chunked/{100 * MB}", "/size/5", f"/chunked/{50 * MB}", "/size/6")]
    equal("size that the client got", reports[0].response_size, 100 * MB)
    entries = trace.finish(4, 150 * MB)
    compare(entries, server.reports(4), addresses=False)


@case("bpf", alone=True)
def chunked_download_in_small_chunks(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = _Recorded(test, [server.pid])
    client.reconnect()  # the thread that waits in SSL_read was joined late
    reports = [client.request(target)
               for target in (f"/parts/{80 * MB}/4000", "/size/5", f"/parts/{40 * MB}/10000",
                              "/chunked/5000")]
    equal("size that the client got", reports[0].response_size, 80 * MB)
    entries = trace.finish(4, 120 * MB)
    compare(entries, [report.seen_by_peer("server", executable=PYTHON_NAME)
                      for report in reports])
    _follow_each_other(entries)


@case("bpf", "curl", alone=True)
def chunked_download_by_curl(test):
    """What the client reads: calls that end anywhere in a chunk."""
    server = PythonServer(test)
    path = test.path("recording")
    trace = test.trace_early("-w", path, "--", CURL, "-sSk", "--http1.1", "-o", test.path("out"),
                             server.url(f"/parts/{80 * MB}/50000"), server.url("/size/5"))
    entries = trace.finish_command()
    equal("bodies", [entry.at("http.response.body.size") for entry in entries], [80 * MB, 5])
    check(all(entry.at("capture.complete") for entry in entries), f"not complete: {entries}")
    check(os.path.getsize(path) < CAPTURED_FIXED, f"{os.path.getsize(path)} bytes recorded")


def _upload(test, url, size, chunked=False):
    """Uploads by curl, and then asks for something on the same connection."""
    path = _big_file(test, size)
    # What comes by standard input has no length that is known before.
    with open(path, "rb") as file:
        curl = test.run([CURL, "-sSk", "--http1.1", "-o", "/dev/null", "-o", "/dev/null",
                         "-H", "Expect:", "-w", "%{num_connects} %{http_code}\n",
                         "-T", "-" if chunked else path, url("/sink"), url("/sink?after")],
                        stdin=file)
    equal("status of curl", curl.poll(), 0)
    equal("new connections and statuses", curl.text().splitlines(), ["1 200", "0 200"])


def _check_uploads(entries, size):
    equal("requests", [(entry.at("http.request.method"), entry.target()) for entry in entries],
          [("PUT", "/sink"), ("GET", "/sink?after")])
    equal("size of the body", entries[0].at("http.request.body.size"), size)
    _follow_each_other(entries)


@case("bpf", "nginx", "curl", alone=True)
def upload_of_known_length(test):
    nginx = Nginx(test, workers=1)
    trace = _Recorded(test, nginx.workers)
    _upload(test, nginx.url, 60 * MB)
    _check_uploads(trace.finish(2, 60 * MB), 60 * MB)


@case("bpf", "nginx", "curl", alone=True)
def chunked_upload(test):
    nginx = Nginx(test, workers=1)
    trace = _Recorded(test, nginx.workers)
    _upload(test, nginx.url, 60 * MB, chunked=True)
    _check_uploads(trace.finish(2, 60 * MB), 60 * MB)


FILE = NGINX_FILES["100k"]
# Requests that pass before a walk is confirmed, by a tlstrace that gets the CPU at times.
REQUESTS, EARLY_REQUESTS = 600, 60


def _equal_bodies(entries, sizes):
    equal("bodies", [entry.at("http.response.body.size") for entry in entries], sizes)
    check(all(entry.at("capture.complete") for entry in entries), f"not complete: {entries}")


@case("bpf", "nginx", alone=True)
def many_bodies_over_one_connection(test):
    """Bodies that are over long before tlstrace could say something about each."""
    nginx = Nginx(test, workers=1)
    client = python_client(test, nginx.port)
    path = test.path("recording")
    # The client's side too: its calls end elsewhere.
    trace = test.trace("-w", path, "-p", f"{nginx.workers[0]},{client.pid}")
    client.reconnect()
    reports = [client.request(f"/100k?{i}") for i in range(REQUESTS)]
    entries = trace.finish(2 * REQUESTS)
    compare(entries, reports + [report.seen_by_peer("server", executable="nginx")
                                for report in reports])
    _equal_bodies(entries, [FILE] * 2 * REQUESTS)
    moved = os.path.getsize(path)
    most = 2 * FILE * (EARLY_REQUESTS + REQUESTS * 0.05)
    check(moved < most, f"{moved} bytes recorded of {2 * FILE * REQUESTS} bytes of bodies")


@case("bpf", "nginx", "curl", alone=True)
def many_bodies_by_curl(test):
    nginx = Nginx(test, workers=1)
    path = test.path("recording")
    trace = test.trace_early("-w", path, "--", CURL, "-sSk", "--http1.1", "-o", test.path("out"),
                             nginx.url(f"/100k?[1-{REQUESTS}]"))
    entries = trace.finish_command()
    equal("number of entries", len(entries), REQUESTS)
    _equal_bodies(entries, [FILE] * REQUESTS)
    _follow_each_other(entries)
    most = FILE * (2 * EARLY_REQUESTS + REQUESTS * 0.05)
    check(os.path.getsize(path) < most, f"{os.path.getsize(path)} bytes recorded")


@case("bpf", "nginx", alone=True)
def bodies_and_responses_without(test):
    """HEAD and 304 announce bodies that they do not have, between bodies that are left out."""
    nginx = Nginx(test, workers=1)
    client = python_client(test, nginx.port)
    trace = test.trace("-p", f"{nginx.workers[0]},{client.pid}")
    client.reconnect()
    modified = dict(client.request("/100k").response_headers)["Last-Modified"]
    unchanged = {"If-Modified-Since": modified}
    orders = [("/100k", "GET", {}, None), ("/1k", "HEAD", {}, None), ("/100k", "HEAD", {}, None),
              ("/100k", "GET", unchanged, None), ("/none", "GET", {}, None),
              ("/sink", "POST", {}, FILE), ("/100k", "GET", {"Range": "bytes=7-90000"}, None),
              ("/1k", "GET", {}, None)]
    expected = [(200, FILE), (200, 0), (200, 0), (304, 0), (404, None), (200, 5), (206, 89994),
                (200, NGINX_FILES["1k"])]
    reports = []
    for _ in range(40):
        for target, method, headers, size in orders:
            reports.append(client.request(target, method, size, headers=headers))
    for i, report in enumerate(reports):
        status, size = expected[i % len(expected)]
        equal("status", report.status, status)
        check(size is None or report.response_size == size, f"{report}")
    first = [entry for entry in trace.finish(2 * len(reports) + 2)]
    check(all(entry.at("capture.complete") for entry in first), "not all complete")
    for side in ("client", "server"):
        entries = [entry for entry in first if entry["side"] == side][1:]
        compare(entries, reports if side == "client" else
                [report.seen_by_peer("server", executable="nginx") for report in reports])


class _Http2Nginx(Nginx):
    """nginx whose `port` speaks HTTP/2, with the file `big` of `size` bytes."""

    def __init__(self, test, size):
        port = free_port()
        super().__init__(test, workers=1, listen=f"listen 127.0.0.1:{port} ssl http2;")
        os.rename(_big_file(test, size), os.path.join(self.dir, "www", "big"))
        self.port = port


def _curl_http2(test, *arguments):
    """Runs curl, which has to get each file whole."""
    curl = test.run([CURL, "-sSk", "--http2", "--fail", *arguments])
    equal("status of curl", curl.poll(), 0)


def _check_http2(entries, sizes):
    """All over one connection, `sizes` by target."""
    equal("protocols", {entry.at("network.protocol.version") for entry in entries}, {"2"})
    equal("bodies", sorted((entry.target(), entry.at("http.response.body.size"))
                           for entry in entries), sorted(sizes))
    _follow_each_other(entries)


@case("bpf", "nginx", "curl", alone=True)
def http2_download_from_nginx(test):
    nginx = _Http2Nginx(test, 1000 * MB)
    trace = _Recorded(test, nginx.workers)
    urls = [nginx.url(target) for target in ("/1k?before", "/big", "/1k?after")]
    _curl_http2(test, *(word for url in urls for word in ("-o", "/dev/null", url)))
    _check_http2(trace.finish(3, 1000 * MB),
                 [("/1k?before", 1024), ("/big", 1000 * MB), ("/1k?after", 1024)])


@case("bpf", "nginx", "curl", alone=True)
def http2_download_by_curl(test):
    nginx = _Http2Nginx(test, 1000 * MB)
    path = test.path("recording")
    trace = test.trace_early("-w", path, "--", CURL, "-sSk", "--http2", "-o", "/dev/null",
                             nginx.url("/big"), "-o", "/dev/null", nginx.url("/1k?after"))
    entries = trace.finish_command()
    _check_http2(entries, [("/big", 1000 * MB), ("/1k?after", 1024)])
    check(all(entry.at("capture.complete") for entry in entries), f"not complete: {entries}")
    most = 1000 * MB * CAPTURED_SHARE + CAPTURED_FIXED
    check(os.path.getsize(path) < most, f"{os.path.getsize(path)} bytes recorded")


@case("bpf", "nginx", "curl", alone=True)
def http2_streams_beside_each_other(test):
    """Large and small bodies on one connection, in frames that follow each other as they come."""
    nginx = _Http2Nginx(test, 60 * MB)
    trace = _Recorded(test, nginx.workers)
    sizes = [(f"/{name}?{i}", size) for name, size, count in
             (("big", 60 * MB, 8), ("10m", NGINX_FILES["10m"], 10), ("1k", 1024, 30),
              ("100k", NGINX_FILES["100k"], 30)) for i in range(count)]
    config = "".join(f'url = "{nginx.url(target)}"\noutput = "/dev/null"\n' for target, _ in sizes)
    _curl_http2(test, "-Z", "--no-progress-meter", "--parallel-max", "100",
                "-K", test.write("curl.config", config.encode()))
    _check_http2(trace.finish(len(sizes), sum(size for _, size in sizes)), sizes)


@case("bpf", "/usr/sbin/nghttpd", "curl", alone=True)
def http2_upload(test):
    port, path = free_port(), _big_file(test, 200 * MB)
    os.mkdir(test.path("www"))
    test.write("www/small", b"small")
    server = test.start(["/usr/sbin/nghttpd", "-a", "127.0.0.1", "-d", test.path("www"), str(port),
                         test.pki.key, test.pki.certificate], name="nghttpd")
    listening(port, server)
    trace = _Recorded(test, [server.pid])
    url = f"https://127.0.0.1:{port}/small"
    _curl_http2(test, "-o", "/dev/null", "-T", path, url, "-o", "/dev/null", url + "?after")
    entries = trace.finish(2, 200 * MB)
    equal("requests", sorted((entry.target(), entry.at("http.request.body.size"))
                             for entry in entries), [("/small", 200 * MB), ("/small?after", 0)])
    _check_http2(entries, [("/small", 5), ("/small?after", 5)])
