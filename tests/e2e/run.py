#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the end-to-end cases: tlstrace against real programs on loopback.

Every case runs in a process of its own, with a directory of its own and a time limit; whatever it
started is killed by PID when it ends. Cases that need what this host lacks are skipped by name.
The last line is `e2e: N passed, N failed, N skipped`; the status is 1 when a case failed.
"""

import argparse
import dataclasses
import fnmatch
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from lib import needs, pki, processes
from lib.case import CASES, Failure, Skip
from lib.test import Test

# After its limit a case ends itself with a traceback; this much later it is ended.
GRACE_SECONDS = 15


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="GLOB", help="cases to run; default: all")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what each case started")
    parser.add_argument("--tlstrace", default=os.path.join(HERE, "../../build/tlstrace"),
                        metavar="PATH", help="the program to test")
    parser.add_argument("--results", metavar="FILE", help="write the last line to FILE as well")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N",
                        help="cases at a time")
    parser.add_argument("--keep", action="store_true", help="keep the directories of failed cases")
    return parser.parse_args()


def load_cases():
    directory = os.path.join(HERE, "cases")
    for module in sorted(pkgutil.iter_modules([directory]), key=lambda module: module.name):
        importlib.import_module(f"cases.{module.name}")


def selected(globs):
    """The cases that the globs name; a glob that names none is an error, for it may be a typo."""
    for glob in globs:
        if not fnmatch.filter(CASES, glob):
            print(f"e2e: no case is called {glob}", file=sys.stderr)
            sys.exit(2)
    return [case for name, case in CASES.items()
            if not globs or any(fnmatch.fnmatch(name, glob) for glob in globs)]


@dataclasses.dataclass
class Result:
    status: str  # passed, failed, skipped
    details: str = ""
    log: str = ""


def execute(case, test):
    """Runs the case in this process."""

    def out_of_time(*_):
        raise Failure(f"not through after {case.limit_seconds} s")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, case.limit_seconds)
    try:
        case.run(test)
        result = Result("passed", test.remark)
    except Skip as reason:
        result = Result("skipped", str(reason))
    except Failure as failure:
        where = traceback.extract_tb(failure.__traceback__)
        line = next((f"{os.path.basename(frame.filename)}:{frame.lineno}"
                     for frame in reversed(where) if "/cases/" in frame.filename), "")
        result = Result("failed", f"{line}: {failure}")
    except Exception:
        result = Result("failed", traceback.format_exc())
    signal.setitimer(signal.ITIMER_REAL, 0)
    result.log = test.log()
    return result


class Running:
    """A case in its own process."""

    def __init__(self, case, base, options, keys):
        self.case = case
        self.directory = tempfile.mkdtemp(prefix="case-", dir=base)
        os.chmod(self.directory, 0o755)
        self.result_path = os.path.join(base, f"{os.path.basename(self.directory)}.result")
        self.begun = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(base, options, keys)

    def _child(self, base, options, keys):
        """Never returns."""
        status = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            processes.adopt_orphans()
            test = Test(self.directory, os.path.abspath(options.tlstrace), keys, base)
            result = execute(self.case, test)
            test.end()
            with open(self.result_path, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(result), file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def seconds(self):
        return time.monotonic() - self.begun

    def ended(self):
        """Whether it is over, ending it where it is overdue."""
        if os.waitpid(self.pid, os.WNOHANG)[0]:
            return True
        if self.seconds() > self.case.limit_seconds + GRACE_SECONDS:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return True
        return False

    def result(self):
        try:
            with open(self.result_path, encoding="utf-8") as file:
                return Result(**json.load(file))
        except (OSError, ValueError):
            return Result("failed", "the case's process ended without a result")


class Runner:
    def __init__(self, options, base):
        self.options, self.base = options, base
        self.running = []
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.keys = None

    def run(self, cases):
        self.keys = pki.make(self.base)
        # Those that run alone come last, when nothing else is left.
        waiting = sorted(cases, key=lambda case: case.alone)
        while waiting or self.running:
            while waiting and self._fits(waiting[0]):
                self._start(waiting.pop(0))
            time.sleep(0.01)
            for running in [r for r in self.running if r.ended()]:
                self._finish(running)

    def _fits(self, case):
        if case.alone or any(running.case.alone for running in self.running):
            return not self.running
        return len(self.running) < self.options.jobs

    def _start(self, case):
        for need in case.needs:
            reason = needs.missing(need, self.options.tlstrace, self.base)
            if reason:
                self._say(case.name, Result("skipped", reason), 0)
                return
        self.running.append(Running(case, self.base, self.options, self.keys))

    def _finish(self, running):
        self.running.remove(running)
        # What outlived a case that was ended has become this process's child.
        processes.end_descendants(spared=[other.pid for other in self.running])
        result = running.result()
        if not (self.options.keep and result.status == "failed"):
            shutil.rmtree(running.directory, ignore_errors=True)
        self._say(running.case.name, result, running.seconds())

    def _say(self, name, result, seconds):
        self.counts[result.status] += 1
        if result.status == "passed":
            print(f"ok {name} {seconds:.1f}s" + (result.details and f": {result.details}"))
        elif result.status == "skipped":
            print(f"skip {name}: {result.details}")
        else:
            print(f"FAIL {name} {seconds:.1f}s")
            print("    " + result.details.rstrip().replace("\n", "\n    "))
        if self.options.verbose and result.log:
            print("    " + result.log.replace("\n", "\n    "))
        sys.stdout.flush()

    def summary(self):
        return ", ".join(f"{number} {word}" for word, number in self.counts.items())


def stop_on_signal(number, _):
    sys.exit(128 + number)


def main():
    options = arguments()
    load_cases()
    cases = selected(options.names)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    if not os.access(options.tlstrace, os.X_OK):
        print(f"e2e: no program at {options.tlstrace}: run make first", file=sys.stderr)
        return 2
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, stop_on_signal)
    base = tempfile.mkdtemp(prefix="tlstrace-e2e-")
    os.chmod(base, 0o755)
    runner = Runner(options, base)
    try:
        runner.run(cases)
    finally:
        processes.end_descendants()
        if options.keep and runner.counts["failed"]:
            print(f"e2e: kept {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    if options.results:
        with open(options.results, "w", encoding="utf-8") as file:
            file.write(runner.summary() + "\n")
    print(f"e2e: {runner.summary()}")
    return 1 if runner.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
