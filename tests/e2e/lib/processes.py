# SPDX-License-Identifier: BSD-2-Clause
"""Child processes: started in groups of their own, read without blocking, and all ended by PID.

Whoever calls adopt_orphans() becomes the parent of descendants whose own parent ends, so that
end_descendants() finds every process that a case started, daemonised ones too.
"""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time

from .case import SLOWNESS, Failure

PR_SET_CHILD_SUBREAPER = 36


def free_pid():
    """A PID that no process has."""
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        pid = int(file.read()) - 1
    while os.path.exists(f"/proc/{pid}"):
        pid -= 1
    return pid


def adopt_orphans():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _parents():
    """Every process of this host: pid -> its parent's pid."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="latin-1") as file:
                # The name, in parentheses, may hold anything.
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    return parents


def children(pid):
    return sorted(child for child, parent in _parents().items() if parent == pid)


def _below(parents, pid):
    found, unvisited = set(), [pid]
    while unvisited:
        current = unvisited.pop()
        below = [child for child, parent in parents.items() if parent == current]
        found.update(below)
        unvisited += below
    return found


def _strays(spared):
    """This process's descendants except `spared` and what is below those.

    From one look at /proc: what was born between two looks would be in one and not in the other.
    """
    parents = _parents()
    keep = set(spared).union(*(_below(parents, pid) for pid in spared))
    return _below(parents, os.getpid()) - keep


def _reap(spared):
    for pid in children(os.getpid()):
        if pid not in spared:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def end_descendants(spared=(), timeout=10):
    """Kills every descendant of this process except `spared` and what is below those."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while time.monotonic() < deadline:
        _reap(spared)
        left = _strays(spared)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


class Process:
    """A child in its own process group; its output is collected while it runs."""

    def __init__(self, argv, name=None, stdin=subprocess.DEVNULL, **options):
        self.argv = [str(word) for word in argv]
        self.name = name or os.path.basename(self.argv[0])
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        self._popen = subprocess.Popen(self.argv, stdin=stdin, process_group=0, **options)
        self.pid = self._popen.pid
        self.stdin = self._popen.stdin
        self._changed = threading.Condition()
        self._text = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = [self._read(name) for name in ("stdout", "stderr")
                         if getattr(self._popen, name) is not None]

    def _read(self, name):
        stream = getattr(self._popen, name)

        def collect():
            while chunk := stream.read1(65536):
                with self._changed:
                    self._text[name] += chunk
                    self._changed.notify_all()
            with self._changed:
                self._changed.notify_all()

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        return thread

    def poll(self):
        return self._popen.poll()

    def text(self, name="stdout"):
        with self._changed:
            return self._text[name].decode("utf-8", "replace")

    def raw(self, name="stdout"):
        with self._changed:
            return bytes(self._text[name])

    def output(self):
        return f"$ {' '.join(self.argv)}\n{self.text()}{self.text('stderr')}"

    def wait_text(self, pattern, name="stdout", timeout=15):
        """Waits until the output holds a match of `pattern` (multi-line), which is returned."""
        expression = re.compile(pattern, re.MULTILINE)
        timeout *= SLOWNESS
        deadline = time.monotonic() + timeout
        while True:
            ended = self.poll() is not None and not any(r.is_alive() for r in self._readers)
            with self._changed:
                found = expression.search(self._text[name].decode("utf-8", "replace"))
                if found:
                    return found
                if ended or time.monotonic() > deadline:
                    break
                self._changed.wait(0.05)
        why = f"it ended with {self.poll()}" if ended else f"waited {timeout} s"
        raise Failure(f"{self.name} never printed {pattern!r} on {name}: {why}\n{self.output()}")

    def wait(self, timeout=30):
        """Waits for the process to end and for its output: the status, -N after signal N."""
        timeout *= SLOWNESS
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} still runs after {timeout} s\n{self.output()}") from None
        for reader in self._readers:
            # A grandchild may keep the pipe open: then what there is must do.
            reader.join(2 * SLOWNESS)
        return status

    def send_signal(self, number):
        self._popen.send_signal(number)

    def send(self, data):
        """Writes to the process's stdin, which must be a pipe."""
        self.stdin.write(data.encode() if isinstance(data, str) else data)
        self.stdin.flush()

    def close_stdin(self):
        self.stdin.close()

    def stop(self, number=signal.SIGTERM, timeout=15):
        if self.poll() is None:
            self.send_signal(number)
        return self.wait(timeout)
