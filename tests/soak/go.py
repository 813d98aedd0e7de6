#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Go under load while tlstrace comes and goes: nobody crashes, no request fails, no entry is wrong.

A Go server, and two clients of it (HTTP/1 and HTTP/2), with many goroutines whose stacks grow and a
collector that runs all the time. tlstrace is attached to all of them again and again. Every request
has a number, in its path, in a header of the request and of the response, and in the sizes of both
bodies: an entry's must agree.
"""

import argparse
import collections
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from lib import golang, needs, pki, processes
from lib.case import Failure
from lib.entries import parse
from lib.golang import GoServer
from lib.servers import own_copy
from lib.test import Test

MAX_WAITING = 4    # traces whose entries are still to be looked at
BODY_BYTES = 5000  # targets/go's load: sizes are below it


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tlstrace", default=os.path.join(HERE, "../../build/tlstrace"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=5, help="seconds from attach to attach")
    parser.add_argument("--keep", metavar="DIRECTORY",
                        help="recordings of traces with a wrong entry or one with desync")
    parser.add_argument("--workers", type=int, default=32, help="goroutines of each client")
    parser.add_argument("--build", default="1.19 stripped", help="version and form of the program")
    return parser.parse_args()


def numbers(entry):
    """All the numbers that an entry tells of its request."""
    path = entry.at("url.path")
    if path is not None:
        yield int(path.rpartition("/")[2])
    for message in ("request", "response"):
        for value in entry.header(message, "x-number") or []:
            yield int(value)


def wrong(entry):
    """What is wrong with an entry, or None."""
    found = set(numbers(entry))
    if len(found) > 1:
        return f"numbers {found}"
    if entry.at("capture.complete") and not found:
        return "complete, and no number"
    sizes = {entry.at(f"http.{message}.body.size") for message in ("request", "response")
             if entry.at(f"http.{message}")}
    if found and entry.at("capture.complete") and sizes != {found.pop() % BODY_BYTES}:
        return f"sizes {sizes}"
    if entry.at("http.response.status_code") not in (None, 200):
        return f"status {entry.at('http.response.status_code')}"
    if entry.at("http.request.method") not in (None, "POST"):
        return f"method {entry.at('http.request.method')}"
    return None


def check(path):
    """What the entries of a trace are, counted, and at most ten of those that are wrong."""
    # Not validated each: with as many entries that takes longer than the trace.
    with open(path, encoding="utf-8") as file:
        entries = parse(file.read(), check_each=False)
    os.unlink(path)
    totals, faults = collections.Counter(entries=len(entries)), []
    for entry in entries:
        reason = entry.at("capture.reason") or "complete"
        totals[f"{entry.at('network.protocol.version')} {entry['side']} {reason}"] += 1
        totals["desync"] += reason == "desync"
        fault = wrong(entry)
        if fault:
            totals["wrong"] += 1
            faults.append(f"{fault}: {json.dumps(entry)}")
    return totals, faults[:10]


class Traces:
    """Traces of all of them, one after the other; what they showed is looked at meanwhile."""

    def __init__(self, test, pids, options, pool):
        self.test, self.pids, self.options, self.pool = test, pids, options, pool
        self.totals, self.count, self.waiting = collections.Counter(), 0, collections.deque()

    def one(self):
        """Attaches, and detaches when its time is over."""
        end = time.monotonic() + self.options.every
        recording = self.test.path(f"{self.count}.rec")
        more = ["-w", recording] if self.options.keep else []
        trace = self.test.trace("-p", ",".join(map(str, self.pids)), *more,
                                name=f"trace-{self.count}")
        time.sleep(max(0, end - time.monotonic()))
        status = trace.stop()
        if status != 0:
            raise Failure(f"tlstrace ended with {status}:\n{trace.stderr()}")
        self.count += 1
        self.totals["lost"] += trace.totals()[1]
        self.waiting.append((self.pool.apply_async(check, [trace.path]), recording))
        while self.waiting and (self.waiting[0][0].ready() or len(self.waiting) > MAX_WAITING):
            self.take()

    def take(self):
        result, recording = self.waiting.popleft()
        totals, faults = result.get()
        self.totals.update(totals)
        for fault in faults:
            print(f"wrong: {fault}", flush=True)
        if self.options.keep and (totals["wrong"] or totals["desync"]):
            shutil.copy(recording, self.options.keep)
        if self.options.keep:
            os.unlink(recording)

    def end(self):
        while self.waiting:
            self.take()


def soak(test, options):
    """Whether all went well."""
    version, form = options.build.split()
    path = own_copy(test, golang.program(version, form), "go-https")
    environment = dict(os.environ, GOGC="5", GOMAXPROCS="4", QUIET="1", GROW="1")
    server = GoServer(test, path, env=environment)
    clients = [test.start([path, "load", server.port, protocol, options.workers], name=protocol,
                          env=environment, stdin=subprocess.PIPE)
               for protocol in ("http1", "http2")]
    begin = time.monotonic()
    with multiprocessing.Pool(1) as pool:
        traces = Traces(test, [server.pid, *(c.pid for c in clients)], options, pool)
        while time.monotonic() < begin + 60 * options.minutes:
            traces.one()
            for process in (server.process, *clients):
                if process.poll() is not None:
                    raise Failure(f"{process.name} ended with {process.poll()}:\n"
                                  f"{process.output()}")
        between = (time.monotonic() - begin) / traces.count
        traces.end()
    totals, good = traces.totals, True
    for client in clients:
        client.close_stdin()
        status = client.wait(60)
        print(f"{client.name}: status {status}, {client.text().strip()}")
        print(client.text("stderr")[-2000:], end="")
        good = good and status == 0 and json.loads(client.text())["failed"] == 0
    good = good and server.process.poll() is None and not totals["wrong"]
    print(f"{traces.count} attaches, one in {between:.1f} s, {version} {form}:")
    for name, count in sorted(totals.items()):
        print(f"  {name}: {count}")
    return good and totals["entries"] > 0


def main():
    options = arguments()
    for need in ("bpf", f"go {options.build}"):
        reason = needs.missing(need, options.tlstrace, "")
        if reason:
            print(f"soak: {reason}", file=sys.stderr)
            return 3
    processes.adopt_orphans()
    directory = tempfile.mkdtemp(prefix="tlstrace-soak-")
    try:
        test = Test(directory, os.path.abspath(options.tlstrace), pki.make(directory), directory)
        good = soak(test, options)
    except Failure as failure:
        print(f"soak: {failure}", file=sys.stderr)
        good = False
    finally:
        processes.end_descendants()
        shutil.rmtree(directory, ignore_errors=True)
    print("soak: all went well" if good else "soak: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
