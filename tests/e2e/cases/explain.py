# SPDX-License-Identifier: BSD-2-Clause
"""-e: what is found in a process, and what would be attached to it."""

import os
import re
import subprocess

from lib.case import Skip, case, check, equal
from lib.clients import CURL
from lib.processes import free_pid
from lib.servers import Nginx, own_copy
from lib.test import PYTHON

UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
SITE = re.compile(r"    (entry|exit) +0x([0-9a-f]+) +\+(\d+) "
                  r"+(emulated|single-stepped|uretprobe) (.+)")


def _explain(test, pid, *before, program=None):
    """What -e says of a process, which it must be able to."""
    process = test.run([*before, program or test.program, "-e", str(pid)], timeout=20)
    equal(f"exit status\n{process.text('stderr')}", process.poll(), 0)
    equal("stderr", process.text("stderr"), "")
    text = process.text()
    test.note(text)
    for line in text.splitlines():
        check(len(line) <= 100, f"longer than 100 columns: {line!r}")
        check(line.isprintable(), f"not printable: {line!r}")
    return text


def _refused(test, pattern, pid, *before, program=None):
    process = test.run([*before, program or test.program, "-e", str(pid)], timeout=20)
    equal("exit status", process.poll(), 1)
    equal("stdout", process.text(), "")
    check(re.fullmatch(f"tlstrace: .*{pattern}.*\n", process.text("stderr")),
          process.text("stderr"))


def _sites(text):
    """function -> [(kind, file offset, distance, cost, reason)], of TLS functions"""
    sites, function = {}, None
    for line in text.splitlines():
        name = re.fullmatch(r"  ((?:SSL|BIO)_\w+)", line)
        site = SITE.fullmatch(line)
        if name:
            function = sites.setdefault(name[1], [])
        elif site:
            function.append((site[1], int(site[2], 16), int(site[3]), site[4], site[5]))
    for name in ("BIO_read", "BIO_write"):
        check(not sites or sites.pop(name, None), f"no sites for {name}")
    return sites


def _code_offsets(path):
    """function -> offset of its first byte in a library, as readelf has it."""
    def readelf(*options):
        return subprocess.run(["readelf", "-W", *options, path], check=True, text=True,
                              capture_output=True).stdout

    segments = [[int(number, 16) for number in segment] for segment in re.findall(
        r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)", readelf("-l"))]
    offsets = {}
    for value, name in re.findall(r"([0-9a-f]{16}) +\d+ FUNC +GLOBAL +\w+ +\d+ (SSL_\w+)",
                                  readelf("--dyn-syms")):
        address = int(value, 16)
        for offset, start, size in segments:
            if start <= address < start + size:
                offsets[name] = address - start + offset
    return offsets


@case("bpf", "nginx")
def nginx_worker(test):
    """All functions of libssl with their sites, which are where readelf says that the code is."""
    text = _explain(test, Nginx(test).workers[0])
    check(re.search(r"^executable +/\S*nginx$", text, re.MULTILINE), text)
    check("_dl_debug_state at 0x" in text, text)
    check(re.search(r"^tracing +possible$", text, re.MULTILINE), text)
    check(re.search(r"^instructions +tried", text, re.MULTILINE), text)
    library = re.search(r"^TLS code +(/\S*libssl\S*)\n +library +openssl$", text, re.MULTILINE)
    check(library, text)
    sites = _sites(text)
    begins = _code_offsets(library[1])
    for function, found in sites.items():
        check(found or "needs no probe" in text, f"no sites for {function}")
        for kind, offset, distance, _, reason in found:
            equal(f"{function}'s {kind}", offset - distance, begins[function])
            check(len(reason) > 5, f"no reason for {function}'s {kind}")
    for function in ("SSL_read", "SSL_write"):
        equal(f"kinds of sites in {function}", {site[0] for site in sites[function]},
              {"entry", "exit"})
        if b"/debian:12" in _system():
            equal(f"cost of {function}", [site[3] for site in sites[function]],
                  ["emulated", "emulated"])
    missing = re.search(r"it does not have: (.*)", text)
    for function in (missing[1].split() if missing else ()):
        check(function not in begins, f"{function} is in the library")
    number = re.search(r"^result +(\d+) probes in (\d+) functions of 1 file:$", text, re.MULTILINE)
    check(number, text)
    equal("probes", int(number[1]), sum(len(found) for found in sites.values()))


def _system():
    with open("/etc/os-release", "rb") as file:
        fields = dict(line.rstrip().split(b"=", 1) for line in file if b"=" in line)
    return b"/" + fields.get(b"ID", b"") + b":" + fields.get(b"VERSION_ID", b"").strip(b'"')


@case("bpf")
def without_tls(test):
    text = _explain(test, test.start(["cat"], stdin=subprocess.PIPE).pid)
    check(re.search(r"^result +no TLS code", text, re.MULTILINE), text)
    check("-p would wait" in text, text)
    equal("sites", _sites(text), {})


@case("bpf")
def another_tls_library(test):
    """A library that is not known is the reason why nothing is seen."""
    name = next((name for name in ("libgnutls.so.30", "libnspr4.so")
                 if os.path.exists(f"/usr/lib/x86_64-linux-gnu/{name}")), None)
    if not name:
        raise Skip("neither GnuTLS nor NSPR here")
    target = test.start([PYTHON, "-c",
                         f"import ctypes; ctypes.CDLL('{name}'); print('loaded', flush=True); "
                         "input()"], stdin=subprocess.PIPE)
    target.wait_text("loaded")
    text = _explain(test, target.pid)
    check(re.search(rf"^no TLS code +/\S*{re.escape(name)}\S*\n +library +(GnuTLS|NSPR)", text,
                    re.MULTILINE), text)
    check(re.search(r"^result +no TLS code", text, re.MULTILINE), text)


@case()
def not_there(test):
    pid = free_pid()
    _refused(test, rf"\b{pid}\b", pid)


@case("setpriv", "root")
def kernel_thread(test):
    if not os.path.exists("/proc/2/stat") or os.path.exists("/proc/2/exe"):
        raise Skip("no kernel threads to be seen here")
    _refused(test, "kernel thread", 2)
    program = own_copy(test, test.program)
    _refused(test, "kernel thread", 2, *UNPRIVILEGED, program=program)


@case()
def itself(test):
    process = test.run(["sh", "-c", f"exec {test.program} -e $$"], timeout=20)
    equal("exit status", process.poll(), 1)
    check("itself" in process.text("stderr"), process.text("stderr"))


@case("setpriv", "root")
def as_nobody(test):
    """Of another's process little can be told, of one's own all but what the kernel emulates."""
    program = own_copy(test, test.program)
    text = _explain(test, os.getpid(), *UNPRIVILEGED, program=program)
    check(re.search(r"^executable +cannot be told.*root", text, re.MULTILINE), text)
    check(re.search(r"^TLS code +cannot be told.*root", text, re.MULTILINE), text)
    target = test.start([*UNPRIVILEGED, PYTHON, "-c",
                         "import ssl; print('loaded', flush=True); input()"],
                        stdin=subprocess.PIPE)
    target.wait_text("loaded")
    text = _explain(test, target.pid, *UNPRIVILEGED, program=program)
    check(re.search(r"^instructions +assumed.*root", text, re.MULTILINE), text)
    check(re.search(r"^tracing +not possible.*root", text, re.MULTILINE), text)
    check("SSL_read" in _sites(text), text)
    check("nothing can be attached" in text, text)


@case()
def exclusive(test):
    pid = str(os.getpid())
    for arguments in (["-e", pid, "true"], ["-e", pid, "-p", pid], ["-e", pid, "-b", CURL],
                      ["-e", pid, "--check"], ["-e", "x"], ["-e", "0"], ["-e", f"{pid},{pid}"]):
        process = test.tlstrace(*arguments)
        equal(f"exit status with {arguments}", process.poll(), 2)
        equal("stdout", process.text(), "")
