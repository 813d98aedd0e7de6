# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's own count of BPF programs' runs and of their time."""

import ctypes

from lib import bpf

BPF_ENABLE_STATS = 32
SYS_BPF = 321


def enable_stats():
    """A descriptor that keeps the kernel's clock on BPF programs running."""
    attributes = ctypes.create_string_buffer(128)  # type 0: run time
    return ctypes.CDLL(None, use_errno=True).syscall(SYS_BPF, BPF_ENABLE_STATS, attributes,
                                                     len(attributes))


def programs_of(pid):
    """The BPF programs of a process: id -> (runs, ns)."""
    return {int(fields["prog_id"]): (int(fields["run_cnt"]), int(fields["run_time_ns"]))
            for fields in bpf.descriptors(pid) if "run_cnt" in fields}


def program_names():
    return {p["id"]: p.get("name", "") for p in bpf.bpftool("prog", "show") or ()}
