# SPDX-License-Identifier: BSD-2-Clause
"""What is traced: -p, -b and command mode, processes that come later, fork, libraries loaded late,
connections that were open before."""

import json
import os
import re
import shutil
import signal

from lib.case import case, check, equal
from lib.clients import CURL, KeepAliveClient, RawPeer, curl, python_client
from lib.entries import compare
from lib.servers import NGINX, Nginx, PythonServer, own_copy
from lib.test import HERE, PYTHON, PYTHON_NAME
from lib.waiting import free_port, until


@case("bpf")
def several_pids(test):
    server = PythonServer(test)
    first, second, third = (python_client(test, server.port) for _ in range(3))
    unlisted = python_client(test, server.port)
    trace = test.trace("-p", f"{first.pid},{second.pid}", "--pid", third.pid)
    reports = [client.request("/several") for client in (first, second, third)]
    unlisted.request("/unlisted")
    reports += [first.request("/again")]
    compare(trace.finish(4), reports)


@case("bpf", "nginx", "curl")
def binary_with_running_workers(test):
    """-b logs this program's processes, now and later, and no other user of the same libssl."""
    binary = own_copy(test, NGINX)
    running = Nginx(test, binary=binary, name="first")
    other = PythonServer(test)
    trace = test.trace("-b", binary)
    reports = [curl(test, running.url("/1k?n=1")), curl(test, running.url("/100k"))]
    later = Nginx(test, binary=binary, name="later")
    reports += [curl(test, later.url("/1k?n=2")), curl(test, other.url("/unlogged")),
                curl(test, running.url("/1k?n=3"))]
    expected = [report.seen_by_peer("server", executable="nginx") for report in reports
                if report.target != "/unlogged"]
    entries = trace.finish(len(expected))
    compare(entries, expected)
    compare(entries, running.reports(3) + later.reports(1))


@case("bpf", "nginx", "curl")
def pid_of_a_parent(test):
    """The children that run already are not followed, as with strace; tlstrace names them."""
    nginx = Nginx(test)
    trace = test.trace("-p", nginx.master.pid)
    named = re.search(rf"process {nginx.master.pid} \(\S*nginx\) has children.* -p (\S+)$",
                      trace.stderr(), re.M)
    check(named, trace.stderr())
    equal("workers", sorted(map(int, named[1].split(","))), sorted(nginx.workers))
    equal("entries", trace.finish(0), [])
    trace = test.trace("-p", f"{nginx.master.pid},{named[1]}")
    check("children" not in trace.stderr(), trace.stderr())
    curl(test, nginx.url("/1k"))
    compare(trace.finish(1), nginx.reports(1))


@case("bpf", "nginx", "curl", alone=True)
def the_nginx_of_the_system(test):
    """-b /usr/sbin/nginx as a user types it; alone, for other cases run the same file."""
    nginx = Nginx(test)
    trace = test.trace("-b", NGINX)
    reports = [curl(test, nginx.url(f"/1k?n={n}")) for n in range(5)]
    entries = [e for e in trace.finish(5) if e.at("process.pid") in nginx.workers]
    compare(entries, [r.seen_by_peer("server", executable="nginx") for r in reports])


@case("bpf", "nginx")
def binary_that_runs_later(test):
    """Nothing executes the file when the trace begins."""
    binary = own_copy(test, NGINX)
    trace = test.trace("-b", binary)
    nginx = Nginx(test, binary=binary)
    client = python_client(test, nginx.port)
    reports = [client.request("/1k"), client.request("/missing")]
    entries = trace.finish(2)
    compare(entries, [r.seen_by_peer("server", executable="nginx") for r in reports])


@case("bpf", "curl")
def short_lived_processes_of_a_binary(test):
    server = PythonServer(test)
    binary = own_copy(test, CURL)
    trace = test.trace("-b", binary)
    clients = [test.run([binary, "-sk", "-o", "/dev/null", server.url(f"/{n}")])
               for n in range(30)]
    equal("exit statuses", {client.poll() for client in clients}, {0})
    entries = trace.finish(30)
    compare(entries, [report.seen_by_peer("client", executable="curl")
                      for report in server.reports(30)])
    equal("pids", [entry.at("process.pid") for entry in entries],
          [client.pid for client in clients])


@case("bpf", "curl")
def binary_through_a_symbolic_link(test):
    server = PythonServer(test)
    binary = own_copy(test, CURL, "real-curl")
    os.symlink(binary, test.path("link"))
    trace = test.trace("-b", test.path("link"))
    test.run([binary, "-sk", server.url("/through-link")])
    test.run([CURL, "-sk", server.url("/another-file")])
    entries = trace.finish(1)
    equal("paths", [e.at("url.path") for e in entries], ["/through-link"])
    equal("executable", entries[0].at("process.executable.path"), binary)


@case("bpf", "curl")
def upgraded_binary(test):
    """A package upgrade puts a new file at the path: it is the program from then on."""
    server = PythonServer(test)
    binary = own_copy(test, CURL)
    trace = test.trace("-b", binary)
    test.run([binary, "-sk", server.url("/old")])
    shutil.copy(CURL, test.path("new"))
    os.replace(test.path("new"), binary)
    test.run([binary, "-sk", server.url("/new")])
    entries = trace.finish(2)
    equal("paths", [e.at("url.path") for e in entries], ["/old", "/new"])


@case("bpf", "nginx", "curl")
def binaries_and_pids_together(test):
    """-b and -p are one union; a process that both name is logged once."""
    binary = own_copy(test, NGINX)
    nginx = Nginx(test, binary=binary, workers=1)
    client = python_client(test, nginx.port)
    trace = test.trace("-b", binary, "-p", client.pid, "-p", nginx.workers[0])
    reports = [client.request(f"/1k?{n}") for n in range(3)]
    compare(trace.finish(6), reports + nginx.reports(3))


@case("bpf", "tls_client_static")
def binary_with_tls_inside(test):
    server = PythonServer(test)
    binary = own_copy(test, os.path.join(test.shared, "tls_client_static"))
    trace = test.trace("-b", binary)
    test.run([binary, "127.0.0.1", server.port, "classic", 4096, "/x", "/y"])
    compare(trace.finish(2), [report.seen_by_peer("client", executable="tls_client_static")
                              for report in server.reports(2)])


@case("bpf", "nginx", "curl")
def children_of_a_pid_are_followed(test):
    """Workers that the traced master forks after the attach."""
    nginx = Nginx(test)
    trace = test.trace("-p", nginx.master.pid)
    workers = nginx.reload()
    reports = [curl(test, nginx.url(f"/1k?n={n}")) for n in range(4)]
    entries = trace.finish(4)
    compare(entries, [r.seen_by_peer("server", executable="nginx") for r in reports])
    check({e.at("process.pid") for e in entries} <= set(workers), "a pid of no new worker")


@case("bpf")
def library_loaded_by_import_after_the_attach(test):
    _late_library(test, "import")


@case("bpf")
def library_loaded_by_dlopen_after_the_attach(test):
    _late_library(test, "ctypes")


def _late_library(test, how):
    server = PythonServer(test)
    target = test.start_target("late_tls.py", how, "127.0.0.1", server.port, "/first",
                               stdin=-1)
    target.wait_text("^ready")
    trace = test.trace("-p", target.pid)
    target.send("\n")
    told = json.loads(target.wait_text(r"^\{.*\}$")[0])
    equal("status", told["status"], 200)
    entries = trace.finish(1)
    compare(entries, [r.seen_by_peer("client", told["pid"], PYTHON_NAME)
                      for r in server.reports(1)])
    equal("local", entries[0].local(), told["local"])


@case("bpf")
def library_loaded_by_a_process_of_a_binary(test):
    """-b and a library that the program opens long after it was executed."""
    server = PythonServer(test)
    binary = own_copy(test, os.path.realpath(PYTHON))
    script = os.path.join(HERE, "targets", "late_tls.py")
    trace = test.trace("-b", binary)
    target = test.start([binary, script, "ctypes", "127.0.0.1", server.port, "/late"], stdin=-1)
    target.wait_text("^ready")
    target.send("\n")
    target.wait_text(r'"status": 200')
    compare(trace.finish(1), [r.seen_by_peer("client", target.pid, PYTHON_NAME)
                              for r in server.reports(1)])


@case("bpf")
def fork_after_connect(test):
    """The child makes the request on a connection that its parent opened."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    report = client.request_in_fork("/from-the-child")
    check(report.pid != client.pid, "the request was not made in a child")
    compare(trace.finish(1), [report])


@case("bpf")
def fork_in_command_mode(test):
    server = PythonServer(test)
    script = ("import http.client, os, ssl\n"
              f"c = http.client.HTTPSConnection('127.0.0.1', {server.port}, "
              "context=ssl._create_unverified_context())\n"
              "c.connect()\n"
              "if os.fork() == 0:\n"
              "    c.request('GET', '/child'); c.getresponse().read(); os._exit(0)\n"
              "os.wait()\n")
    entries = test.trace_early(PYTHON, "-c", script).finish_command()
    compare(entries, [report.seen_by_peer("client", executable=PYTHON_NAME)
                      for report in server.reports(1)])


@case("bpf")
def connection_open_before_the_attach(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    client.request("/before")
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    reports = [client.request("/after"), client.request("/echo", "POST", 5000)]
    entries = trace.finish(4)
    # The server was inside the SSL_read that returned /after: it shows the response alone.
    late = [e for e in entries if e["side"] == "server" and e.target() is None]
    equal("reasons", [e.at("capture.reason") for e in late], ["joined_late"] * len(late))
    check(len(late) <= 1, f"{len(late)} entries joined late")
    compare([e for e in entries if e not in late], reports + server.reports(3)[1 + len(late):])


@case("bpf", "nginx")
def nginx_connections_open_before_the_attach(test):
    nginx = Nginx(test)
    clients = [python_client(test, nginx.port) for _ in range(3)]
    for client in clients:
        client.request("/1k?before")
    trace = test.trace("-p", ",".join(map(str, nginx.workers)))
    reports = [client.request(f"/100k?{n}") for n, client in enumerate(clients)]
    compare(trace.finish(3), [r.seen_by_peer("server", executable="nginx") for r in reports])


@case("bpf", "nginx")
def pipelining_on_a_connection_open_before_the_attach(test):
    """Eight requests in one record, on a connection that was there before.

    Whose the responses are can't be known for certain: they may be said to have been joined late,
    but nothing was lost, and what follows once the connection is idle is whole.
    """
    nginx = Nginx(test, workers=1)
    count = 8
    answer = {"until": "\r\n\r\n" + "f" * 1024}
    client = RawPeer(test, [
        {"send": _get("before")}, answer, {"line": True},
        {"send": "".join(_get(f"piped{n}") for n in range(count))}, *[answer] * count,
        {"send": _get("after")}, answer], port=nginx.port)
    nginx.lines(1)
    trace = test.trace("-p", f"{nginx.workers[0]},{client.pid}")
    client.go_on()
    equal("client", client.done(), 0)
    served = nginx.reports(1 + count + 1)[1 + count]
    until(lambda: sum(entry.at("url.query") == "after" for entry in trace.entries()) == 2,
          "both last entries")
    entries = trace.finish()
    reasons = {entry.at("capture.reason") for entry in entries}
    check(reasons <= {None, "joined_late"}, f"reasons {reasons}, and nothing was lost")
    compare([entry for entry in entries if entry.at("url.query") == "after"],
            [served, served.seen_by_peer("client", client.pid, PYTHON_NAME)])


def _get(query):
    return f"GET /1k?{query} HTTP/1.1\r\nHost: h\r\n\r\n"


@case("bpf")
def attach_in_the_middle_of_a_body(test):
    """What follows on the connection is whole; the exchange joined late says so, if logged."""
    port = free_port()
    head = "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"
    server = RawPeer(test, [
        {"until": "\r\n\r\n"}, {"send": head + "x" * 9000}, {"say": "half"},
        {"line": True}, {"send": "y" * 11000}, {"until": "\r\n\r\n"},
        {"send": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"}], listen_port=port, name="srv")
    client = RawPeer(test, [
        {"send": "GET /joined HTTP/1.1\r\nHost: h\r\n\r\n"}, {"read": len(head) + 20000},
        {"send": "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"}, {"until": "yes"}], port=port, name="cli")
    server.process.wait_text("^half")
    trace = test.trace("-p", f"{server.pid},{client.pid}")
    server.go_on()
    equal("client", client.done(), 0)
    until(lambda: sum(e.target() == "/next" for e in trace.entries()) == 2, "both entries of /next")
    entries = trace.finish()
    for entry in entries:
        if entry.target() == "/next":
            check(entry.at("capture.complete"), f"not complete: {entry}")
            equal("size", entry.at("http.response.body.size"), 3)
        else:
            equal("reason", entry.at("capture.reason"), "joined_late")
            equal("method", entry.at("http.request.method"), None)


@case("bpf")
def pid_that_ends(test):
    """-p ends with status 0 when its processes are gone; its last entry is there."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    reports = [client.request("/last")]
    client.process.close_stdin()
    equal("client", client.process.wait(), 0)
    equal("exit status", trace.process.wait(10), 0)
    compare(trace.checked_entries(), reports)


@case("bpf")
def exec_of_a_followed_process(test):
    """A traced shell becomes another program: its entries say which."""
    server = PythonServer(test)
    script = os.path.join(HERE, "targets", "https_client.py")
    shell = test.start(["sh", "-c", 'read _; exec "$@"', "sh", PYTHON, script, "127.0.0.1",
                        server.port], stdin=-1)
    trace = test.trace("-v", "-p", shell.pid)
    shell.send("\n")
    # A process that is merely watched is not stopped for it, so the probes come a moment later.
    trace.process.wait_text(r"^tlstrace: .*libssl.*probes", "stderr")
    client = KeepAliveClient(shell, PYTHON_NAME, r"^\{")
    reports = [client.request("/after-exec")]
    equal("pid", client.pid, reports[0].pid)
    compare(trace.finish(1), reports)


@case("bpf")
def request_in_flight_when_the_trace_ends(test):
    server = PythonServer(test)
    fifo = test.path("fifo")
    os.mkfifo(fifo)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    done = client.request("/done")
    client.process.send(json.dumps({"target": "/half/100000", "headers": {"X-Fifo": fifo}}) + "\n")
    # Opening the fifo for writing waits for the server, which opens it after the first half.
    with open(fifo, "wb") as release:
        entries = trace.finish(1)
        release.write(b"x")
    equal("entries", len(entries), 2)
    compare(entries[:1], [done])
    equal("path", entries[1].at("url.path"), "/half/100000")
    equal("complete", entries[1].at("capture.complete"), False)
    equal("reason", entries[1].at("capture.reason"), "no_response")
    client.process.wait_text(r'(.*\n){3}')


@case("bpf")
def request_that_is_never_answered(test):
    """The server closes instead: logged, not complete."""
    port = free_port()
    server = RawPeer(test, [{"until": "\r\n\r\n"}, {"close": True}], listen_port=port, name="srv")
    client = RawPeer(test, [{"line": True}, {"send": "GET /never HTTP/1.1\r\nHost: h\r\n\r\n"},
                            {"read": 1}], port=port, name="cli")
    told = client.connected()
    trace = test.trace("-p", client.pid)
    client.go_on()
    client.process.wait()
    server.process.wait()
    equal("exit status", trace.process.wait(10), 0)
    entries = trace.checked_entries()
    equal("paths", [e.at("url.path") for e in entries], ["/never"])
    equal("complete", entries[0].at("capture.complete"), False)
    equal("reason", entries[0].at("capture.reason"), "no_response")
    equal("status", entries[0].at("http.response.status_code"), None)
    equal("local", entries[0].local(), told["local"])


@case("bpf")
def trace_ended_by_sigterm(test):
    """SIGTERM ends a trace as SIGINT does."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = test.trace("-p", client.pid)
    reports = [client.request("/term")]
    compare(trace.finish(1, signal.SIGTERM), reports)


@case("bpf")
def detached_target_goes_on(test):
    """Nothing is left in the target when a trace ends: it can be traced again and again."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    for turn in range(3):
        trace = test.trace("-p", client.pid, name=f"trace{turn}")
        reports = [client.request(f"/turn/{turn}")]
        compare(trace.finish(1), reports)
        client.request("/between")


@case("bpf")
def two_traces_of_one_process(test):
    server = PythonServer(test)
    client = python_client(test, server.port)
    traces = [test.trace("-p", client.pid, name=name) for name in ("one", "two")]
    reports = [client.request("/twice"), client.request("/size/9000")]
    for trace in traces:
        compare(trace.finish(2), reports)


@case("bpf")
def only_the_command_is_traced(test):
    """Command mode logs its descendants, not others that use the same library at the time."""
    server = PythonServer(test)
    other = python_client(test, server.port)
    trace = test.trace_early(
        "sh", "-c", f"curl -sk {server.url('/inside')}; read line; "
                    f"curl -sk {server.url('/inside-again')}", stdin=-1)
    trace.wait_ready()
    trace.wait_entries(1)
    other.request("/outside")
    trace.process.send("\n")
    equal("paths", [e.at("url.path") for e in trace.finish_command()],
          ["/inside", "/inside-again"])


@case("bpf")
def background_descendants(test):
    """Grandchildren that the command starts in the background and waits for."""
    server = PythonServer(test)
    script = (f"for i in 1 2 3 4 5 6; do (sh -c 'curl -sk {server.url('/bg/$0')}' $i) & done; wait")
    entries = test.trace_early("sh", "-c", script).finish_command()
    equal("paths", sorted(e.at("url.path") for e in entries), [f"/bg/{n}" for n in range(1, 7)])
