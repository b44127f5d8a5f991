"""What a worker is told."""

from __future__ import annotations

import msgspec


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
