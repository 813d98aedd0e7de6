# SPDX-License-Identifier: BSD-2-Clause
"""What a running case holds: its directory, the shared keys, and every process it started."""

import os

from . import processes
from .pki import Pki
from .processes import Process
from .tracer import Trace

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = "/usr/bin/python3"
PYTHON_NAME = os.path.basename(os.path.realpath(PYTHON))


class Test:
    def __init__(self, directory, program, pki: Pki, shared):
        self.dir = directory
        self.program = program
        self.pki = pki
        self.shared = shared  # directory of what is built once a run
        self._log = []
        self.remark = ""  # stands behind the case's name when it passed

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, content, mode=None):
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        if mode is not None:
            os.chmod(path, mode)
        return path

    def note(self, text):
        """Remembers a line that -v shows."""
        self._log.append(text)

    def log(self):
        return "\n".join(self._log)

    def start(self, argv, **options):
        process = Process(argv, **options)
        self.note(f"[{process.pid}] {' '.join(process.argv)}")
        return process

    def run(self, argv, timeout=30, **options):
        """Runs a program to its end; process.poll() is then its status."""
        process = self.start(argv, **options)
        process.wait(timeout)
        return process

    def start_target(self, script, *arguments, **options):
        """Starts one of targets/*.py with Debian's Python."""
        path = os.path.join(HERE, "targets", script)
        return self.start([PYTHON, path, *arguments], name=script, **options)

    def tlstrace(self, *arguments, timeout=30, **options):
        """Runs tlstrace to its end, for what is not a trace."""
        return self.run([self.program, *arguments], timeout, **options)

    def trace(self, *arguments, **options):
        """Starts a trace and waits until it says that it is ready."""
        return self.trace_early(*arguments, **options).wait_ready()

    def trace_early(self, *arguments, **options):
        """Starts a trace without waiting."""
        return Trace(self, arguments, **options)

    def end(self):
        """Ends whatever still runs."""
        processes.end_descendants()
