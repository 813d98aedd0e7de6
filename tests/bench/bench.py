#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures what tracing costs: CPU of an nginx worker per HTTPS request, requests a second, and
what tlstrace itself needs.

nginx (one worker, keep-alive, 1 KB bodies from memory) under wrk, in short rounds that take turns:
one of each variant, again and again, so that a change of the machine's mood meets all alike. The
table has the medians. A variant is a class below: what runs beside nginx while wrk does.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from lib import needs, pki, processes
from lib.case import Failure
from lib.servers import NGINX, Nginx, own_copy
from lib.test import Test

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
TARGET = "/memory/1k"


def cpu_seconds(pid):
    """User and system time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def peak_memory_mb(pid):
    with open(f"/proc/{pid}/status", encoding="latin-1") as file:
        return int(re.search(r"VmHWM:\s*(\d+) kB", file.read())[1]) / 1024


def lines_with(path, text):
    with open(path, "rb") as file:
        return sum(text in line for line in file)


class Untraced:
    """nginx alone."""

    name = "untraced"

    def __init__(self, test, nginx):
        pass

    def begin(self):
        """Called once it is at work, before the load."""

    def end(self):
        """Called after the load; returns figures of its own, by the names of COLUMNS."""
        return {}


class Traced:
    """tlstrace -b NGINX -f json -o FILE."""

    name = "tlstrace"

    def __init__(self, test, nginx):
        self._trace = test.trace("-b", nginx.binary)
        self._cpu_at_begin = 0

    def begin(self):
        self._cpu_at_begin = cpu_seconds(self._trace.pid)

    def end(self):
        cpu = cpu_seconds(self._trace.pid) - self._cpu_at_begin
        memory = peak_memory_mb(self._trace.pid)
        status = self._trace.stop()
        if status != 0:
            raise Failure(f"tlstrace ended with {status}:\n{self._trace.stderr()}")
        entries, lost, _ = self._trace.totals()
        figures = {"tracer_cpu": cpu, "tracer_memory_mb": memory, "entries": entries,
                   "complete": lines_with(self._trace.path, b'"complete":true'), "lost": lost}
        os.unlink(self._trace.path)
        return figures


VARIANTS = (Untraced, Traced)


def wrk(test, nginx, options):
    """Runs the load; returns (requests, requests a second)."""
    process = test.run(["wrk", "-t1", "-c", options.connections, "-d", f"{options.seconds}s",
                        nginx.url(TARGET)], timeout=options.seconds + 30)
    text = process.text()
    if process.poll() != 0 or "Socket errors" in text or "Non-2xx" in text:
        raise Failure(f"wrk:\n{process.output()}")
    return (int(re.search(r"(\d+) requests in", text)[1]),
            float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1]))


def measure(test, nginx, variant_class, options):
    """One round: its figures by name."""
    variant = variant_class(test, nginx)
    worker = nginx.workers[0]
    variant.begin()
    before = cpu_seconds(worker)
    requests, rate = wrk(test, nginx, options)
    cpu = cpu_seconds(worker) - before
    own = variant.end()
    figures = {"cpu_us": cpu / requests * 1e6, "rate": rate, "requests": requests}
    if "tracer_cpu" in own:
        figures["tracer_cpu_us"] = own.pop("tracer_cpu") / requests * 1e6
    return {**figures, **own}


# Name in the figures, heading, format; the first two also as a ratio to the first variant.
COLUMNS = (
    ("cpu_us", "nginx µs/req", "{:.2f}"), ("rate", "req/s", "{:.0f}"),
    ("tracer_cpu_us", "tracer µs/req", "{:.2f}"), ("tracer_memory_mb", "peak RSS MB", "{:.1f}"),
    ("requests", "requests", "{:.0f}"), ("entries", "entries", "{:.0f}"),
    ("complete", "complete", "{:.0f}"), ("lost", "events lost", "{:.0f}"))
RATIOS = ("cpu_us", "rate")


def table(rounds):
    """The medians of every variant's rounds, as lines of text."""
    medians = {name: {key: statistics.median(r[key] for r in figures) for key in figures[0]}
               for name, figures in rounds.items()}
    base = next(iter(medians.values()))
    rows = [["variant"]]
    for key, heading, _ in COLUMNS:
        rows[0] += [heading] + (["ratio"] if key in RATIOS else [])
    for name, values in medians.items():
        row = [name]
        for key, _, form in COLUMNS:
            row.append(form.format(values[key]) if key in values else "-")
            if key in RATIOS:
                row.append(f"{values[key] / base[key]:.2f}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths))) for row in rows]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tlstrace", default=os.path.join(HERE, "../../build/tlstrace"))
    parser.add_argument("--rounds", type=int, default=7, help="of each variant")
    parser.add_argument("--seconds", type=int, default=2, help="of load in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", metavar="FILE", help="write the figures of every round to FILE")
    return parser.parse_args()


def run(options, directory):
    test = Test(directory, os.path.abspath(options.tlstrace), pki.make(directory), directory)
    # A copy, so that nginxes of others on this host are not in the count.
    nginx = Nginx(test, workers=1, binary=own_copy(test, NGINX), log=False)
    wrk(test, nginx, options)  # the first round warms caches up and is not counted
    rounds = {variant.name: [] for variant in VARIANTS}
    for number in range(options.rounds):
        for variant in VARIANTS:
            figures = measure(test, nginx, variant, options)
            rounds[variant.name].append(figures)
            print(f"bench: round {number + 1}/{options.rounds} {variant.name}: "
                  f"{figures['cpu_us']:.2f} µs/req, {figures['rate']:.0f} req/s", file=sys.stderr)
    return rounds


def main():
    options = arguments()
    for need in ("bpf", "nginx", "wrk"):
        reason = needs.missing(need, options.tlstrace, "")
        if reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 3
    processes.adopt_orphans()
    directory = tempfile.mkdtemp(prefix="tlstrace-bench-")
    try:
        rounds = run(options, directory)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        processes.end_descendants()
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rounds, file, indent=1)
    print(f"medians of {options.rounds} rounds of {options.seconds} s, "
          f"{options.connections} connections, 1 KB, keep-alive")
    print("\n".join(table(rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
