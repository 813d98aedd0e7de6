# SPDX-License-Identifier: BSD-2-Clause
"""What tracing costs a Go server (targets/go, stripped): HTTP/1 by wrk and HTTP/2 by h2load.

The calls of a request are counted, to set beside the cost what their traps alone make.
"""

import collections
import os
import re

from lib import golang
from lib.golang import GoServer
from lib.servers import own_copy

from program_stats import enable_stats, program_names, programs_of
from rig import cpu_seconds, h2load, medians, say, wrk
from variants import Traced, Untraced

PATH = "/size/1024"
EMULATED, STEPPED = "emulated (jcc)", "stepped (ret)"


class Target:
    """What the variants and the loads expect of a server."""

    def __init__(self, test, path, load_env):
        server = GoServer(test, path, env=dict(os.environ, QUIET="1"))
        self.worker, self.port, self.load_env = server.pid, server.port, load_env
        self.http2_port, self.http2_requests = server.port, 0

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"


def _measure(test, target, variant_class, load):
    variant = variant_class(test, target)
    variant.begin()
    before = cpu_seconds(target.worker)
    requests, rate = load(target.url(PATH))
    cpu = cpu_seconds(target.worker) - before
    own = variant.end()
    figures = {"cpu_us": cpu / requests * 1e6, "rate": rate}
    if "tracer_cpu" in own:
        figures.update(tracer_cpu_us=own["tracer_cpu"] / requests * 1e6, lost=own["lost"],
                       whole=own["whole"] / requests)
    return figures


def _runs(test, target, load):
    """Runs a request of each of tlstrace's programs, and the ns of all of these."""
    stats = enable_stats()
    if stats < 0:
        return {}, {}
    try:
        traced = Traced(test, target)
        before = programs_of(traced.trace.pid)
        requests, _ = load(target.url(PATH))
        after, names = programs_of(traced.trace.pid), program_names()
        traced.end()
    finally:
        os.close(stats)
    runs, ns = collections.Counter(), collections.Counter()
    for number, (count, time) in after.items():
        old_count, old_time = before.get(number, (0, 0))
        name = str(names.get(number, number))
        runs[name] += (count - old_count) / requests
        ns[name] += (time - old_time) / requests
    return runs, ns


def _site_classes(test, target):
    """The class of the site that nearly all runs of a program are at; all entries are emulated."""
    output = test.tlstrace("-e", str(target.worker)).text()
    classes, function = collections.defaultdict(lambda: EMULATED), None
    for line in output.splitlines():
        if found := re.fullmatch(r"  crypto/tls\.\(\*Conn\)\.(\w+)", line):
            function = found[1].lower()
        elif line.startswith("    exit ") and " emulated " not in line:
            # The first exit is the deferred function's, where there is one, and comes before these.
            classes.setdefault(f"go_{function}_exit", STEPPED)
        elif line.startswith("    exit "):
            classes.setdefault(f"go_{function}_exit", EMULATED)
    return classes


def _product(runs, classes, costs):
    """What the traps of a request cost in µs, and how it comes about."""
    counts = collections.Counter()
    for name, count in runs.items():
        if not name.startswith("go_"):
            continue
        counts[classes[re.sub("_(regs|stack)$", "", name)]] += count
    ns = {kind: int(costs[kind]) for kind in counts}
    text = " + ".join(f"{count:.2f} x {ns[kind] / 1000:.2f}" for kind, count in counts.items())
    return sum(count * ns[kind] for kind, count in counts.items()) / 1000, text


def _one_load(test, target, name, load, costs, options):
    rounds = {variant: [] for variant in (Untraced, Traced)}
    for number in range(options.rounds):
        say(f"go: {name} round {number + 1}/{options.rounds}")
        for variant, figures in rounds.items():
            figures.append(_measure(test, target, variant, load))
    plain, traced = medians(rounds[Untraced]), medians(rounds[Traced])
    added = traced["cpu_us"] - plain["cpu_us"]
    lines = [f"{name}: server {plain['cpu_us']:.2f} -> {traced['cpu_us']:.2f} µs/request "
             f"({added:+.2f}, {added / plain['cpu_us']:+.0%}), {plain['rate']:.0f} -> "
             f"{traced['rate']:.0f} req/s; tlstrace {traced['tracer_cpu_us']:.2f} µs/request, "
             f"{traced['whole']:.4f} complete entries/request, lost "
             f"{sum(r['lost'] for r in rounds[Traced])}"]
    figures = {"plain": plain, "traced": traced, "added": added / plain["cpu_us"]}
    runs, ns = _runs(test, target, load)
    if runs:
        lines.append("  runs/request: " + ", ".join(
            f"{name} {count:.2f} x {ns[name] / count:.0f} ns"
            for name, count in sorted(runs.items()) if count > 0.01)
            + f"; all programs {sum(ns.values()) / 1000:.2f} µs/request")
    if runs and costs:
        figures["traps_us"], text = _product(runs, _site_classes(test, target), costs)
        lines.append(f"  traps alone: {text} = {figures['traps_us']:.2f} µs/request")
    return lines, figures


def go_server(test, server, options, costs):
    """`costs`: ns of a probe by class, of the part `sites`."""
    version = next((v for v in (golang.PATH, "1.19") if not golang.program_missing(v, "stripped")),
                   None)
    if not version:
        return ["no Go"], {}
    target = Target(test, own_copy(test, golang.program(version, "stripped"), "go-https"),
                    server.load_env)
    lines, figures = [f"built by {golang.identity(version)}"], {}
    for name, program in (("HTTP/1", wrk), ("HTTP/2", h2load)):
        def load(url, program=program):
            return program(test, target, url, options.seconds, options.connections)
        load(target.url(PATH))  # warms caches up; h2load learns how many are a round
        more, figures[name] = _one_load(test, target, name, load, costs, options)
        lines += more
    return lines, figures
