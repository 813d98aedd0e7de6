# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 joined late by programs with libnghttp2: soon nothing is unknown any more, since the probes
read the programs' own HPACK tables; and whatever is shown, at any time, is what was sent."""

import dataclasses
import json
import os
import subprocess

from lib.case import case, check, equal
from lib.clients import KeepAliveClient
from lib.entries import Report, differences, headers_of
from lib.servers import Nginx, Nghttpd, NodeServer
from lib.test import HERE
from lib.waiting import until

# Below 1000 requests on a connection: libcurl resets each stream whose response has no length, and
# libnghttp2 ends a connection that has had 1000 resets at once (33 more a second).
JOINS, BATCH, MORE = 3, 10, 200
# Requests within which both directions of both ends must have their tables.
PATIENCE = 400
REASONS = ("joined_late", "unknown_headers")


class LateClient(KeepAliveClient):
    """targets/late_client.*: one connection, and a batch of requests when told."""

    def __init__(self, test, interpreter, script, port):
        process = test.start([interpreter, os.path.join(HERE, "targets", script), port],
                             stdin=subprocess.PIPE)
        super().__init__(process, os.path.basename(os.path.realpath(interpreter)), "^ready")
        self._target, self._count = None, 0

    def asking_for(self, target):
        self._target = target
        return self

    def requests(self, count):
        """So many requests, each of another target; what the client knows of each."""
        targets = [f"{self._target}?n={self._count + n}" for n in range(count)]
        self._count += count
        return [self._report(told) for told in self.tell(targets)]


def check_known(entry, report):
    """What an entry that is not complete shows is what was sent."""
    for path, want in (("http.request.method", report.method), ("server.address", "127.0.0.1"),
                       ("http.response.status_code", report.status)):
        check(entry.at(path) in (None, want), f"{path}: {entry.at(path)!r}, not {want!r}")
    for message, pairs in (("request", report.request_headers),
                           ("response", report.response_headers)):
        truth = headers_of(pairs)
        for name, values in (entry.at(f"http.{message}.header") or {}).items():
            check(name == "?" or values == truth.get(name), f"{name}: {values}, not {truth}")


def check_entries(entries, reports):
    """Compares; returns for each side whether its entries are complete, in their order."""
    truth = {report.target: report for report in reports}
    complete = {"client": [], "server": []}
    for entry in entries:
        side, report = entry["side"], truth.get(entry.target())
        complete[side].append(entry.at("capture.complete"))
        if report is None: # the response of a request that was before the join
            equal("reason", entry.at("capture.reason"), "joined_late")
            continue
        if entry.at("capture.complete"):
            report = dataclasses.replace(report, side=side)
            if side == "server":
                report = report.seen_by_peer("server")
            wrong = differences(entry, report)
            wrong += [] if entry.at("server.address") == "127.0.0.1" else ["server.address"]
            check(not wrong, f"{wrong} in {json.dumps(entry)}")
        else:
            check(entry.at("capture.reason") in REASONS, f"{entry.at('capture')}")
            check_known(entry, report)
    return complete


def probed(trace):
    """Files of processes that have probes on HTTP/2 functions."""
    said = trace.stderr()
    return said.count(": probes on the HTTP/2 functions") - said.count(
        ": no probes on HTTP/2 functions")


def join_again_and_again(test, client, ends):
    """Traces begin in the middle of one connection, of which all requests are compared.

    `ends` are the sides that are traced, with their pids.
    """
    pids = ",".join(map(str, ends.values()))
    client.requests(MORE)
    for join in range(JOINS):
        recording = test.path(f"recording-{join}")
        trace = test.trace("-vv", "-w", recording, "-p", pids, name=f"join-{join}")
        reports, whole = [], {}
        while set(whole) != set(ends):
            check(len(reports) < PATIENCE, f"{len(reports)} requests, whole are {whole}")
            reports += client.requests(BATCH)
            entries = trace.wait_entries(len(ends) * (len(reports) - 1))
            for end in set(ends) - set(whole):
                of_end = [entry for entry in entries if entry["side"] == end]
                if of_end and of_end[-1].at("capture.complete"):
                    whole[end] = len(of_end)
        # What reads the tables is out of the programs again.
        until(lambda: probed(trace) == 0, "HTTP/2 functions without probes")
        check(" probes on the HTTP/2 functions" in trace.stderr(), trace.stderr())
        reports += client.requests(MORE)
        complete = check_entries(trace.finish(len(ends) * len(reports)), reports)
        for end in ends:
            test.note(f"join {join}, {end}: {sum(complete[end])} of {len(complete[end])} complete")
            check(all(complete[end][-MORE:]), f"{end}: {complete[end]}")
            first = complete[end].index(True)
            check(all(complete[end][first:]), f"{end}: not complete again: {complete[end]}")
        replayed = test.tlstrace("-f", "json", "-r", recording)
        equal("exit status of the replay", replayed.poll(), 0)
        equal("the replay", replayed.text(), trace.text())


@case("bpf", "bpf_loop", "node", limit=60)
def node_and_node(test):
    server = NodeServer(test, "node_h2_server.js")
    client = LateClient(test, "/usr/bin/node", "late_client.js", server.port)
    join_again_and_again(test, client.asking_for("/size/5"),
                         {"client": client.pid, "server": server.pid})


@case("bpf", "bpf_loop", "h2load", "/usr/bin/php", limit=60)
def libcurl_and_nghttpd(test):
    server = Nghttpd(test)
    client = LateClient(test, "/usr/bin/php", "late_client.php", server.port)
    join_again_and_again(test, client.asking_for("/1k"),
                         {"client": client.pid, "server": server.pid})


@case("bpf", "bpf_loop", "nginx", "/usr/bin/php", limit=60)
def libcurl_of_a_server_that_cannot_be_asked(test):
    """nginx has HPACK code of its own: what the client's end knows is whole all the same."""
    server = Nginx(test, workers=1, http2=True)
    client = LateClient(test, "/usr/bin/php", "late_client.php", server.port)
    join_again_and_again(test, client.asking_for("/1k"), {"client": client.pid})
