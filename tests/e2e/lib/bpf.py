# SPDX-License-Identifier: BSD-2-Clause
"""The BPF programs and maps of a process, as the kernel and bpftool show them."""

import glob
import json
import re
import shutil
import subprocess


def bpftool(*arguments):
    """What it prints, parsed; None where it is missing or fails."""
    path = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    done = path and subprocess.run([path, "-j", *arguments], capture_output=True, check=False)
    return json.loads(done.stdout) if done and done.returncode == 0 else None


def descriptors(pid):
    """What the kernel says of each descriptor of a process: name -> first word."""
    for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
        with open(path, encoding="ascii") as file:
            yield dict(re.findall(r"^(\w+):\s*(\S+)", file.read(), re.MULTILINE))


def map_keys(pid, name):
    """The keys in a map of a process: structs are dicts."""
    for fields in descriptors(pid):
        number = fields.get("map_id")
        if number and bpftool("map", "show", "id", number)["name"] == name:
            return [entry["formatted"]["key"] for entry in bpftool("map", "dump", "id", number)]
    raise ValueError(f"process {pid} has no map {name}")
