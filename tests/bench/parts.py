# SPDX-License-Identifier: BSD-2-Clause
"""The measurements besides the loads: each gives lines of text, and figures for the bars."""

import os
import re
import resource
import shutil
import subprocess
import time

from lib.case import Failure
from lib.servers import own_copy

from goserver import go_server
from program_stats import enable_stats, program_names, programs_of
from rig import DOWNLOAD_BYTES, cpu_seconds, medians, memory_mb, say, start_wrk, wrk
from variants import Classic, Traced

HERE = os.path.dirname(os.path.abspath(__file__))
CURL = "/usr/bin/curl"
OPEN_CONNECTIONS = 10000
# The first requests spread over ten seconds, then each connection has one every ten.
SLOW_LOAD = """
local connections, asked = {connections}, 0
function delay()
    asked = asked + 1
    return asked <= connections and math.floor(asked * 10000 / connections) or 10000
end
"""


def _recorded(test, server, variant, load):
    """Bytes that `load` had moved to user space: the size of a recording of it."""
    path = test.path("recording")
    traced = variant(test, server, "-w", path)
    traced.begin()
    result = load()
    traced.end()
    size = os.path.getsize(path)
    os.unlink(path)
    return size, result


def moved(test, server, options):
    """Bytes to user space per body byte, under wrk."""
    lines, figures = [], {}
    for target, size in (("/1k", 1 << 10), ("/100k", 100 << 10)):
        for variant in (Classic, Traced):
            recorded, (requests, _) = _recorded(
                test, server, variant,
                lambda target=target: wrk(test, server, server.url(target), 1,
                                          options.connections))
            share = recorded / (requests * size)
            figures[f"{variant.name}{target}"] = share
            lines.append(f"{variant.name:9} {target:6} {recorded / requests:10.0f} bytes/request "
                         f"{share:9.4f} bytes/body byte")
    return lines, figures


def _curl(test, server, binary):
    """Downloads the large file; returns CPU seconds of (client, server)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = cpu_seconds(server.worker)
    process = test.run([binary, "-sSk", "--http1.1", "-o", "/dev/null", "-w", "%{size_download}",
                        server.url("/1g")], timeout=60, env=server.env)
    if process.poll() != 0 or process.text() != str(DOWNLOAD_BYTES):
        raise Failure(f"curl:\n{process.output()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return client, cpu_seconds(server.worker) - before


def download(test, server, options):
    """1 GB over one connection; client and server traced, with the same copy of libssl."""
    if not os.path.exists(CURL):
        return ["no curl"], {}
    binary = own_copy(test, CURL)
    _curl(test, server, binary)  # fills the page cache
    rounds = {"untraced": [], "tlstrace": []}
    for number in range(options.rounds):
        say(f"download: round {number + 1}/{options.rounds}")
        client, worker = _curl(test, server, binary)
        rounds["untraced"].append({"client": client, "server": worker})
        traced = Traced(test, server, "-b", binary)
        traced.begin()
        client, worker = _curl(test, server, binary)
        rounds["tlstrace"].append({"client": client, "server": worker, **traced.end()})
    recorded, _ = _recorded(test, server, lambda *a: Traced(*a, "-b", binary),
                            lambda: _curl(test, server, binary))
    plain, traced = (medians(rounds[name]) for name in rounds)
    added = (traced["client"] + traced["server"]) / (plain["client"] + plain["server"]) - 1
    lines = [f"{name:9} client {m['client']:.3f} s, server {m['server']:.3f} s CPU"
             for name, m in (("untraced", plain), ("tlstrace", traced))]
    lines += [f"added {100 * added:+.1f} % (client {traced['client'] / plain['client'] - 1:+.1%}, "
              f"server {traced['server'] / plain['server'] - 1:+.1%}); tlstrace itself "
              f"{traced['tracer_cpu'] * 1e3:.0f} ms",
              f"moved to user space: {recorded} bytes, {recorded / DOWNLOAD_BYTES / 2:.7f} per "
              f"body byte (two sides); peak RSS {traced['memory_mb']:.1f} MB; complete entries "
              f"{traced['whole']:.0f} of 2, lost {traced['lost']:.0f}"]
    return lines, {"added": added, "recorded": recorded, **traced}


def connections(test, server, _options):
    """Many open connections with a request each in ten seconds; twice, to see memory used again."""
    script = test.write("slow.lua", SLOW_LOAD.format(connections=OPEN_CONNECTIONS))
    traced = Traced(test, server)
    figures = {"before": memory_mb(traced.trace.pid, "VmRSS")}
    traced.begin()
    lines, requests = [], 0
    for wave in ("first", "again"):
        load = start_wrk(test, server, server.url("/1k"), 22, OPEN_CONNECTIONS, "--timeout", "30s",
                         "-s", script)
        time.sleep(20)
        figures["open"] = memory_mb(traced.trace.pid, "VmRSS")
        descriptors = len(os.listdir(f"/proc/{server.worker}/fd"))
        if load.wait() != 0:
            raise Failure(f"wrk:\n{load.output()}")
        time.sleep(3)
        figures["closed"] = memory_mb(traced.trace.pid, "VmRSS")
        requests += int(re.search(r"(\d+) requests in", load.text())[1])
        lines.append(f"{wave}: {descriptors} descriptors in nginx, RSS open {figures['open']:.1f} "
                     f"MB, 3 s after close {figures['closed']:.1f} MB")
    figures.update(traced.end(), requests=requests)
    return lines + [
        f"{requests} requests, {figures['whole']} complete entries with a connection, "
        f"{figures['lost']} lost",
        f"RSS before {figures['before']:.1f} MB, peak {figures['memory_mb']:.1f} MB; CPU "
        f"{figures['tracer_cpu'] * 1e3:.0f} ms"], figures


def start(test, _server, options):
    """What a trace costs that sees nothing: CPU of tlstrace and its children, and time, in ms."""
    runs = {"a command that does nothing": ["true"], "all programs loaded": ["--check"]}
    found = {name: [] for name in runs}
    for _ in range(4 * options.rounds):
        for name, arguments in runs.items():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            before = time.monotonic()
            process = test.tlstrace(*arguments)
            if process.poll() != 0:
                raise Failure(f"tlstrace {' '.join(arguments)}:\n{process.output()}")
            wall = time.monotonic() - before
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name].append({"user": 1e3 * (after.ru_utime - used.ru_utime),
                                "system": 1e3 * (after.ru_stime - used.ru_stime),
                                "wall": 1e3 * wall})
    figures = {name: medians(rounds) for name, rounds in found.items()}
    return [f"{name:28} {m['user'] + m['system']:6.1f} ms CPU ({m['user']:.1f} user, "
            f"{m['system']:.1f} system), {m['wall']:6.1f} ms until its end"
            for name, m in figures.items()], figures


def idle(test, server, _options):
    traced = Traced(test, server)
    time.sleep(0.5)
    traced.begin()
    time.sleep(5)
    cpu = traced.end()["tracer_cpu"]
    return [f"{cpu * 1e3:.2f} ms CPU in 5 s ({cpu / 5:.4%})"], {"share": cpu / 5}


def sites(test, _server, _options):
    """ns per probe by the class of its site, without a program (site_cost.c)."""
    compiler = shutil.which("cc")
    if not compiler:
        return ["no C compiler"], {}
    binary = test.path("site_cost")
    subprocess.run([compiler, "-D_GNU_SOURCE", "-O1", "-o", binary,
                    os.path.join(HERE, "site_cost.c")], check=True)
    process = test.run([binary])
    if process.poll() != 0:
        return [f"site_cost: {process.text('stderr').strip() or 'no uprobe events here'}"], {}
    figures = dict(line.split("\t") for line in process.text().splitlines())
    return [f"{name:36} {int(ns):6} ns" for name, ns in figures.items()], figures


def programs(test, server, options):
    """How long tlstrace's BPF programs run per request (1 KB); the clock itself adds to it."""
    stats = enable_stats()
    if stats < 0:
        return ["the kernel does not count"], {}
    lines, totals = [], {}
    try:
        for variant in (Classic, Traced):
            traced = variant(test, server)
            before = programs_of(traced.trace.pid)
            requests, _ = wrk(test, server, server.url("/1k"), 1, options.connections)
            after, names = programs_of(traced.trace.pid), program_names()
            traced.end()
            totals[variant.name] = 0
            for number, (runs, ns) in sorted(after.items()):
                runs -= before.get(number, (0, 0))[0]
                ns -= before.get(number, (0, 0))[1]
                if runs < requests / 100:
                    continue
                totals[variant.name] += ns / requests
                lines.append(f"{variant.name:9} {names.get(number, number):16} "
                             f"{runs / requests:5.2f} runs/request {ns / runs:6.0f} ns/run "
                             f"{ns / requests:6.0f} ns/request")
            lines.append(f"{variant.name:9} {'all':16} {'':31}{totals[variant.name]:7.0f} "
                         "ns/request")
    finally:
        os.close(stats)
    return lines, totals


PARTS = {
    "moved": ("bytes moved to user space (recordings of 1 s)", moved),
    "download": ("1 GB download, curl and nginx traced", download),
    "connections": (f"{OPEN_CONNECTIONS} connections, a request each per 10 s", connections),
    "start": ("start and end of a trace that sees nothing", start),
    "idle": ("tlstrace with nothing to do", idle),
    "sites": ("a probe by the class of its site, without a program", sites),
    "go": ("a Go server at full load, 1 KB",
           lambda test, server, options: go_server(test, server, options,
                                                   sites(test, server, options)[1])),
    "programs": ("BPF programs per request of 1 KB, by the kernel's count", programs),
}
