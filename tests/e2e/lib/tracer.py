# SPDX-License-Identifier: BSD-2-Clause
"""A run of tlstrace: started, waited for, stopped, and held to its contract on stderr."""

import os
import re
import signal

from .case import Failure, check, equal
from .entries import parse
from .waiting import until

READY = r"^tlstrace: ready"
TOTALS = re.compile(r"^tlstrace: (\d+) requests?, (\d+) events? lost, "
                    r"(\d+) without a connection", re.MULTILINE)


class Trace:
    """tlstrace at work, its entries in JSON in a file."""

    def __init__(self, test, arguments, name="trace", **options):
        self.path = os.path.join(test.dir, f"{name}.jsonl")
        self.process = test.start(
            [test.program, "-f", "json", "-o", self.path, *arguments], name="tlstrace", **options)

    @property
    def pid(self):
        return self.process.pid

    def wait_ready(self, timeout=30):
        self.process.wait_text(READY, "stderr", timeout)
        return self

    def text(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def count(self):
        return self.text().count("\n")

    def entries(self):
        return parse(self.text())

    def wait_entries(self, count, timeout=15):
        try:
            until(lambda: self.count() >= count or self.process.poll() is not None,
                  f"{count} entries", timeout)
        except Failure as failure:
            raise Failure(f"{failure}; there are {self.count()}\n{self.stderr()}") from None
        return self.entries()

    def stderr(self):
        return self.process.text("stderr")

    def totals(self):
        """(requests, events lost, without a connection) as the last line says."""
        found = TOTALS.findall(self.stderr())
        equal("number of lines with totals", len(found), 1)
        return tuple(map(int, found[0]))

    def stop(self, number=signal.SIGINT, timeout=30):
        return self.process.stop(number, timeout)

    def check_stderr(self):
        for line in self.stderr().splitlines():
            check(line.startswith("tlstrace: "), f"on stderr: {line!r}")

    def finish(self, count=None, number=signal.SIGINT):
        """Waits for `count` entries, ends the trace in order and checks what it says of itself.

        Returns the entries; there may be more than `count`, lest a surplus go unseen.
        """
        if count is not None:
            self.wait_entries(count)
        equal("exit status of tlstrace", self.stop(number), 0)
        self.check_stderr()
        return self.checked_entries()

    def checked_entries(self):
        """The entries of a trace that ended, after comparing them with the totals."""
        entries = self.entries()
        requests, lost, unconnected = self.totals()
        equal("events lost", lost, 0)
        equal("requests in the totals", requests, len(entries))
        equal("requests without a connection in the totals", unconnected,
              sum(entry.at("capture.tuple") == "none" for entry in entries))
        return entries

    def finish_command(self, status=0, timeout=40):
        """For command mode: the command's end ends the trace. Returns the entries."""
        equal("exit status of tlstrace", self.process.wait(timeout), status)
        return self.checked_entries()
