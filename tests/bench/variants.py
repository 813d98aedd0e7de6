# SPDX-License-Identifier: BSD-2-Clause
"""What runs beside nginx, or before it, under load: a class for each row of the table."""

import os
import re
import shutil
import signal

from lib.case import Failure, Skip
from lib.waiting import free_port, listening, until

from rig import cpu_seconds, memory_mb


class Untraced:
    """nginx alone."""

    name = "untraced"
    loads = ("1k", "100k", "close", "h2")

    def __init__(self, test, server):
        self.url = server.url

    @staticmethod
    def available():
        return True

    def begin(self):
        """Called once it is at work, before the load."""

    def end(self):
        """Called after the load; returns figures of its own."""
        return {}


class Traced(Untraced):
    """tlstrace -p WORKER -f json -o FILE."""

    name = "tlstrace"
    options = ()

    def __init__(self, test, server, *more):
        super().__init__(test, server)
        self.trace = test.trace(*self.options, "-p", self.target(server), *more)
        self._cpu_at_begin = 0

    def target(self, server):
        return server.worker

    def begin(self):
        self._cpu_at_begin = cpu_seconds(self.trace.pid)

    def end(self):
        cpu = cpu_seconds(self.trace.pid) - self._cpu_at_begin
        memory = memory_mb(self.trace.pid)
        status = self.trace.stop()
        # What was still in the ring is paid for after the load: a little CPU that is not counted.
        if status != 0:
            raise Failure(f"tlstrace ended with {status}:\n{self.trace.stderr()}")
        entries, lost, _ = self.trace.totals()
        whole = 0
        with open(self.trace.path, "rb") as file:
            for line in file:
                whole += b'"complete":true' in line and b'"tuple":"none"' not in line
        os.unlink(self.trace.path)
        return {"tracer_cpu": cpu, "memory_mb": memory, "entries": entries, "whole": whole,
                "lost": lost}


class Classic(Traced):
    """The stand-in for other tools: entry and uretprobe, a wakeup per record, full capture."""

    name = "classic"
    options = ("--classic",)


class Neighbour(Traced):
    """The worker is not traced, but its libssl has probes: what they cost by themselves."""

    name = "neighbour"
    loads = ("1k", "h2")

    def target(self, server):
        return server.master.pid  # and its children to come, which the worker is not

    def end(self):
        figures = super().end()
        if figures["entries"]:
            raise Failure("the worker was to be left alone, but it was traced")
        return {}


class Beside(Untraced):
    """Another tool's process. Skip when it is installed, but does not work here."""

    loads = ("1k", "100k", "close")

    def __init__(self, test, server):
        super().__init__(test, server)
        self.process = self.start(test, server)
        self._cpu_at_begin = 0
        try:
            self.wait_ready()
        except Failure as failure:
            self.process.stop(signal.SIGKILL)
            raise Skip(failure) from failure

    def start(self, test, server):
        raise NotImplementedError

    def wait_ready(self):
        """Failure when it does not come to work."""
        raise NotImplementedError

    def begin(self):
        self._cpu_at_begin = cpu_seconds(self.process.pid)

    def end(self):
        figures = {"tracer_cpu": cpu_seconds(self.process.pid) - self._cpu_at_begin,
                   "memory_mb": memory_mb(self.process.pid)}
        # Not SIGINT: Python drops it in a callback of bcc's.
        self.process.stop()
        return figures


class Sslsniff(Beside):
    """bcc's; it needs kernel headers, and compiles its programs for some seconds."""

    name = "sslsniff"
    program = "/usr/sbin/sslsniff-bpfcc"

    @classmethod
    def available(cls):
        return os.path.exists(cls.program)

    def start(self, test, server):
        self.path = test.path("sslsniff.out")
        with open(self.path, "wb") as out:
            return test.start([self.program, "-p", server.worker, "--extra-lib",
                               f"openssl:{server.libssl}"],
                              stdout=out, env=dict(os.environ, PYTHONUNBUFFERED="1"))

    def wait_ready(self):
        until(self._has_heading, "sslsniff's heading", timeout=60)

    def _has_heading(self):
        if self.process.poll() is not None:
            raise Failure(f"sslsniff ended:\n{self.process.text('stderr')}")
        with open(self.path, "rb") as file:
            return file.read(4) == b"FUNC"

    def end(self):
        figures = super().end()
        os.unlink(self.path)
        lost = re.findall(r"Possibly lost (\d+) samples", self.process.text("stderr"))
        return {**figures, "lost": sum(map(int, lost))}


class Mitmproxy(Beside):
    """mitmdump as a reverse proxy before nginx."""

    name = "mitmproxy"

    @staticmethod
    def available():
        return shutil.which("mitmdump") is not None

    def start(self, test, server):
        port = self.port = free_port()
        self.url = lambda target: f"https://127.0.0.1:{port}{target}"
        return test.start(["mitmdump", "-q", "--mode", f"reverse:{server.url('/')}",
                           "--listen-host", "127.0.0.1", "-p", port, "--ssl-insecure",
                           "--set", f"confdir={test.path('mitmproxy')}"])

    def wait_ready(self):
        listening(self.port, self.process)


VARIANTS = (Untraced, Neighbour, Classic, Traced, Sslsniff, Mitmproxy)
