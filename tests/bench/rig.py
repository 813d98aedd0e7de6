# SPDX-License-Identifier: BSD-2-Clause
"""What is measured on: one nginx worker with a libssl of its own, wrk, h2load, and what /proc tells.

A uprobe is in a file, and every process that maps the file pays for its trap, traced or not. wrk
uses the same libssl as nginx, and tlstrace also puts probes in the host's libssl, which the target
may load later. So nginx and the load have copies of libssl.so.3, and only nginx's gets probes.
"""

import os
import re
import shutil
import statistics
import sys

from lib import processes
from lib.case import Failure
from lib.servers import NGINX, own_copy
from lib.waiting import free_port, listening, until

WRK = "/usr/bin/wrk"
H2LOAD = "/usr/bin/h2load"
H2_CONNECTIONS, H2_STREAMS = 10, 100
LIBSSL = "libssl.so.3"
DOWNLOAD_BYTES = 1 << 30
CONFIG = """
daemon off;
user www-data;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 15000; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 300;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        listen 127.0.0.1:{http2_port} ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {dir}/www;
        location /1k {{ return 200 "{kilobyte}"; }}
    }}
}}
"""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def cpu_seconds(pid):
    """What the threads of a process ran, to the nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def memory_mb(pid, field="VmHWM"):
    with open(f"/proc/{pid}/status", encoding="latin-1") as file:
        return int(re.search(rf"{field}:\s*(\d+) kB", file.read())[1]) / 1024


def medians(rounds):
    """Of dicts with the same keys."""
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def library_of(binary, name):
    """The file that the loader takes for a library of a program."""
    listing = os.popen(f"ldd {binary}").read()
    found = re.search(rf"{re.escape(name)} => (\S+)", listing)
    return found and found[1]


def with_private_libssl(test, binary, directory):
    """A copy of a program's libssl; returns (the environment that has it used, its path)."""
    path = library_of(binary, LIBSSL)
    if not path:
        raise Failure(f"{binary} does not use {LIBSSL}")
    directory = test.path(directory)
    os.makedirs(directory)
    copy = shutil.copy(os.path.realpath(path), os.path.join(directory, LIBSSL))
    return dict(os.environ, LD_LIBRARY_PATH=directory), copy


class Server:
    """nginx: /1k from memory, /100k and a sparse /1g from files."""

    def __init__(self, test):
        self.dir, self.port = test.path("nginx"), free_port()
        self.env, self.libssl = with_private_libssl(test, NGINX, "lib")
        self.http2_port = free_port()
        self.load_env, _ = with_private_libssl(test, WRK, "lib-load")
        self.http2_requests = 0  # of a round; see h2load()
        os.makedirs(os.path.join(self.dir, "www"))
        os.chmod(test.dir, 0o755)
        for name, size in (("100k", 100 << 10), ("1g", DOWNLOAD_BYTES)):
            with open(os.path.join(self.dir, "www", name), "wb") as file:
                file.truncate(size)
        config = test.write("nginx.conf", CONFIG.format(
            dir=self.dir, port=self.port, http2_port=self.http2_port, certificate=test.pki.certificate, key=test.pki.key,
            kilobyte="k" * 1024))
        self.master = test.start([own_copy(test, NGINX), "-c", config, "-p", self.dir,
                                  "-e", f"{self.dir}/error.log"], name="nginx", env=self.env)
        listening(self.port, self.master)
        self.worker = until(lambda: processes.children(self.master.pid), "nginx's worker")[0]

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"


def h2load(test, server, url, seconds, _connections):
    """As wrk(), but over HTTP/2, and exact: what was begun is waited for. The first run tells how
    many requests take a third of so many seconds untraced: classic needs ten times as long."""
    url = url.replace(f":{server.port}/", f":{server.http2_port}/")
    calibrates = not server.http2_requests
    process = test.run([H2LOAD, "-t", "1", "-c", H2_CONNECTIONS, "-m", H2_STREAMS,
                        "-n", server.http2_requests or 20000, url], timeout=seconds * 30 + 60,
                       env=server.load_env)
    found = re.search(r"finished in .*?, ([\d.]+) req/s.*\nrequests: (\d+) total, .* "
                      r"(\d+) succeeded", process.text())
    if process.poll() != 0 or not found or found[2] != found[3]:
        raise Failure(f"h2load:\n{process.output()}")
    rate, requests = float(found[1]), int(found[3])
    if calibrates:
        server.http2_requests = max(1000, int(rate * seconds) // 3000 * 1000)
    return requests, rate


def start_wrk(test, server, url, seconds, connections, *arguments):
    return test.start([WRK, "-t1", "-c", connections, "-d", f"{seconds}s", *arguments, url],
                      env=server.load_env)


def wrk(test, server, url, seconds, connections, *arguments):
    """Runs the load; returns (requests, requests a second)."""
    process = start_wrk(test, server, url, seconds, connections, *arguments)
    process.wait(seconds + 60)
    text = process.text()
    if process.poll() != 0 or "Non-2xx" in text:
        raise Failure(f"wrk:\n{process.output()}")
    errors = re.search(r"Socket errors: .*", text)
    if errors:
        say(f"wrk: {errors[0]}")
    requests = int(re.search(r"(\d+) requests in", text)[1])
    if not requests:
        raise Failure(f"wrk had no answer in {seconds} s; a longer --seconds may help")
    return (requests, float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1]))
