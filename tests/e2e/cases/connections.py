# SPDX-License-Identifier: BSD-2-Clause
"""Which connection: the life of SSL objects, addresses of every kind, network namespaces, Unix
sockets, and what TCP says of the connection. (Of objects cleared or freed and used again: clients;
of proxies: protocol; of many programs: matrix.)"""

import json
import os
import re
import socket
import subprocess

from lib.case import Failure, case, check, equal
from lib.clients import CURL, KeepAliveClient, RawPeer, python_client, trace_both
from lib.entries import Report, compare
from lib.servers import (NGINX, Nginx, NodeServer, PythonServer, own_copy, read_reports)
from lib.test import HERE, PYTHON, PYTHON_NAME
from lib.waiting import free_port, listening, until

HTTPS_SERVER = os.path.join(HERE, "targets", "https_server.py")
HTTPS_CLIENT = os.path.join(HERE, "targets", "https_client.py")


def _objects(test, mode):
    """targets/tls_objects.c in command mode, its entries compared with both ends' reports."""
    server = PythonServer(test)
    trace = test.trace_early(f"{test.shared}/tls_objects", mode, server.port)
    entries = trace.finish_command()
    reports = [Report(side="client", executable="tls_objects", **json.loads(line))
               for line in trace.process.text().splitlines()]
    compare(entries, reports)
    compare(entries, [report.seen_by_peer("client") for report in server.reports(len(reports))])
    return reports


@case("bpf", "tls_objects")
def objects_from_ssl_dup(test):
    """Copies are connections of their own; a reference outlives the SSL_free of another."""
    reports = _objects(test, "dup")
    equal("requests", len(reports), 6)
    equal("connections", len({tuple(report.local) for report in reports}), 2)


@case("bpf", "tls_objects")
def the_same_object_in_parent_and_child(test):
    """One address, two processes, a connection each; their requests alternate."""
    reports = _objects(test, "fork")
    equal("requests", len(reports), 9)
    equal("processes", len({report.pid for report in reports}), 2)
    equal("connections", len({tuple(report.local) for report in reports}), 2)


@case("bpf", "tls_objects")
def an_object_that_threads_share(test):
    reports = _objects(test, "threads")
    equal("requests", len(reports), 20)
    equal("connections", len({tuple(report.local) for report in reports}), 1)


@case("bpf", "tls_objects")
def a_request_read_from_the_objects_own_buffer(test):
    """No call of the traced time uses the socket: only the object knows which it is."""
    port = free_port()
    server = test.start([f"{test.shared}/tls_objects", "buffered", port, test.pki.certificate,
                         test.pki.key], stdin=subprocess.PIPE)
    server.wait_text("^listening")
    client = RawPeer(test, [{"send": "GET /one HTTP/1.1\r\nHost: h\r\n\r\n"},
                            {"send": "GET /two HTTP/1.1\r\nHost: h\r\n\r\n"}, {"say": "sent"},
                            {"until": "\r\n\r\n"}, {"line": True}], port=port)
    client.process.wait_text("^sent")
    server.send("\n")
    server.wait_text("^answered")
    trace = test.trace("-p", server.pid)
    server.send("\n")
    equal("server", server.wait(), 0)
    equal("exit status", trace.process.wait(10), 0)
    entries = trace.checked_entries()
    equal("targets", [entry.target() for entry in entries], ["/two"])
    equal("reason", entries[0].at("capture.reason"), "no_response")
    equal("peer", entries[0].peer(), client.connected()["local"])
    equal("local", entries[0].local(), client.connected()["peer"])


@case("bpf")
def connections_handed_to_children(test):
    """The parent does the handshake, a forked child the rest; several connections at a time."""
    port = free_port()
    server = test.start_target("handing_server.py", test.pki.certificate, test.pki.key, port)
    listening(port, server)
    trace = test.trace("-p", server.pid)
    clients = [python_client(test, port) for _ in range(4)]
    reports = [client.request(f"/turn/{turn}?client={number}")
               for turn in range(3) for number, client in enumerate(clients)]
    entries = trace.finish(len(reports))
    compare(entries, [report.seen_by_peer("server") for report in reports])
    compare(entries, [Report(side="server", executable=PYTHON_NAME, **json.loads(line))
                      for line in server.text().splitlines()])
    equal("processes", len({entry.at("process.pid") for entry in entries}), len(clients))


def _told(process):
    """The exchanges that targets/asyncio_peers.py reports, of those after the attach."""
    told = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
    return [Report(executable=PYTHON_NAME, **report) for report in told
            if not report["target"].startswith("/before/")]


@case("bpf")
def a_process_that_talks_to_itself(test):
    """Memory BIOs: every TLS record passes two sockets and two objects of the process."""
    count = 8
    peers = test.start_target("asyncio_peers.py", "itself", test.pki.certificate, test.pki.key,
                              count, stdin=subprocess.PIPE)
    peers.wait_text("^ready")
    trace = test.trace("-p", peers.pid)
    peers.send("\n")
    equal("exit status of the peers", peers.wait(), 0)
    equal("exit status of tlstrace", trace.process.wait(10), 0)
    reports = _told(peers)
    equal("exchanges", len(reports), 2 * 3 * 2 * count)
    compare(trace.checked_entries(), reports)


@case("bpf")
def memory_bios_in_a_tunnel(test):
    """TLS inside TLS, both by memory BIOs: the inner records are on no socket.

    So the inner connection may have no addresses; it must not have wrong ones.
    """
    server, port = PythonServer(test), free_port()
    proxy = test.start_target("proxy.py", "127.0.0.1", port, test.pki.certificate, test.pki.key)
    listening(port, proxy)
    trace = test.trace_early(PYTHON, os.path.join(HERE, "targets", "asyncio_peers.py"), "tunnel",
                             port, server.port, "/size/100", "/size/60000")
    entries = trace.finish_command()
    connects = [e for e in entries if e.at("http.request.method") == "CONNECT"]
    equal("CONNECT entries", len(connects), 1)
    told = json.loads(proxy.wait_text(r"^\{.*\}$")[0])
    equal("of the CONNECT", connects[0].local(), told["client"])
    compare([e for e in entries if e not in connects], _told(trace.process), addresses=False)


@case("bpf", "ipv6", "curl")
def ipv6_of_both_sides(test):
    server = PythonServer(test, "::1")
    trace = test.trace("-p", server.pid)
    command = test.trace_early(CURL, "-sk", server.url("/six?a=b"), server.url("/six?a=c"),
                               name="curl")
    client_entries, server_entries = command.finish_command(), trace.finish(2)
    served = server.reports(2)
    equal("address", [report.local[0] for report in served], ["::1"] * 2)
    compare(server_entries, served)
    compare(client_entries, [report.seen_by_peer("client", executable="curl") for report in served])


@case("bpf", "ipv6")
def ipv4_mapped_addresses_are_ipv4(test):
    """An IPv4 connection over IPv6 sockets, of the server and of the client."""
    server = PythonServer(test, "::")
    client = python_client(test, server.port, "::ffff:127.0.0.1")
    trace = trace_both(test, client, server)
    report = client.request("/mapped")
    check(report.local[0] == "::ffff:127.0.0.1", f"not mapped: {report.local}")
    check(server.reports(1)[0].local[0] == "::ffff:127.0.0.1", "not mapped in the server")
    for address in (report.local, report.peer):
        address[0] = "127.0.0.1"
    compare(trace.finish(2), [report, report.seen_by_peer("server", server.pid)])


@case("bpf", "nginx", "curl")
def tls_over_a_unix_socket(test):
    path = test.path("tls.sock")
    nginx = Nginx(test, workers=1, log=False, listen=f"listen unix:{path} ssl;")
    trace = test.trace("-p", nginx.workers[0])
    command = test.trace_early(CURL, "-sk", "--http1.1", "--unix-socket", path, "-o", "/dev/null",
                               "-o", "/dev/null", "https://local.example/1k?n=1",
                               "https://local.example/1k?n=2", name="curl")
    client_entries, server_entries = command.finish_command(), trace.finish(2)
    for side, entries in (("client", client_entries), ("server", server_entries)):
        # Addresses: none, which is not the same as not known.
        compare(entries, [Report("GET", f"/1k?n={number}", 200, 1024, side=side)
                          for number in (1, 2)], addresses=False)
        for entry in entries:
            equal("network.transport", entry.at("network.transport"), "unix")
            check(entry.at("capture.tuple") != "none", f"capture.tuple: none: {entry}")
            equal("addresses", entry.local() + entry.peer(), [None] * 4)
            equal("server.address", entry.at("server.address"), "local.example")


@case("bpf", "nginx", "node")
def probes_on_bio_functions_are_for_who_needs_them(test):
    """A process whose TLS calls use sockets is rid of them soon; one with memory BIOs keeps them."""
    nginx, node = Nginx(test, workers=1), NodeServer(test)
    client, other = python_client(test, nginx.port), python_client(test, node.port)
    trace = test.trace("-vv", "-p", f"{nginx.workers[0]},{node.pid}")
    trace.process.wait_text(rf"process {nginx.workers[0]}: probes on the BIO functions", "stderr")
    reports = []
    rid = rf"process {nginx.workers[0]}: its TLS calls use sockets, no probes on BIO functions"

    def are_gone():
        reports.append(client.request(f"/1k?{len(reports)}"))
        return re.search(rid, trace.stderr())

    until(are_gone, "probes taken out", every=0.1)
    reports += [client.request("/1k?without"), *(other.request(f"/n?{n}") for n in range(3))]
    check(not re.search(rf"process {node.pid}: its TLS calls use sockets", trace.stderr()),
          trace.stderr())
    names = {nginx.port: "nginx", node.port: "node"}
    compare(trace.finish(len(reports)),
            [r.seen_by_peer("server", executable=names[r.peer[1]]) for r in reports])


class Namespace:
    """A network namespace that lives as long as a process of ours in it."""

    def __init__(self, test):
        self._test = test
        self._holder = test.start(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        own = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{self._holder.pid}/ns/net") != own, "a namespace")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self):
        return self._holder.pid

    def argv(self, *argv):
        """The command line that becomes `argv` in the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def run(self, *argv):
        process = self._test.run(self.argv(*argv))
        if process.poll() != 0:
            raise Failure(process.output())
        return process.text()

    def python_server(self, host, port, name):
        """https_server.py in here; (process, path of its log)."""
        log = self._test.path(f"{name}.log")
        process = self._test.start(self.argv(
            PYTHON, HTTPS_SERVER, self._test.pki.certificate, self._test.pki.key, host, port, log))

        def bound():
            with open(f"/proc/{self.pid}/net/tcp", encoding="ascii") as file:
                return f":{port:04X} 00000000:0000 0A" in file.read()
        until(bound, "a listener in the namespace")
        return process, log

    def python_client(self, host, port):
        process = self._test.start(self.argv(PYTHON, HTTPS_CLIENT, host, port),
                                   stdin=subprocess.PIPE)
        return KeepAliveClient(process, PYTHON_NAME, r"^\{")


def _joined(test):
    """Two namespaces with a wire between them: 10.77.0.1 and 10.77.0.2."""
    first, second = Namespace(test), Namespace(test)
    first.run("ip", "link", "add", "dev", "v0", "type", "veth", "peer", "name", "v0", "netns",
              f"/proc/{second.pid}/ns/net")
    for number, namespace in enumerate((first, second), 1):
        namespace.run("ip", "address", "add", f"10.77.0.{number}/24", "dev", "v0")
        namespace.run("ip", "link", "set", "v0", "up")
    return first, second


def _reports(log, count):
    lines = until(lambda: (r := read_reports(log)) and len(r) >= count and r, f"{count} reports")
    return [Report(side="server", executable=PYTHON_NAME, **line) for line in lines]


@case("bpf", "root", "netns")
def the_same_addresses_in_two_namespaces(test):
    """Two servers on the same address and port, and their clients, in one trace."""
    pairs, port = [], 18443
    for number in range(2):
        namespace = Namespace(test)
        # One port to connect from, so that the two connections differ in nothing.
        namespace.run("sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=42000 42001")
        process, log = namespace.python_server("127.0.0.1", port, f"server{number}")
        pairs.append((process, log, namespace.python_client("127.0.0.1", port)))
    for _, _, client in pairs:
        client.request("/before")
    trace = test.trace("-p", ",".join(
        str(pid) for process, _, client in pairs for pid in (process.pid, client.pid)))
    for _, _, client in pairs:
        client.request("/wake")
    reports = [client.request(f"/namespace/{number}?turn={turn}")
               for turn in range(3) for number, (_, _, client) in enumerate(pairs)]
    served = [report for _, log, _ in pairs for report in _reports(log, 5)
              if report.target.startswith("/namespace/")]
    equal("client addresses", len({tuple(report.local) for report in reports}), 1)
    until(lambda: sum((e.target() or "").startswith("/namespace/")
                      for e in trace.entries()) >= 12, "12 requests")
    entries = [e for e in trace.finish() if (e.target() or "").startswith("/namespace/")]
    compare(entries, reports + served)


@case("bpf", "root", "netns")
def a_wire_between_namespaces(test):
    server_side, client_side = _joined(test)
    server, log = server_side.python_server("10.77.0.1", 18443, "server")
    client = client_side.python_client("10.77.0.1", 18443)
    trace = test.trace("-p", f"{client.pid},{server.pid}")
    client.reconnect()
    reports = [client.request("/size/60000"), client.request("/wire", "POST", 9000)]
    equal("addresses", [r.local[0] + "-" + r.peer[0] for r in reports],
          ["10.77.0.2-10.77.0.1"] * 2)
    compare(trace.finish(4), reports + _reports(log, 2))


class Capture:
    """tshark on loopback: the TCP segments from or to a port."""

    FIELDS = ("tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw", "tcp.len")

    def __init__(self, test, port):
        self._port = port
        fields = [word for name in self.FIELDS for word in ("-e", name)]
        self._process = test.start(["/usr/bin/tshark", "-i", "lo", "-n", "-l", "-f",
                                    f"tcp port {port}", "-T", "fields", *fields],
                                   env=dict(os.environ, TMPDIR=test.dir))
        # It says that it captures before it does.
        until(lambda: self._probe() and self._rows(), "tshark's first packet", every=0.1)

    def _rows(self):
        return [list(map(int, line.split("\t")))
                for line in self._process.text().splitlines(keepends=True) if line.endswith("\n")]

    def _probe(self):
        """The port that a connection of ours came from."""
        with socket.create_connection(("127.0.0.1", self._port)) as probe:
            return probe.getsockname()[1]

    def finish(self):
        """All segments, once all that were sent before this call are there."""
        last = self._probe()
        until(lambda: any(row[0] == last for row in self._rows()), "tshark's last packet")
        self._process.stop()
        return self._rows()


def _ahead(number, base):
    """How far a sequence number is behind another one, which wraps."""
    return (number - base) % (1 << 32)


def _check_tcp(entry, client_port, rows):
    """An entry's TCP facts against the segments of its connection."""
    tcp = {name: entry.at(f"network.tcp.{name}")
           for name in ("seq", "ack", "rtt_us", "retransmits")}
    check(None not in tcp.values(), f"{entry['side']} {entry.target()}: network.tcp is {tcp}")
    requests = [row for row in rows if row[0] == client_port and row[4]]
    responses = [row for row in rows if row[1] == client_port and row[4]]
    check(any(_ahead(tcp["seq"], seq) < size for _, _, seq, _, size in requests),
          f"{entry.target()}: seq {tcp['seq']} is in no segment of the request's direction")
    # A write on a connection at rest begins a segment, both ways.
    check(tcp["seq"] in {row[2] for row in requests},
          f"{entry.target()}: seq {tcp['seq']} begins no segment")
    answers = [seq for _, _, seq, ack, _ in responses if 0 < _ahead(ack, tcp["seq"]) < 1 << 31]
    check(tcp["ack"] in answers[:1],
          f"{entry.target()}: ack {tcp['ack']}, the response begins at {answers[:1]}")
    check(0 < tcp["rtt_us"] < 1000000, f"rtt_us {tcp['rtt_us']}")
    equal("retransmits", tcp["retransmits"], 0)


@case("bpf", "nginx", "curl", "/usr/bin/tshark")
def tcp_sequence_numbers(test):
    """Of both sides of keep-alive connections, against what tshark captured."""
    nginx_binary, curl_binary = own_copy(test, NGINX), own_copy(test, CURL)
    nginx = Nginx(test, binary=nginx_binary)
    client = python_client(test, nginx.port)
    packets = Capture(test, nginx.port)
    trace = test.trace("-b", nginx_binary, "-b", curl_binary, "-p", client.pid)
    reports = []
    for turn in range(3):
        reports += [client.request(f"/100k?{turn}"), client.request("/sink", "POST", 50000)]
    # TLS 1.2, in which no session ticket can pass the first request on its way.
    urls = [nginx.url(f"/1k?curl={number}") for number in range(4)]
    done = test.run([curl_binary, "-sk", "--http1.1", "--tls-max", "1.2",
                     *(word for url in urls for word in ("-o", "/dev/null", url))])
    equal("curl", done.poll(), 0)
    served = nginx.reports(len(reports) + len(urls))
    entries = trace.finish(2 * len(served))
    compare(entries, served + reports + [
        r.seen_by_peer("client", done.pid, "curl") for r in served if "curl=" in r.target])
    rows = packets.finish()
    seqs = {}
    for entry in entries:
        ends = {"client": entry.local(), "server": entry.peer()}
        port = ends[entry["side"]][1]
        _check_tcp(entry, port, rows)
        seqs.setdefault((port, entry["side"]), []).append(entry.at("network.tcp.seq"))
    for (port, side), numbers in seqs.items():
        equal(f"the two sides' numbers on {port}", numbers, seqs[port, "server"])
        check(all(_ahead(b, a) < 1 << 31 and a != b for a, b in zip(numbers, numbers[1:])),
              f"{side}'s numbers do not grow: {numbers}")


def _retransmits(namespace, port):
    """What ss says of the connections to a port: segments sent again."""
    told = namespace.run("ss", "-tinH", "state", "established", "dport", "=", f":{port}")
    return sum(int(number) for number in re.findall(r"\bretrans:\d+/(\d+)", told))


@case("bpf", "root", "netns")
def tcp_retransmits(test):
    """A host that is gone for a moment: the client's segments are sent again, and counted."""
    server_side, client_side = _joined(test)
    _, log = server_side.python_server("10.77.0.1", 18443, "server")
    client = client_side.python_client("10.77.0.1", 18443)
    trace = test.trace("-p", client.pid)
    client.request("/before")
    server_side.run("ip", "address", "del", "10.77.0.1/24", "dev", "v0")
    client.order({"target": "/lost"})
    until(lambda: _retransmits(client_side, 18443) > 0, "a segment sent again")
    server_side.run("ip", "address", "add", "10.77.0.1/24", "dev", "v0")
    _reports(log, 2)
    client.answer()
    client.request("/after")
    entries = {entry.target(): entry for entry in trace.finish(3)}
    equal("targets", sorted(entries), ["/after", "/before", "/lost"])
    counts = [entries[name].at("network.tcp.retransmits")
              for name in ("/before", "/lost", "/after")]
    equal("of the last request", counts[2], _retransmits(client_side, 18443))
    equal("of the first request", counts[0], 0)
    check(0 < counts[1] <= counts[2], f"retransmits {counts}")
