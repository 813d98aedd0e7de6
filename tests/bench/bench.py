#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures what tracing costs the traced, and what tlstrace itself needs. See docs/performance.md.

Loads on one nginx worker run in short rounds that take turns: one of each variant, again and
again, so that a change of the machine's mood meets all alike. The tables have the medians.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from lib import needs, pki, processes
from lib.case import Failure, Skip
from lib.test import Test

from parts import PARTS
from rig import H2LOAD, H2_CONNECTIONS, H2_STREAMS, Server, cpu_seconds, h2load, medians, say, wrk
from variants import VARIANTS

# Name: heading, target, what makes it, arguments for that.
LOADS = {
    "1k": ("1 KB, keep-alive", "/1k", wrk, ()),
    "100k": ("100 KB, keep-alive", "/100k", wrk, ()),
    "close": ("1 KB, a connection per request", "/1k", wrk, ("-H", "Connection: close")),
    "h2": (f"1 KB, HTTP/2, {H2_CONNECTIONS} x {H2_STREAMS} streams", "/1k", h2load, ()),
}
# Name in the figures, heading, format.
COLUMNS = (
    ("cpu_us", "nginx µs/req", "{:.2f}"), ("added_us", "added", "{:+.2f}"),
    ("added_share", "added %", "{:+.0%}"), ("rate", "req/s", "{:.0f}"),
    ("tracer_cpu_us", "tracer µs/req", "{:.2f}"), ("memory_mb", "peak RSS MB", "{:.1f}"),
    ("entries_share", "entries/req", "{:.4f}"), ("whole_share", "complete+tuple/req", "{:.4f}"),
    ("lost", "lost", "{:.0f}"))


def measure(test, server, variant_class, load, options):
    """One round: its figures by name."""
    _, target, program, more = LOADS[load]
    variant = variant_class(test, server)
    variant.begin()
    before = cpu_seconds(server.worker)
    requests, rate = program(test, server, variant.url(target), options.seconds,
                             options.connections, *more)
    cpu = cpu_seconds(server.worker) - before
    own = variant.end()
    figures = {"cpu_us": cpu / requests * 1e6, "rate": rate, "requests": requests, **own}
    if "tracer_cpu" in own:
        figures["tracer_cpu_us"] = own["tracer_cpu"] / requests * 1e6
    for key in {"entries", "whole"} & own.keys():
        figures[f"{key}_share"] = own[key] / requests
    if "entries" in own:
        figures["not_one_each"] = abs(own["entries"] - requests)
    return figures


def measure_loads(test, server, loads, options):
    """Medians: load -> variant -> figures."""
    result = {}
    for load in loads:
        variants = [v for v in VARIANTS if load in v.loads and v.available()]
        rounds = {variant.name: [] for variant in variants}
        for number in range(options.rounds):
            for variant in list(variants):
                try:
                    figures = measure(test, server, variant, load, options)
                except Skip as skip:
                    say(f"no row for {variant.name}: {skip}")
                    variants.remove(variant)
                    del rounds[variant.name]
                    continue
                rounds[variant.name].append(figures)
                say(f"{load} round {number + 1}/{options.rounds} {variant.name}: "
                    f"{figures['cpu_us']:.2f} µs/req, {figures['rate']:.0f} req/s")
        result[load] = {name: medians(figures) for name, figures in rounds.items()}
        base = result[load]["untraced"]["cpu_us"]
        for name, figures in result[load].items():
            if name != "untraced":
                figures["added_us"] = figures["cpu_us"] - base
                figures["added_share"] = figures["cpu_us"] / base - 1
            for key in {"lost", "not_one_each"} & figures.keys():
                figures[key] = sum(r[key] for r in rounds[name])  # each one matters
    return result


def table(load, variants):
    rows = [[LOADS[load][0]] + [heading for _, heading, _ in COLUMNS]]
    for name, figures in variants.items():
        rows.append([name] + [form.format(figures[key]) if key in figures else "-"
                              for key, _, form in COLUMNS])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths[0] = max(len(heading) for heading, *_ in LOADS.values())
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths))) for row in rows]


def bars(loads, parts):
    """What issues 3, 5 and 6 ask for: (text, value, limit, unit)."""
    small, large, many = loads.get("1k"), parts.get("download"), parts.get("connections")
    if small:
        ours = small["tlstrace"]
        yield "added CPU, of what classic adds", ours["added_us"] / small["classic"]["added_us"], \
            0.25, ""
        yield "added CPU, of untraced", 100 * ours["added_share"], 30, " %"
        yield "tlstrace's CPU per request", ours["tracer_cpu_us"], 4, " µs"
        yield "requests without a whole entry", max(0, 100 * (1 - ours["whole_share"])), 0, " %"
        yield "events lost", ours["lost"], 0, ""
    if "h2" in loads:
        ours = loads["h2"]["tlstrace"]
        yield "HTTP/2: added CPU, of untraced", 100 * ours["added_share"], 35, " %"
        yield "HTTP/2: requests without one entry each", ours["not_one_each"], 0, ""
        yield "HTTP/2: events lost", ours["lost"], 0, ""
    for protocol, figures in parts.get("go", {}).items():
        yield f"Go, {protocol}: added CPU, of untraced", 100 * figures["added"], 30, " %"
    if large:
        yield "download: added CPU", 100 * large["added"], 3, " %"
        yield "download: moved to user space", large["recorded"] / 1e6, 10, " MB"
        yield "download: peak RSS", large["memory_mb"], 64, " MB"
    if many:
        yield "open connections: peak RSS", many["memory_mb"], 128, " MB"
        # Not the first pages: what a process has touched once may stay with it.
        yield "open connections: kept after the close", many["closed"] - many["before"], \
            (many["open"] - many["before"]) / 4, " MB"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tlstrace", default=os.path.join(HERE, "../../build/tlstrace"))
    parser.add_argument("--rounds", type=int, default=5, help="of each variant")
    parser.add_argument("--seconds", type=int, default=1, help="of load in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", metavar="NAME", action="append",
                        choices=[*LOADS, *PARTS], help=f"of {', '.join([*LOADS, *PARTS])}; "
                        "repeatable")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


def run(options, directory):
    wanted = options.only or [*LOADS, *PARTS]
    test = Test(directory, os.path.abspath(options.tlstrace), pki.make(directory), directory)
    server = Server(test)
    wrk(test, server, server.url("/1k"), 1, options.connections)  # warms caches up
    h2load(test, server, server.url("/1k"), options.seconds, options.connections)
    print(f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} CPUs, Linux "
          f"{platform.release()}, load average {os.getloadavg()[0]:.1f} at the start\n"
          f"medians of {options.rounds} rounds of {options.seconds} s, "
          f"{options.connections} connections; lost: the sum of all rounds\n")
    loads = measure_loads(test, server, [n for n in LOADS if n in wanted], options)
    for load, variants in loads.items():
        print("\n".join(table(load, variants)), flush=True)
    parts = {}
    for name in (n for n in PARTS if n in wanted):
        say(name)
        title, part = PARTS[name]
        lines, parts[name] = part(test, server, options)
        print(f"\n{title}\n" + "\n".join(f"  {line}" for line in lines), flush=True)
    print("\nbars")
    for text, value, limit, unit in bars(loads, parts):
        print(f"  {text:40} {value:8.2f}{unit}, at most {limit:.2f}{unit}: "
              f"{'met' if value <= limit else 'NOT met'}")
    return {"loads": loads, "parts": parts}


def main():
    options = arguments()
    for need in ("bpf", "nginx", "wrk", H2LOAD):
        reason = needs.missing(need, options.tlstrace, "")
        if reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 3
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    processes.adopt_orphans()
    directory = tempfile.mkdtemp(prefix="tlstrace-bench-")
    try:
        figures = run(options, directory)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        processes.end_descendants()
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
