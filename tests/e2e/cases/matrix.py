# SPDX-License-Identifier: BSD-2-Clause
"""A matrix of real programs: eight connections opened before the attach, eight after it, requests
on all of them at a time. Every entry has the addresses that the other end's socket has.

Each program is a case. What began before the attach may be shown in part, as joined late; all that
began after it must be there and right, its connection too.
"""

import dataclasses
import json
import os

from lib import processes
from lib.case import Failure, case, check, equal
from lib.clients import s_client_command
from lib.crowd import CROWD, LARGE, SMALL, HoldingServer, Line, exchange, target
from lib.entries import compare
from lib.servers import NGINX, NodeServer, PythonServer, own_copy
from lib.test import HERE, PYTHON
from lib.waiting import free_port, listening, until

ROUNDS = (SMALL, LARGE, SMALL)
CLIENT_ROUNDS = (SMALL, SMALL, LARGE, SMALL, LARGE, SMALL)
TARGETS = os.path.join(HERE, "targets")


def _family(pid):
    """A process and its descendants."""
    return [pid, *(found for child in processes.children(pid) for found in _family(child))]


def _executable(pid):
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def _finish(trace, reports, each=1):
    """The entries of the trace, ended once there are `each` for every one of the reports."""
    targets, count = {report.target for report in reports}, each * len(reports)
    try:
        until(lambda: trace.count() >= count
              and sum(e.target() in targets for e in trace.entries()) >= count,
              f"{count} entries", every=0.05)
    except Failure as failure:
        raise Failure(f"{failure}; there are {trace.count()} entries") from None
    return trace.finish()


def _without_joined_late(entries, under_way):
    """Takes out what may have been under way at the attach: an exchange for each of these Reports.

    What is shown of those must be right all the same.
    """
    ends = [(report.local, report.peer) for report in under_way]
    targets = {report.target: report for report in under_way}
    rest = []
    for entry in entries:
        if entry.target() is None:
            equal("capture.reason without a request", entry.at("capture.reason"), "joined_late")
            end = (entry.local(), entry.peer())
            check(entry.at("capture.tuple") != "none", f"joined late, capture.tuple: none: {entry}")
            check(end in ends, f"joined late on {end}, where nothing was under way")
            ends.remove(end)
        elif entry.target() in targets:
            report = targets.pop(entry.target())
            equal("addresses", (entry.local(), entry.peer()), (report.local, report.peer))
        else:
            rest.append(entry)
    return rest


@dataclasses.dataclass
class Traffic:
    """What passed while a server was traced."""
    entries: list
    reports: list
    pids: list


def _traffic(test, process, port, blocked=False, each=1):
    """Old and new connections to a server whose process is traced with its children."""
    old = [Line(port, "old", number) for number in range(CROWD)]
    exchange(old, SMALL)
    pids = _family(process.pid)
    trace = test.trace("-p", ",".join(map(str, pids)))
    # Threads that wait inside SSL_read return from it by this.
    woken = exchange(old, SMALL) if blocked else []
    new = [Line(port, "new", number) for number in range(CROWD)]
    lines = [line for pair in zip(old, new) for line in pair]
    reports = [report for size in ROUNDS for report in exchange(lines, size)]
    equal("statuses", {report.status for report in reports}, {200})
    entries = _finish(trace, reports, each)
    return Traffic(_without_joined_late(entries, woken), reports,
                   sorted({*pids, *_family(process.pid)}))


def _check_served(traffic, entries):
    """The entries of the traced server's own side."""
    name = _executable(traffic.pids[0])
    compare(entries, [dataclasses.replace(r, executable=name) for r in traffic.reports])
    pids = {}
    for entry in entries:
        check(entry.at("process.pid") in traffic.pids, f"pid {entry.at('process.pid')}")
        pids.setdefault(entry.at("network.peer.port"), set()).add(entry.at("process.pid"))
    check(all(len(found) == 1 for found in pids.values()), f"processes by connection: {pids}")


def _serve(test, process, port, blocked=False):
    traffic = _traffic(test, process, port, blocked)
    _check_served(traffic, traffic.entries)


def _proxy(test, process, port, upstream):
    """A server that is a client of `upstream` as well: both sides of each request are logged."""
    traffic = _traffic(test, process, port, each=2)
    _check_served(traffic, [e for e in traffic.entries if e["side"] == "server"])
    targets = {report.target for report in traffic.reports}
    name = _executable(process.pid)
    # The first round was before the attach.
    compare([e for e in traffic.entries if e["side"] == "client"],
            [report.seen_by_peer("client", executable=name)
             for report in upstream.reports(CROWD + len(targets)) if report.target in targets])


def _started(test, port, *argv):
    process = test.start(argv, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"))
    listening(port, process)
    return process, port


def _files(test):
    """A directory that servers of files have /size/N in."""
    root = test.path("files")
    os.makedirs(os.path.join(root, "size"))
    for size in (SMALL, LARGE):
        test.write(f"files/size/{size}", b"s" * size)
    return root


def _pem(test):
    """The certificate and the key in one file."""
    text = ""
    for path in (test.pki.certificate, test.pki.key):
        with open(path, encoding="ascii") as file:
            text += file.read()
    return test.write("both.pem", text)


NGINX_CONFIG = """
daemon off; user www-data; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    upstream onward {{ server 127.0.0.1:{upstream}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        {location}
    }}
}}
"""


def _nginx(test, location, upstream=1):
    port = free_port()
    path = test.write("nginx.conf", NGINX_CONFIG.format(
        dir=test.dir, port=port, certificate=test.pki.certificate, key=test.pki.key,
        upstream=upstream, location=location))
    process, _ = _started(test, port, NGINX, "-c", path, "-e", test.path("error.log"))
    until(lambda: len(processes.children(process.pid)) == 2, "nginx's workers")
    return process, port


@case("bpf", "nginx")
def server_nginx(test):
    _serve(test, *_nginx(test, f"root {_files(test)};"))


@case("bpf", "nginx")
def server_and_client_nginx(test):
    upstream = PythonServer(test)
    _proxy(test, *_nginx(test, 'location / { proxy_pass https://onward; proxy_http_version 1.1; '
                               'proxy_set_header Connection ""; }', upstream.port), upstream)


APACHE_CONFIG = """
ServerRoot {dir}
DefaultRuntimeDir {dir}
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
ServerName localhost
Listen 127.0.0.1:{port} https
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
User www-data
Group www-data
StartServers 2
ServerLimit 2
ThreadsPerChild 20
MaxRequestWorkers 40
MinSpareThreads 1
MaxSpareThreads 40
KeepAliveTimeout 60
MaxKeepAliveRequests 0
SSLSessionCache none
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
DocumentRoot {files}
"""


@case("bpf", "/usr/sbin/apache2")
def server_apache(test):
    port = free_port()
    path = test.write("apache.conf", APACHE_CONFIG.format(
        dir=test.dir, port=port, certificate=test.pki.certificate, key=test.pki.key,
        files=_files(test)))
    process, _ = _started(test, port, "/usr/sbin/apache2", "-DFOREGROUND", "-f", path)
    # They come after the listener.
    until(lambda: len(processes.children(process.pid)) == 2, "apache's children")
    _serve(test, process, port)


HAPROXY_CONFIG = """
global
    nbthread 2
defaults
    mode http
    timeout connect 20s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port} ssl crt {pem} alpn http/1.1
    default_backend onward
backend onward
    http-reuse always
    server one 127.0.0.1:{upstream} ssl verify none alpn http/1.1
"""


@case("bpf", "/usr/sbin/haproxy")
def server_and_client_haproxy(test):
    port, upstream = free_port(), PythonServer(test)
    path = test.write("haproxy.conf", HAPROXY_CONFIG.format(
        port=port, pem=_pem(test), upstream=upstream.port))
    _proxy(test, *_started(test, port, "/usr/sbin/haproxy", "-db", "-f", path), upstream)


LIGHTTPD_CONFIG = """
server.modules = ( "mod_openssl" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{files}"
server.max-keep-alive-idle = 60
server.max-keep-alive-requests = 1000
ssl.engine = "enable"
ssl.pemfile = "{certificate}"
ssl.privkey = "{key}"
"""


@case("bpf", "/usr/lib/lighttpd/mod_openssl.so")
def server_lighttpd(test):
    port = free_port()
    path = test.write("lighttpd.conf", LIGHTTPD_CONFIG.format(
        port=port, files=_files(test), certificate=test.pki.certificate, key=test.pki.key))
    _serve(test, *_started(test, port, "/usr/sbin/lighttpd", "-D", "-f", path))


@case("bpf", "/usr/bin/h2o")
def server_h2o(test):
    """YAML is a superset of JSON."""
    port = free_port()
    path = test.write("h2o.conf", json.dumps({
        "num-threads": 2, "error-log": test.path("error.log"), "http1-request-timeout": 60,
        "hosts": {"default": {
            "listen": {"host": "127.0.0.1", "port": port, "ssl": {
                "certificate-file": test.pki.certificate, "key-file": test.pki.key}},
            "paths": {"/": {"file.dir": _files(test)}}}}}))
    _serve(test, *_started(test, port, "/usr/bin/h2o", "-m", "worker", "-c", path))


@case("bpf", "/usr/sbin/nghttpx")
def server_and_client_nghttpx(test):
    port, upstream = free_port(), PythonServer(test)
    _proxy(test, *_started(
        test, port, "/usr/sbin/nghttpx", "--conf=/dev/null", f"-f127.0.0.1,{port}",
        f"-b127.0.0.1,{upstream.port};;tls", "--insecure", "--no-ocsp",
        "--backend-keep-alive-timeout=60s", "--errorlog-file=/dev/stderr",
        test.pki.key, test.pki.certificate), upstream)


@case("bpf", "node")
def server_node(test):
    server = NodeServer(test)
    _serve(test, server.process, server.port)


@case("bpf")
def server_python_threads(test):
    """http.server: a thread for each connection, waiting inside SSL_read for its next request."""
    server = PythonServer(test)
    _serve(test, server.process, server.port, blocked=True)


def _python_server(test, kind):
    port = free_port()
    _serve(test, *_started(test, port, PYTHON, os.path.join(TARGETS, "matrix_app.py"), kind,
                           test.pki.certificate, test.pki.key, port))


@case("bpf")
def server_asyncio(test):
    _python_server(test, "asyncio")


@case("bpf", "/usr/lib/python3/dist-packages/aiohttp")
def server_aiohttp(test):
    _python_server(test, "aiohttp")


@case("bpf", "/usr/lib/python3/dist-packages/tornado")
def server_tornado(test):
    _python_server(test, "tornado")


@case("bpf", "/usr/bin/uvicorn")
def server_uvicorn(test):
    port = free_port()
    _serve(test, *_started(
        test, port, PYTHON, "/usr/bin/uvicorn", "--host", "127.0.0.1", "--port", port,
        "--ssl-certfile", test.pki.certificate, "--ssl-keyfile", test.pki.key,
        "--timeout-keep-alive", "60", "--log-level", "warning", "--app-dir", TARGETS,
        "matrix_app:asgi"))


@case("bpf", "/usr/bin/gunicorn")
def server_gunicorn(test):
    """Two worker processes, each with threads."""
    port = free_port()
    process, _ = _started(
        test, port, PYTHON, "/usr/bin/gunicorn", "--bind", f"127.0.0.1:{port}",
        "--worker-class", "gthread", "--workers", "2", "--threads", "20", "--keep-alive", "60",
        "--certfile", test.pki.certificate, "--keyfile", test.pki.key, "--chdir", TARGETS,
        "--worker-tmp-dir", test.dir, "--log-level", "warning", "matrix_app:wsgi")
    until(lambda: len(processes.children(process.pid)) == 2, "gunicorn's workers")
    _serve(test, process, port)


@case("bpf", "webrick")
def server_webrick(test):
    port = free_port()
    _serve(test, *_started(test, port, "/usr/bin/ruby", os.path.join(TARGETS, "matrix.rb"),
                           "webrick", test.pki.certificate, test.pki.key, port))


def _lanes():
    return [[target(size, f"lane{lane}", number) for number, size in enumerate(CLIENT_ROUNDS)]
            for lane in range(CROWD)]


def _request(test, *argv, targets=True, **options):
    """A client of a server that holds its first responses until the client is traced.

    `{port}` in argv is the server's port; the file with the targets is the last argument.
    """
    server = HoldingServer(test.pki, last=len(CLIENT_ROUNDS) - 1)
    argv = [str(word).replace("{port}", str(server.port)) for word in argv]
    if targets:
        argv.append(test.write("targets", json.dumps(_lanes())))
    client = test.start(argv, **options)
    server.wait_held(CROWD, client)
    name = _executable(client.pid)
    trace = test.trace("-p", client.pid)
    server.release()
    if client.wait() != 0:
        raise Failure(client.output())
    equal("exit status of tlstrace", trace.process.wait(10), 0)
    equal("errors of the server", server.errors, [])
    equal("requests", len(server.reports), CROWD * (len(CLIENT_ROUNDS) - 1))
    equal("old connections", len(server.held), CROWD)
    new = {tuple(r.local) for r in server.reports} - {tuple(r.local) for r in server.held}
    # A pool may have an idle old one for a lane's last requests.
    check(len(new) >= CROWD / 2, f"{len(new)} new connections")
    compare(_without_joined_late(trace.checked_entries(), server.held),
            [dataclasses.replace(report, pid=client.pid, executable=name)
             for report in server.reports])


@case("bpf", "curl")
def client_curl(test):
    lines = ["parallel", "parallel-immediate", f"parallel-max = {CROWD}", "http1.1", "insecure",
             "silent", "show-error", "fail"]
    # Lane by lane, as the lanes of the others go on.
    for number in range(len(CLIENT_ROUNDS)):
        for lane in _lanes():
            lines += [f'url = "https://127.0.0.1:{{port}}{lane[number]}"', 'output = "/dev/null"']
    # The port is known only to _request: the shell puts it in, and becomes curl.
    template = test.write("curl.template", "\n".join(lines) + "\n")
    _request(test, "/bin/sh", "-c",
             'sed "s/{por[t]}/$1/" "$0" >"$0.conf"; exec curl -K "$0.conf"', template, "{port}",
             targets=False)


def _python_client(test, kind):
    _request(test, PYTHON, os.path.join(TARGETS, "matrix_client.py"), kind, "{port}")


@case("bpf")
def client_http_client(test):
    _python_client(test, "http.client")


@case("bpf", "/usr/lib/python3/dist-packages/requests")
def client_requests(test):
    _python_client(test, "requests")


@case("bpf", "/usr/lib/python3/dist-packages/urllib3")
def client_urllib3(test):
    _python_client(test, "urllib3")


@case("bpf")
def client_asyncio(test):
    _python_client(test, "asyncio")


@case("bpf", "/usr/lib/python3/dist-packages/aiohttp")
def client_aiohttp(test):
    _python_client(test, "aiohttp")


@case("bpf", "node")
def client_node(test):
    _request(test, "/usr/bin/node", os.path.join(TARGETS, "matrix_client.js"), "https", "{port}",
             env=dict(os.environ, NODE_TLS_REJECT_UNAUTHORIZED="0"))


@case("bpf", "node")
def client_node_fetch(test):
    _request(test, "/usr/bin/node", os.path.join(TARGETS, "matrix_client.js"), "fetch", "{port}",
             env=dict(os.environ, NODE_TLS_REJECT_UNAUTHORIZED="0"))


@case("bpf", "/usr/bin/ruby")
def client_ruby(test):
    _request(test, "/usr/bin/ruby", os.path.join(TARGETS, "matrix.rb"), "net-http", "{port}")


@case("bpf", "/usr/bin/php")
def client_php_stream(test):
    _request(test, "/usr/bin/php", os.path.join(TARGETS, "matrix_client.php"), "stream", "{port}")


@case("bpf", "/usr/bin/php")
def client_php_curl(test):
    _request(test, "/usr/bin/php", os.path.join(TARGETS, "matrix_client.php"), "curl", "{port}")


@case("bpf", "/usr/share/perl5/IO/Socket/SSL.pm")
def client_perl(test):
    _request(test, "/usr/bin/perl", os.path.join(TARGETS, "matrix_client.pl"), "{port}")


@case("bpf", "openssl")
def client_s_client(test):
    """A process for each connection, the later ones started after the attach: by -b."""
    server = HoldingServer(test.pki)
    binary = own_copy(test, "/usr/bin/openssl")

    def start(name, numbers):
        client = test.start([binary, *s_client_command(server.port)[1:]], stdin=-1, name=name)
        client.send("".join(_plain(name, number) for number in numbers))
        return client

    old = [start(f"old{number}", (0,)) for number in range(CROWD)]
    for client in old:
        server.wait_held(CROWD, client)
    trace = test.trace("-b", binary)
    server.release()
    for client in old:
        client.wait_text("X-Served: 1\r\n\r\nx")
    new = [start(f"new{number}", (0, 1)) for number in range(CROWD)]
    for client in old:
        client.send(_plain(client.name, 1) + _plain(client.name, 2))
    until(lambda: len(server.reports) == 4 * CROWD, "the server's reports")
    pids = {client.name: client.pid for client in old + new}
    entries = _without_joined_late(_finish(trace, server.reports), server.held)
    compare(entries, [dataclasses.replace(
        report, executable="openssl", pid=pids[dict(report.request_headers)["X-Name"]])
        for report in server.reports])


def _plain(name, number):
    size = (SMALL, LARGE)[number % 2]
    return f"GET {target(size, name, number)} HTTP/1.1\r\nHost: localhost\r\nX-Name: {name}\r\n\r\n"
