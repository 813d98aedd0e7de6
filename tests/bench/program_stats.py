# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's own count of BPF programs' runs and of their time."""

import ctypes
import glob
import json
import re
import shutil
import subprocess

BPF_ENABLE_STATS = 32
SYS_BPF = 321


def enable_stats():
    """A descriptor that keeps the kernel's clock on BPF programs running."""
    attributes = ctypes.create_string_buffer(128)  # type 0: run time
    return ctypes.CDLL(None, use_errno=True).syscall(SYS_BPF, BPF_ENABLE_STATS, attributes,
                                                     len(attributes))


def programs_of(pid):
    """The BPF programs of a process: id -> (runs, ns)."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
        with open(path, encoding="ascii") as file:
            fields = dict(re.findall(r"^(\w+):\s*(\S+)", file.read(), re.MULTILINE))
        if "run_cnt" in fields:
            found[int(fields["prog_id"])] = (int(fields["run_cnt"]), int(fields["run_time_ns"]))
    return found


def program_names():
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if not bpftool:
        return {}
    done = subprocess.run([bpftool, "-j", "prog", "show"], capture_output=True, check=False)
    return {p["id"]: p.get("name", "") for p in json.loads(done.stdout or b"[]")}
