# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 of many programs, from the start and joined in the middle of a thousand requests on one
connection.

One end of each connection is Debian's h2, which tells what every header block said, and which of
its fields somebody who joined can know (targets/h2_wire.py). What is known must be shown, what is
shown must be right, and how much that is stands behind the case's name.
"""

import collections
import json
import re
import signal
import subprocess

from lib.case import Failure, case, check, equal
from lib.clients import CURL, H2Client, KeepAliveClient, h2_client
from lib.entries import compare, headers_of
from lib.servers import Nghttpd, Nginx, NodeServer
from lib.test import HERE, PYTHON, PYTHON_NAME
from lib.waiting import free_port, until

REQUESTS = 1000
JOIN_AT = 500
BATCH = 20
H2LOAD = "/usr/bin/h2load"
PSEUDO = {":method": "http.request.method", ":scheme": "url.scheme",
          ":status": "http.response.status_code"}


def _fields(number):
    """Of request `number`: what never changes, always does, comes again, and is new at times."""
    return [["x-constant", "always the same"], ["x-n", f"value {number}"],
            ["x-cycle", f"number {number % 7}"], [f"x-name-{number // 100}", "of a hundred"],
            ["authorization", f"Bearer of-request-{number % 3}"]]


def _orders(target, first, count):
    return [{"target": f"{target}?n={n}", "headers": _fields(n)}
            for n in range(first, first + count)]


# ---- what is shown, and what was said ----

def _is_part(part, whole):
    """Whether the values are among those of `whole`, in their order."""
    rest = iter(whole)
    return all(value in rest for value in part)


def _pseudo(entry, name):
    if name == ":path":
        return entry.target()
    if name == ":authority":
        address = entry.at("server.address")
        return address and f"{address}:{entry.at('server.port')}"
    value = entry.at(PSEUDO[name])
    return None if value is None else str(value)


def _check_message(entry, message, fields):
    """Returns how many of the fields are shown with name and value."""
    shown = entry.at(f"http.{message}.header") or {}
    said = headers_of([name, value] for name, value, *_ in fields if name[0] != ":")
    known = headers_of([name, value] for name, value, has_name, has_value in fields
                       if name[0] != ":" and has_name and has_value)
    nameless = [value for _, value, has_name, has_value in fields if has_value and not has_name]
    count = 0
    for name, values in shown.items():
        if name == "?":
            check(_is_part(values, nameless), f"{values} without a name; {nameless} had none")
        else:
            check(_is_part(values, said.get(name, [])), f"{name}: {values} in {said}")
            count += len(values)
    for name, values in known.items():
        check(_is_part(values, shown.get(name, [])), f"{name}: {values} not in {shown}")
    for value in nameless:
        check(any(value in values for values in shown.values()), f"{value} not in {shown}")
    for name, value, _, has_value in fields:
        if name[0] == ":":
            got = _pseudo(entry, name)
            check(got == value or (got is None and not has_value), f"{name}: {got}, was {value}")
            count += got is not None
    return count


def _check_entry(entry, exchange):
    """Returns what is shown of the fields: (of the request's, of the response's)."""
    try:
        counts = [_check_message(entry, m, exchange[m]) for m in ("request", "response")]
        every_one = counts == [len(exchange["request"]), len(exchange["response"])]
        equal("complete", entry.at("capture.complete"), every_one)
        for path, want in (("http.request.method", "GET"), ("http.response.status_code", 200)):
            equal(path, entry.at(path), want)
    except Failure as failure:
        raise Failure(f"{failure}\n{json.dumps(entry)}\n{json.dumps(exchange)}") from None
    return counts


def _check_cut(entry, exchanges):
    """An entry of a response alone, to one of the requests under way at the join."""
    said = [headers_of([n, v] for n, v, *_ in each["response"]) for each in exchanges]
    equal("reason", entry.at("capture.reason"), "joined_late")
    for name, values in (entry.at("http.response.header") or {}).items():
        check(name == "?" or any(_is_part(values, each.get(name, [])) for each in said),
              f"{name}: {values} in no response")


def _share(part, whole):
    return f"{100 * part / whole:.3g} %" if whole else "-"


def _check(test, entries, exchanges, client, server):
    """An entry for each exchange that began after the join, with what can be known of it."""
    after = {each["target"]: each for each in exchanges if not each["before"]}
    cut = [entry for entry in entries if not entry.at("http.request")]
    whole = [entry for entry in entries if entry.at("http.request")]
    for entry in cut:
        _check_cut(entry, [each for each in exchanges if each["before"]])
    equal("requests", sorted(filter(None, (entry.target() for entry in whole))), sorted(after))
    complete, shown, said = 0, collections.Counter(), collections.Counter()
    for entry in whole:
        exchange = after[entry.target()]
        for message, count in zip(("request", "response"), _check_entry(entry, exchange)):
            shown[message] += count
            said[message] += len(exchange[message])
        complete += entry.at("capture.complete")
    test.remark = (
        f"{len(whole)} entries, {_share(complete, len(whole))} complete; shown of the fields that "
        f"{client} sent {_share(shown['request'], said['request'])}, "
        f"{server} {_share(shown['response'], said['response'])}")


# ---- servers: the client is the witness ----

def _ask(client, target, first, count):
    """Requests in batches; what was on the wire."""
    exchanges = []
    for number in range(first, first + count, BATCH):
        orders = _orders(target, number, BATCH)
        exchanges += [{"target": order["target"], "before": False, **told["wire"]}
                      for order, told in zip(orders, client.tell(orders))]
    return exchanges


def _serve(test, name, pid, port, target):
    """From the start; what the server saw is to be compared by the caller, who gets the entries."""
    trace = test.trace("--show-secrets", "-p", pid)
    client = h2_client(test, port, "wire")
    exchanges = _ask(client, target, 0, REQUESTS)
    entries = trace.finish(REQUESTS)
    _check(test, entries, exchanges, "python-h2", name)
    equal("complete", {entry.at("capture.complete") for entry in entries}, {True})
    return entries


def _serve_joined(test, name, pid, port, target):
    client = h2_client(test, port, "wire")
    _ask(client, target, 0, JOIN_AT)
    trace = test.trace("--show-secrets", "-p", pid)
    client.tell({"join": True})
    exchanges = _ask(client, target, JOIN_AT, REQUESTS - JOIN_AT)
    _check(test, trace.finish(REQUESTS - JOIN_AT), exchanges, "python-h2", name)


NGINX_FIELDS = 'add_header X-N "value $arg_n"; add_header X-Constant "always the same";'


@case("bpf", "nginx", "python-h2")
def server_nginx(test):
    nginx = Nginx(test, workers=1, http2=True, listen=NGINX_FIELDS)
    entries = _serve(test, "nginx", nginx.workers[0], nginx.port, "/memory/1k")
    for entry, line in zip(entries, nginx.lines(REQUESTS)):
        equal("as nginx logged", (entry.target(), entry.at("http.response.body.size"), entry.peer()),
              (line["target"], line["body_bytes_sent"], line["remote"]))


@case("bpf", "nginx", "python-h2")
def server_nginx_joined(test):
    nginx = Nginx(test, workers=1, http2=True, listen=NGINX_FIELDS)
    _serve_joined(test, "nginx", nginx.workers[0], nginx.port, "/memory/1k")


@case("bpf", "h2load", "python-h2")
def server_nghttpd(test):
    server = Nghttpd(test, "-v")
    entries = _serve(test, "nghttpd", server.pid, server.port, "/1k")
    _compare_with_log(entries, _nghttpd_log(server))


@case("bpf", "h2load", "python-h2")
def server_nghttpd_joined(test):
    server = Nghttpd(test)
    _serve_joined(test, "nghttpd", server.pid, server.port, "/1k")


@case("bpf", "h2load", "python-h2")
def server_nghttpd_joined_with_a_small_table(test):
    """So small that what was before the join soon leaves it."""
    server = Nghttpd(test, "-c", "256")
    _serve_joined(test, "nghttpd", server.pid, server.port, "/1k")


@case("bpf", "node", "python-h2")
def server_node(test):
    server = NodeServer(test, "node_h2_server.js")
    entries = _serve(test, "node", server.pid, server.port, "/size/100")
    compare(entries, server.reports(REQUESTS), addresses=False)


@case("bpf", "node", "python-h2")
def server_node_joined(test):
    server = NodeServer(test, "node_h2_server.js")
    _serve_joined(test, "node", server.pid, server.port, "/size/100")


# ---- clients: the server is the witness ----

class Witness:
    """targets/h2_witness.py."""

    def __init__(self, test, in_flight=0):
        self.port = free_port()
        hold = [JOIN_AT, in_flight] if in_flight else []
        self._process = test.start_target("h2_witness.py", test.pki.certificate, test.pki.key,
                                          self.port, *hold, stdin=subprocess.PIPE)
        self._process.wait_text("^listening")

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"

    def wait_held(self):
        self._process.wait_text("^held")

    def join(self):
        self._process.send("join\n")
        self._process.wait_text("^joined")

    def report(self):
        self._process.send("report\n")
        return json.loads(self._process.wait_text(r"^\[.*\]\n")[0])


def _command(test, name, command):
    """A client that runs by itself, from its start."""
    witness = Witness(test)
    entries = test.trace_early("--show-secrets", *command(witness)).finish_command()
    _check_all(test, entries, witness, name)


def _check_all(test, entries, witness, name):
    exchanges = witness.report()
    equal("requests", len(exchanges), REQUESTS)
    _check(test, entries, exchanges, name, "python-h2")
    equal("complete", {entry.at("capture.complete") for entry in entries}, {True})


def _command_joined(test, name, command, in_flight):
    """The same, joined while it waits for answers."""
    witness = Witness(test, in_flight)
    client = test.start(command(witness))
    witness.wait_held()
    trace = test.trace("--show-secrets", "-p", client.pid)
    witness.join()
    equal("exit status", client.wait(), 0)
    exchanges = witness.report()
    equal("requests", len(exchanges), REQUESTS)
    entries = trace.finish(sum(not each["before"] for each in exchanges))
    check(len(entries) <= REQUESTS - JOIN_AT + 1, f"{len(entries)} entries")
    _check(test, entries, exchanges, name, "python-h2")


def _curl(test):
    def command(witness):
        lines = []
        for order in _orders("/curl", 0, REQUESTS):
            lines += ["http2", "insecure", "silent", "output = /dev/null",
                      f"url = {witness.url(order['target'])}",
                      *(f'header = "{name}: {value}"' for name, value in order["headers"]), "next"]
        return [CURL, "-K", test.write("curl.config", "\n".join(lines[:-1]) + "\n")]
    return command


def _h2load(test):
    def command(witness):
        path = test.write("uris", "\n".join(witness.url(f"/load?n={n}") for n in range(REQUESTS)))
        return [H2LOAD, "-n", REQUESTS, "-c", "1", "-m", "100", "-H", "x-constant: always the same",
                "-i", path]
    return command


@case("bpf", "curl", "python-h2")
def client_curl(test):
    _command(test, "curl", _curl(test))


@case("bpf", "curl", "python-h2")
def client_curl_joined(test):
    _command_joined(test, "curl", _curl(test), 1)


@case("bpf", "h2load", "python-h2")
def client_h2load(test):
    _command(test, "h2load", _h2load(test))


@case("bpf", "h2load", "python-h2")
def client_h2load_joined(test):
    _command_joined(test, "h2load", _h2load(test), 100)


def _tell(client, first, count):
    for number in range(first, first + count, BATCH):
        client.tell(_orders("/told", number, BATCH))


def _script(test, name, script, client_class):
    """A client that does what it is told, from its start."""
    witness = Witness(test)
    trace = test.trace_early("--show-secrets", PYTHON, f"{HERE}/targets/{script}", "127.0.0.1",
                             witness.port, stdin=subprocess.PIPE)
    client = client_class(trace.process, PYTHON_NAME, r"^\{")
    _tell(client, 0, REQUESTS)
    trace.process.close_stdin()
    _check_all(test, trace.finish_command(), witness, name)


def _script_joined(test, name, script, client_class):
    witness = Witness(test)
    client = client_class(test.start_target(script, "127.0.0.1", witness.port,
                                            stdin=subprocess.PIPE), PYTHON_NAME, r"^\{")
    _tell(client, 0, JOIN_AT)
    trace = test.trace("--show-secrets", "-p", client.pid)
    witness.join()
    _tell(client, JOIN_AT, REQUESTS - JOIN_AT)
    _check(test, trace.finish(REQUESTS - JOIN_AT), witness.report(), name, "python-h2")


@case("bpf", "python-h2")
def client_python_h2(test):
    _script(test, "python-h2", "h2_client.py", H2Client)


@case("bpf", "python-h2")
def client_python_h2_joined(test):
    _script_joined(test, "python-h2", "h2_client.py", H2Client)


@case("bpf", "python-h2", "httpx")
def client_httpx(test):
    _script(test, "httpx", "httpx_client.py", KeepAliveClient)


@case("bpf", "python-h2", "httpx")
def client_httpx_joined(test):
    _script_joined(test, "httpx", "httpx_client.py", KeepAliveClient)


# ---- many streams on many connections, as nghttpd logs them ----

def _nghttpd_log(server):
    """A [request's fields, response's fields] for each stream in the log of nghttpd -v."""
    streams, of_response = collections.defaultdict(lambda: [[], []]), None
    with open(server.log, encoding="utf-8") as file:
        for line in file:
            found = re.match(r"\[id=(\d+)\] \[ *[\d.]+\] (recv|send) (.*)", line)
            if found:
                connection, what, rest = found.groups()
                field = re.match(r"\(stream_id=(\d+)(?:, sensitive)?\) (:?[^:]*): (.*)", rest)
                head = re.match(r"HEADERS frame <.*stream_id=(\d+)>", rest)
                if what == "recv" and field:
                    streams[connection, field[1]][0].append([field[2], field[3]])
                of_response = streams[connection, head[1]][1] if what == "send" and head else None
            elif of_response is not None:
                field = re.match(r" +(:?[a-z][^:]*): (.*)", line)
                if field:
                    of_response.append([field[1], field[2]])
    return list(streams.values())


def _as_said(fields):
    return json.dumps(headers_of(pair for pair in fields if pair[0][0] != ":"), sort_keys=True)


def _logged(log):
    """How often each exchange was: (target, request's fields, response's fields)."""
    return collections.Counter((dict(request)[":path"], _as_said(request), _as_said(response))
                               for request, response in log)


def _compare_with_log(entries, log):
    seen = collections.Counter(
        (entry.target(), *(json.dumps(entry.at(f"http.{message}.header"), sort_keys=True)
                           for message in ("request", "response"))) for entry in entries)
    more, less = seen - _logged(log), _logged(log) - seen
    check(not more and not less, f"{len(more)} that were not, as {list(more)[:1]}; "
                                 f"{len(less)} missing, as {list(less)[:1]}")


LOAD_CONNECTIONS, LOAD_EACH = 10, 300


def _load(test, server, each):
    path = test.write("uris", "\n".join(server.url(f"/1k?n={n}") for n in range(each)))
    return [H2LOAD, "-n", LOAD_CONNECTIONS * each, "-c", LOAD_CONNECTIONS, "-m", "100",
            "-H", "x-constant: always the same", "-i", path]


@case("bpf", "h2load")
def h2load_and_nghttpd(test):
    """100 streams on each of 10 connections, both ends traced."""
    server = Nghttpd(test, "-v")
    trace = test.trace("--show-secrets", "-p", server.pid, name="server")
    entries = test.trace_early("--show-secrets", *_load(test, server, LOAD_EACH)).finish_command()
    served = trace.finish(LOAD_CONNECTIONS * LOAD_EACH)
    log = _nghttpd_log(server)
    for side in (entries, served):
        equal("entries", len(side), LOAD_CONNECTIONS * LOAD_EACH)
        equal("complete", {entry.at("capture.complete") for entry in side}, {True})
        _compare_with_log(side, log)
    test.remark = f"{len(entries)} entries of each end, 100 % complete"


def _is_idle(server):
    """Whether a server has taken all that its clients sent, and sleeps."""
    port = f":{server.port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in file.read().splitlines()[1:]:
            _, local, peer, _, queues = line.split()[:5]
            unsent, unread = queues.split(":")
            if (local.endswith(port) and int(unread, 16)) or (
                    peer.endswith(port) and int(unsent, 16)):
                return False
    with open(f"/proc/{server.pid}/stat", encoding="latin-1") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


@case("bpf", "h2load")
def h2load_and_nghttpd_joined(test):
    """Joined while h2load is stopped in its middle and nghttpd has answered all that it sent."""
    each = 1000
    server = Nghttpd(test, "-v")
    load = test.start(_load(test, server, each))

    def received():
        with open(server.log, encoding="utf-8") as file:
            return file.read().count(" recv HEADERS frame ")
    until(lambda: received() > LOAD_CONNECTIONS * each / 10, "some requests", every=0.001)
    load.send_signal(signal.SIGSTOP)
    until(lambda: _is_idle(server), "the server to have nothing to do")
    passed = received()
    trace = test.trace("--show-secrets", "-p", server.pid)
    load.send_signal(signal.SIGCONT)
    equal("exit status", load.wait(), 0)
    rest = LOAD_CONNECTIONS * each - passed
    entries = [entry for entry in trace.finish(rest) if entry.at("http.request")]
    equal("entries", len(entries), rest)
    said = _logged(_nghttpd_log(server))
    by_target = collections.defaultdict(list)
    for target, request, response in said:
        by_target[target].append((json.loads(request), json.loads(response)))
    complete = 0
    for entry in entries:
        equal("method", entry.at("http.request.method"), "GET")
        equal("status", entry.at("http.response.status_code"), 200)
        check(any(_is_shown(entry, *one) for one in by_target[entry.target()]),
              f"{entry} is none of {by_target[entry.target()]}")
        complete += entry.at("capture.complete")
    test.remark = f"{rest} entries, {_share(complete, rest)} complete"


def _is_shown(entry, *said):
    """Whether all that is shown with its name was said."""
    return all(name == "?" or _is_part(values, fields.get(name, []))
               for message, fields in zip(("request", "response"), said)
               for name, values in (entry.at(f"http.{message}.header") or {}).items())

