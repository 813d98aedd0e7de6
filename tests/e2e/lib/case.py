# SPDX-License-Identifier: BSD-2-Clause
"""Registers cases: functions that take a `Test` and raise `Failure` when something is wrong.

A case says what it needs (names of lib.needs), how long it may take, and whether it must run
alone because it loads the machine or measures time.
"""

import dataclasses
import os
import typing

DEFAULT_LIMIT_SECONDS = 45

# All time limits are multiplied by it.
SLOWNESS = float(os.environ.get("TLSTRACE_TEST_SLOWNESS", "1"))


class Failure(AssertionError):
    """Something is not as it must be; the message says what."""


class Skip(Exception):
    """The case can't run on this host; the message says why."""


@dataclasses.dataclass
class Case:
    name: str
    run: typing.Callable
    needs: tuple
    limit_seconds: float
    alone: bool


CASES = {}


def case(*needs, limit=DEFAULT_LIMIT_SECONDS, alone=False):
    """Decorator: registers the function as a case called as it and its module are."""

    def register(function):
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        if name in CASES:
            raise ValueError(f"two cases are called {name}")
        CASES[name] = Case(name, function, needs, limit * SLOWNESS, alone)
        return function

    return register


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(what, got, want):
    if got != want:
        raise Failure(f"{what}: got {got!r}, want {want!r}")
