# SPDX-License-Identifier: BSD-2-Clause
"""What tlstrace's BPF maps hold, as bpftool shows them."""

import glob
import json
import re
import shutil
import subprocess


def _bpftool(*arguments):
    path = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    return json.loads(subprocess.run([path, "-j", *arguments], capture_output=True,
                                     check=True).stdout)


def keys(pid, name):
    """The keys in a map of a process: structs are dicts."""
    for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
        with open(path, encoding="ascii") as file:
            found = re.search(r"^map_id:\s*(\d+)", file.read(), re.MULTILINE)
        if found and _bpftool("map", "show", "id", found[1])["name"] == name:
            return [entry["formatted"]["key"] for entry in _bpftool("map", "dump", "id", found[1])]
    raise ValueError(f"process {pid} has no map {name}")
