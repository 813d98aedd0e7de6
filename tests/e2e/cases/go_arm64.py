# SPDX-License-Identifier: BSD-2-Clause
"""Where the probes of Go programs for arm64 would go: targets/go, built for it here, against what
LLVM's disassembler makes of its code. Nothing is traced.
"""

import collections
import os
import re
import subprocess

from lib import golang
from lib.case import case, check, equal

LIMIT_SECONDS = 180  # a build of Go's library for another machine
TLS_FUNCTIONS = {f"crypto/tls.(*Conn).{name}"
                 for name in ("Read", "Write", "Close", "clientHandshake", "serverHandshake")}
# What may be before the check of the stack's size: it changes no argument.
CHECK = re.compile(r"(ldr x(16|1), \[x28, #16\]|(mov|sub) x(17|2), sp.*|cmp (sp|x17|x2), x(16|1))")

Function = collections.namedtuple("Function", "address size abi kept entry exits")


def _sites(test, path):
    """The version and what go-sites tells of each function."""
    tool = os.path.join(os.path.dirname(test.program), "go-sites")
    done = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    equal(f"exit status of go-sites: {done.stdout}", done.returncode, 0)
    version, *lines = done.stdout.splitlines()
    functions = {}
    for line in lines:
        site = re.fullmatch(r"(\S+) (\w+) (\w+) (registers|stack) (kept|unkept) (\w+)\+0/e"
                            r"((?: \w+/e)+)", line)
        check(site, f"no sites, or not all of them are simulated: {line}")
        name, address, size, abi, kept, entry, exits = site.groups()
        functions[name] = Function(int(address, 16), int(size, 16), abi, kept == "kept",
                                   int(entry, 16),
                                   [int(exit[:-2], 16) for exit in exits.split()])
    return version.split()[0], functions


def _disassembled(path, function):
    """distance from its begin -> instruction, of a function"""
    done = subprocess.run(["llvm-objdump", "-d", "--no-show-raw-insn", "--mattr=+lse",
                           f"--start-address={function.address:#x}",
                           f"--stop-address={function.address + function.size:#x}", path],
                          capture_output=True, text=True, check=True)
    found = re.findall(r"^ *([0-9a-f]+):\s+(\S.*?)\s*$", done.stdout, re.MULTILINE)
    return {int(at, 16) - function.address: re.sub(r"\s+", " ", text) for at, text in found}


def _expect_function(name, function, code):
    returns = [at for at, text in code.items() if text == "ret"]
    equal(f"returns of {name}", function.exits, returns)
    before = [text for at, text in sorted(code.items()) if at < function.entry]
    check(before and all(CHECK.fullmatch(text) for text in before), f"{name} begins: {before}")
    check(code[function.entry].startswith("b.ls "), f"{name}: {code[function.entry]}")
    check(len(code) * 4 <= function.size <= len(code) * 4 + 16, f"size of {name}")


def _stores_before_calls(code):
    """Which of R0 to R2 are stored before the first call: (register, distance), less the frame."""
    frame, stores = 0, set()
    for at in sorted(code):
        begin = re.fullmatch(r"str x30, \[sp, #-(\d+)\]!", code[at])
        store = re.fullmatch(r"str x([0-2]), \[sp, #(\d+)\]", code[at])
        pair = re.fullmatch(r"stp x(\d+), x(\d+), \[sp, #(\d+)\]", code[at])
        if begin:
            frame = int(begin[1])
        elif store:
            stores.add((int(store[1]), int(store[2]) - frame))
        elif pair:
            stores |= {(int(pair[1]), int(pair[3]) - frame),
                       (int(pair[2]), int(pair[3]) - frame + 8)}
        elif code[at].startswith("bl"):
            break
    return stores


def _sites_are_those_of_the_disassembler(test, version, form):
    path = golang.program(version, form)
    told, functions = _sites(test, path)
    check(told.startswith(f"go{version}."), told)
    check(TLS_FUNCTIONS <= set(functions), set(functions))
    minor = int(version.partition(".")[2])
    for name, function in functions.items():
        equal(f"convention of {name}", function.abi, "registers" if minor >= 18 else "stack")
        _expect_function(name, function, _disassembled(path, function))
    read = functions["crypto/tls.(*Conn).Read"]
    check(read.kept, "Read keeps its arguments")
    if minor >= 18:
        stores = _stores_before_calls(_disassembled(path, read))
        check({(0, 8), (1, 16), (2, 24)} <= stores, f"Read stores {stores}")
    test.note("\n".join(f"{name} {function}" for name, function in functions.items()))


def _register(version, form):
    def run(test):
        _sites_are_those_of_the_disassembler(test, version, form)
    run.__module__ = __name__
    run.__name__ = f"sites_{version.replace('.', '_')}_{form}"
    case("go-sites", f"go {version} {form}", limit=LIMIT_SECONDS)(run)


for _version, _form in golang.FOREIGN_BUILDS:
    _register(_version, _form)
