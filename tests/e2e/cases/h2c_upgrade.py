# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 after an Upgrade of HTTP/1.1, inside TLS (RFC 7540 3.2)."""

import os

from lib import processes
from lib.case import case, check, equal
from lib.clients import h2c_client, trace_both
from lib.entries import compare
from lib.servers import PythonServer
from lib.waiting import free_port, listening, until

MB = 1000 * 1000


def _get(target, **more):
    return {"target": target, "headers": [["x-constant", "always the same"], ["x-n", target]],
            **more}


def _post(target, size):
    return _get(target, method="POST", size=size)


def _check_upgraded(entries, targets, protocol="h2c"):
    """Who of them was upgraded says so, and shows nothing of the 101."""
    equal("upgraded", {entry.target() for entry in entries if entry.at("http.upgrade")}, targets)
    for entry in entries:
        equal("http.upgrade", entry.at("http.upgrade"),
              protocol if entry.target() in targets else None)
        check(entry.header("response", "x-only-of") is None, f"fields of the 101: {entry}")


@case("bpf", "python-h2")
def both_ends(test):
    """Before it, requests of HTTP/1.1; after it, several at once. With and without a body, and with
    the 101 in the call of the first frames and in its own."""
    server = PythonServer(test, script="h2c_server.py")
    client = h2c_client(test, server.port)
    trace = trace_both(test, client, server)
    reports, upgraded = [], set()
    for number, order in enumerate((_get("/trailers/500"), _post("/echo", 3000),
                                    _get("/hints/7?apart"), _post("/size/0?apart", 10))):
        if number:
            client.reconnect()
        reports += client.requests(*(_get(f"/size/{n}?before={number}") for n in range(number)))
        reports.append(client.upgrade(**order))
        upgraded.add(order["target"])
        reports += client.requests(_get(f"/trailers/20?{number}"))
        reports += client.requests(*(_get(f"/size/{n * 5000}?{number}") for n in range(5)),
                                   *(_post(f"/echo/{n}?{number}", n * 1000) for n in range(5)))
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports)))
    _check_upgraded(entries, upgraded)


@case("bpf", "bpf_loop", "python-h2", alone=True)
def large_bodies(test):
    """On the stream that was upgraded and on others; of most of it only the sizes leave the kernel."""
    server = PythonServer(test, script="h2c_server.py")
    client = h2c_client(test, server.port)
    recording = test.path("recording")
    trace = trace_both(test, client, server, "-w", recording)
    reports = [client.upgrade(**_get(f"/size/{30 * MB}"))]
    reports += client.requests(_get(f"/size/{20 * MB}"), _get(f"/size/{10 * MB}"))
    entries = trace.finish(2 * len(reports))
    compare(entries, reports + server.reports(len(reports)))
    test.remark = f"{os.path.getsize(recording)} bytes recorded of two times 60 MB"
    check(os.path.getsize(recording) < 20 * MB, test.remark)


APACHE = "/usr/sbin/apache2"
APACHE_MODULES = "/usr/lib/apache2/modules"
APACHE_CONFIG = """
ServerRoot {dir}
DefaultRuntimeDir {dir}
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
ServerName localhost
Listen 127.0.0.1:{port} https
LoadModule mpm_worker_module {modules}/mod_mpm_worker.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule http2_module {modules}/mod_http2.so
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild 20
MaxRequestWorkers 20
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
Protocols h2 http/1.1
H2Upgrade on
DocumentRoot {files}
"""


@case("bpf", "python-h2", APACHE, f"{APACHE_MODULES}/mod_http2.so")
def apache(test):
    """It upgrades inside TLS when told to, and calls the protocol h2. (With mpm_event it ends what was
    upgraded once it is idle.)"""
    port = free_port()
    os.makedirs(test.path("files"))
    for size in (10, 100000):
        test.write(f"files/{size}", b"s" * size)
    path = test.write("apache.conf", APACHE_CONFIG.format(
        dir=test.dir, port=port, certificate=test.pki.certificate, key=test.pki.key,
        modules=APACHE_MODULES, files=test.path("files")))
    process = test.start([APACHE, "-DFOREGROUND", "-f", path])
    listening(port, process)
    # It comes after the listener.
    server, = until(lambda: processes.children(process.pid), "apache's child")
    client = h2c_client(test, port, "h2")
    trace = test.trace("-p", f"{client.pid},{server}")
    client.reconnect()
    reports = client.requests(_get("/10?before"))
    reports.append(client.upgrade(**_get("/100000")))
    reports += client.requests(_get("/10"), _get("/100000?b"), _get("/missing"))
    entries = trace.finish(2 * len(reports))
    compare([entry for entry in entries if entry["side"] == "client"], reports)
    compare([entry for entry in entries if entry["side"] == "server"],
            [report.seen_by_peer("server", executable="apache2") for report in reports])
    _check_upgraded(entries, {"/100000"}, "h2")
