"""One run of one task on this worker."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from typing import Any

from omniq.models.task import Task


class StopReason(Enum):
    """Why a run is made to end before its function returned.

    TIMEOUT ends the attempt as failed and CANCEL the task as cancelled; after RELEASE and LOST
    the task runs again, here or elsewhere.
    """

    TIMEOUT = "timed out"
    CANCEL = "cancelled on request"
    LOST = "its lease was lost"
    RELEASE = "given back to the queue"


class RunInterrupted(BaseException):
    """Raised inside a task function that runs in a thread, to end it."""


class Run:
    """A claimed task between its claim and its settled end.

    Attributes:
        trusted_until: by the monotonic clock; later, the lease may be another worker's.
        stop_reason: set once, by the first who asked the run to end.
        runner: the asyncio task that executes it.
        has_begun: whether the runner has taken its first step; cancelled before it, it never would.
        is_waiting: whether it waits for a slot.
        thread: the thread its function runs in, if any.
        interrupted: whether that was told to end, be it before it had begun.
        executed: whether the function has ended; then only the settling is left.
        given_up: whether it was given back although its thread still runs; its end means nothing.
        progress: the last fraction reported and not written yet.
    """

    __slots__ = (
        "executed",
        "given_up",
        "guard",
        "has_begun",
        "interrupted",
        "is_waiting",
        "progress",
        "runner",
        "stop_reason",
        "task",
        "thread",
        "trusted_until",
    )

    def __init__(self, task: Task, trusted_until: float) -> None:
        self.task = task
        self.trusted_until = trusted_until
        self.stop_reason: StopReason | None = None
        self.runner: asyncio.Task[Any] | None = None
        self.has_begun = False
        self.is_waiting = False
        self.thread: int | None = None
        self.interrupted = False
        self.guard: threading.Lock | None = None
        self.executed = False
        self.given_up = False
        self.progress: float | None = None

    def stop(self, reason: StopReason) -> None:
        """Make the run end; the first reason given counts. Call in the worker's loop."""
        if self.stop_reason is not None or self.executed:
            return
        self.stop_reason = reason
        if self.has_begun and self.runner is not None:
            self.runner.cancel()

    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self.stop_reason is not None
