# SPDX-License-Identifier: BSD-2-Clause
"""Real HTTPS servers on loopback, and what each reports of the requests that it served."""

import json
import os
import shutil
import signal
import subprocess

from . import processes
from .case import Failure
from .entries import Report
from .test import HERE, PYTHON_NAME
from .waiting import free_port, listening, until

NGINX = "/usr/sbin/nginx"
NGINX_FILES = {"1k": 1024, "100k": 100 * 1024, "10m": 10 * 1024 * 1024}

NGINX_CONFIG = """
daemon off;
user www-data;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
    log_format json escape=json '{{"method":"$request_method","target":"$request_uri",'
        '"status":$status,"protocol":"$server_protocol","pid":$pid,'
        '"connection":$connection,"requests":$connection_requests,'
        '"request_length":$request_length,"bytes_sent":$bytes_sent,'
        '"body_bytes_sent":$body_bytes_sent,"remote":["$remote_addr",$remote_port],'
        '"local":["$server_addr",$server_port]}}';
    {access_log}
    keepalive_requests 100000000;
    client_max_body_size 64m;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl {http2} reuseport;
        listen [::1]:{port} ssl {http2} reuseport;
        {listen}
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {dir}/www;
        location /sink {{ return 200 "sunk\\n"; }}
        location /memory/1k {{ return 200 "{kilobyte}"; }}
        location /upstream/ {{
            proxy_pass https://127.0.0.1:{upstream}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_session_reuse off;
        }}
    }}
}}
"""


def read_reports(path):
    """The JSON lines of a log that grows: those that are whole."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Nginx:
    """nginx with its own configuration, files of 1k, 100k and 10m, and a log to compare with."""

    def __init__(self, test, workers=2, binary=NGINX, upstream=1, log=True, name="nginx",
                 listen="", http2=False):
        self.dir = test.path(name)
        self.port = free_port()
        self.binary = binary
        os.makedirs(os.path.join(self.dir, "www"))
        os.chmod(test.dir, 0o755)
        for file_name, size in NGINX_FILES.items():
            with open(os.path.join(self.dir, "www", file_name), "wb") as file:
                file.write(b"f" * size)
        access_log = f"access_log {self.dir}/access.log json;" if log else "access_log off;"
        config = NGINX_CONFIG.format(
            dir=self.dir, port=self.port, workers=workers, upstream=upstream,
            certificate=test.pki.certificate, key=test.pki.key, access_log=access_log,
            listen=listen, http2="http2" if http2 else "", kilobyte="k" * 1024)
        path = os.path.join(self.dir, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        self.master = test.start([binary, "-c", path, "-p", self.dir,
                                  "-e", f"{self.dir}/error.log"], name=name)
        listening(self.port, self.master)
        self.workers = until(lambda: self.find_workers(workers), "nginx's workers")

    def find_workers(self, count):
        """The workers' pids when there are `count` of them, else None."""
        found = processes.children(self.master.pid)
        return found if len(found) == count else None

    def url(self, target, host="127.0.0.1"):
        return f"https://{host}:{self.port}{target}"

    def reload(self):
        """Has the master replace its workers; returns the new ones."""
        old = self.workers
        self.master.send_signal(signal.SIGHUP)

        def only_new_ones():
            found = self.find_workers(len(old))
            return found if found and not set(old) & set(found) else None
        self.workers = until(only_new_ones, "new workers in the old ones' place")
        return self.workers

    def lines(self, count):
        """The access log, once it has `count` lines."""
        path = os.path.join(self.dir, "access.log")
        return until(lambda: (r := read_reports(path)) and len(r) >= count and r,
                     f"{count} lines in nginx's log")

    def reports(self, count):
        """The served requests as nginx saw them."""
        return [Report(
            method=line["method"], target=line["target"], status=line["status"],
            response_size=line["body_bytes_sent"], request_size=None, local=line["local"],
            peer=line["remote"], pid=line["pid"], version=line["protocol"].partition("/")[2],
            side="server", executable=os.path.basename(self.binary))
            for line in self.lines(count)]

    def stop(self):
        status = self.master.stop(signal.SIGTERM)
        if status != 0:
            raise Failure(f"nginx ended with {status}")


class PythonServer:
    """targets/https_server.py, or another that takes and writes the same."""

    def __init__(self, test, host="127.0.0.1", name="python-server", script="https_server.py"):
        self.host, self.port = host, free_port(host)
        self._log = test.path(f"{name}.log")
        self.process = test.start_target(
            script, test.pki.certificate, test.pki.key, host, self.port, self._log)
        listening(self.port, self.process, host)

    @property
    def pid(self):
        return self.process.pid

    def url(self, target):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{target}"

    def reports(self, count):
        """The served requests as the server saw them, once there are `count`."""
        reports = until(lambda: (r := read_reports(self._log)) and len(r) >= count and r,
                        f"{count} lines in the server's log")
        return [Report(side="server", executable=PYTHON_NAME, **report) for report in reports]


class NodeServer:
    """targets/node_server.js, or another that prints its reports as that does."""

    def __init__(self, test, script="node_server.js"):
        self.port = free_port()
        self.process = test.start(
            ["/usr/bin/node", os.path.join(HERE, "targets", script),
             test.pki.certificate, test.pki.key, self.port])
        self.process.wait_text("^listening")

    @property
    def pid(self):
        return self.process.pid

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"

    def reports(self, count):
        def lines():
            return [line for line in self.process.text().splitlines() if line.startswith("{")]
        until(lambda: len(lines()) >= count, f"{count} requests in node's output")
        return [Report(side="server", executable="node", **json.loads(line)) for line in lines()]


class Nghttpd:
    """nghttpd with its files: 1k and 100k. With -v it writes what it receives and sends to `log`."""

    def __init__(self, test, *options):
        self.port = free_port()
        directory = test.path("nghttpd")
        os.makedirs(directory)
        for name in ("1k", "100k"):
            with open(os.path.join(directory, name), "wb") as file:
                file.write(b"g" * NGINX_FILES[name])
        self.log = test.path("nghttpd.log")
        with open(self.log, "wb") as log:
            self.process = test.start(["/usr/sbin/nghttpd", *options, "-d", directory, "-a",
                                       "127.0.0.1", "--no-content-length", self.port,
                                       test.pki.key, test.pki.certificate], stdout=log)
        listening(self.port, self.process)

    @property
    def pid(self):
        return self.process.pid

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"


class SServer:
    """openssl s_server: what comes in goes to its output, what send() is given goes out."""

    def __init__(self, test, *options):
        self.port = free_port()
        self.process = test.start(
            ["/usr/bin/openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-quiet",
             "-cert", test.pki.certificate, "-key", test.pki.key, *options],
            name="s_server", stdin=subprocess.PIPE)

        def bound():
            # It serves one connection at a time: connecting to see whether it listens would count.
            with open("/proc/net/tcp", encoding="ascii") as file:
                return f":{self.port:04X} 00000000:0000 0A" in file.read()
        until(bound, "s_server's listener")

    @property
    def pid(self):
        return self.process.pid


def own_copy(test, binary, name=None):
    """A copy of a program: a file identity that no other process of this host has."""
    directory = test.path("bin")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name or os.path.basename(binary))
    shutil.copy(binary, path)
    os.chmod(path, 0o755)
    return path
