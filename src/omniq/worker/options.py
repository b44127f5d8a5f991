"""What a worker is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import msgspec

from omniq.exceptions import ConfigError


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works.

    Attributes:
        queues: served in strict order of preference.
        concurrency: tasks running at once, coroutines and threads together.
        lease_seconds: how long a task stays with a worker that says nothing; None: as long as
            suits the queue (30 seconds, 60 in object stores).
        grace_seconds: how long `stop` waits for running tasks before they are given back.
        burst: end when no task is claimable any more.
        schedules: whether this worker fires schedules.
        cleanup: whether this worker deletes what has expired, every ten minutes.
        allow_modules: run also unregistered functions of these modules (and those below them).
        health_file: touched whenever the queue answered, for `omniq health`.
    """

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 32
    lease_seconds: float = 30.0
    grace_seconds: float = 20.0
    burst: bool = False
    schedules: bool = True
    cleanup: bool = True
    allow_modules: tuple[str, ...] = ()
    health_file: str | None = None


def checked_modules(modules: Sequence[str] | str) -> tuple[str, ...]:
    """Return the names of modules whose functions may run.

    Raises:
        ConfigError: there is no module of that name, or the package it is in cannot be imported.
    """
    names = (modules,) if isinstance(modules, str) else tuple(modules)
    for name in names:
        try:
            is_there = _is_module(name)
        except Exception as error:  # looking into a package imports it, and that runs any code
            raise ConfigError(f"allow_modules: importing {name!r} failed: {error}") from error
        if not is_there:
            raise ConfigError(f"allow_modules: there is no module {name!r} on sys.path")
    return names


def _is_module(name: str) -> bool:
    if name in sys.modules:
        return True
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError as error:
        if name.startswith(f"{error.name}."):
            return False
        raise
