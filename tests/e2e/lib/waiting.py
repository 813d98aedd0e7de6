# SPDX-License-Identifier: BSD-2-Clause
"""Waits for conditions, so that no case sleeps for a guessed time."""

import socket
import time

from .case import SLOWNESS, Failure

PATIENCE_SECONDS = 15


def until(condition, what, timeout=PATIENCE_SECONDS, every=0.01):
    """Calls `condition` until it returns something true, which is returned."""
    timeout *= SLOWNESS
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"waited {timeout} s for {what}")
        time.sleep(every)


def free_port(host="127.0.0.1"):
    """A port that nothing listens on now, from outside the range of outgoing connections.

    The kernel hands out ephemeral ports meanwhile to other cases' clients; a port of that range
    could be taken before our server binds it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first_ephemeral = int(file.read().split()[0])
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Begins at a place that differs between the processes that look at the same time.
        start = time.monotonic_ns() // 1000
        span = first_ephemeral - 10000
        for offset in range(span):
            port = 10000 + (start + offset * 7) % span
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    raise Failure("no free port")


def listening(port, process=None, host="127.0.0.1"):
    """Waits until something accepts connections on the port."""

    def accepts():
        if process is not None and process.poll() is not None:
            raise Failure(f"{process.name} ended before it listened:\n{process.output()}")
        try:
            socket.create_connection((host, port), timeout=SLOWNESS).close()
            return True
        except OSError:
            return False

    until(accepts, f"a listener on port {port}")
