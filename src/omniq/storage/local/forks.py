"""Forking beside busy threads: a child must not inherit a lock that nobody there will free.

SQLite and others guard what the whole process shares by mutexes of their own. A thread that is
inside one of them when another thread forks leaves it locked in the child for ever. So threads go
in through a gate, and a fork waits for a moment when nobody is inside.
"""

from __future__ import annotations

import os
import threading
import weakref

_LONGEST_WAIT_SECONDS = 10.0
"""A fork is not held up for longer; then it takes its chance."""

_gates: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_closed: list[threading.Lock] = []


def fork_gate() -> threading.Lock:
    """Return a lock for one thread to hold while no fork may happen."""
    gate = threading.Lock()
    _gates.add(gate)
    return gate


def _close_gates() -> None:
    _closed.extend(gate for gate in list(_gates) if gate.acquire(timeout=_LONGEST_WAIT_SECONDS))


def _open_gates() -> None:
    while _closed:
        _closed.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_close_gates, after_in_parent=_open_gates, after_in_child=_open_gates
    )
