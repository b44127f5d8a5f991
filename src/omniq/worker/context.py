"""What a running task can know about itself, and say."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from omniq.exceptions import ValidationError
from omniq.models.task import Task
from omniq.worker.runs import Run, StopReason

_current: ContextVar[TaskContext | None] = ContextVar("omniq_task", default=None)


class TaskContext:
    """The run a piece of code belongs to; get it with `current_task()`.

    Attributes:
        task: the task as it was claimed.
        deadline: when its timeout ends this attempt, or None.
        worker_id: who runs it.
        state: what the application's `lifespan` yielded in this worker; None without one.
    """

    __slots__ = ("_run", "deadline", "state", "task", "worker_id")

    def __init__(
        self, run: Run, worker_id: str, deadline: datetime | None, state: Any = None
    ) -> None:
        self.task: Task = run.task
        self.worker_id = worker_id
        self.deadline = deadline
        self.state = state
        self._run = run

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.task.attempt

    @property
    def should_stop(self) -> bool:
        """Whether this run is to end: cancelled, timed out, or its lease is lost.

        Asynchronous tasks are cancelled by themselves; long loops in threads may look here.
        """
        return self._run.is_stopping()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why this run is to end before its function returned; None while it may go on."""
        return self._run.stop_reason

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the task, whose records carry `task_id` and `attempt`."""
        extra = {"task_id": self.id, "attempt": self.attempt, "queue_name": self.task.queue_name}
        return _TaskLogger(logging.getLogger(f"omniq.task.{self.task.func}"), extra)

    def progress(self, fraction: float) -> None:
        """Report how much is done, from 0 to 1. Cheap: written with the next heartbeat.

        Raises:
            ValidationError: it is no number from 0 to 1; a `ValueError`.
        """
        if type(fraction) not in (int, float) or not 0.0 <= fraction <= 1.0:
            raise ValidationError("progress", f"{fraction!r:.80} is not between 0 and 1")
        self._run.progress = fraction


class _TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's ids to each record and its id to each line."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return f"[{kwargs['extra']['task_id']}] {msg}", kwargs


def current_task() -> TaskContext:
    """Return the context of the task that is running here.

    Raises:
        LookupError: no task of a worker is running here (a plain call has no context).
    """
    context = _current.get()
    if context is None:
        raise LookupError("no task is running here; current_task() works inside a worker's task")
    return context


def enter(context: TaskContext) -> None:
    """Make `context` the current one of this asyncio task (and of threads it starts)."""
    _current.set(context)
