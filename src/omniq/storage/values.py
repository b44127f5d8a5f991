"""What goes into the primitives of a queue, and what comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus


class Inserted(NamedTuple):
    """What an insert did with one task: the id that stands for it, and whether it was stored."""

    task_id: str
    stored: bool


class Change(NamedTuple):
    """A compare-and-swap of one task.

    Applied if and only if the stored ``(claim_count, lease_token, status)`` equals that of
    `before`; then all of `STATE_FIELDS` are taken from `after`.
    """

    before: Task
    after: Task


class Lease(NamedTuple):
    """The proof that a run holds its task."""

    task_id: str
    claim_count: int
    lease_token: str


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks `find` returns: those that match every field given (empty means any).

    Attributes:
        statuses, queues, funcs: any of these.
        schedule_id, worker_id: exactly this.
    """

    statuses: frozenset[TaskStatus] = frozenset()
    queues: frozenset[str] = frozenset()
    funcs: frozenset[str] = frozenset()
    schedule_id: str | None = None
    worker_id: str | None = None

    def matches(self, task: Task) -> bool:
        """Whether `task` is one of them; for stores that cannot ask their engine."""
        return (
            (not self.statuses or task.status in self.statuses)
            and (not self.queues or task.queue_name in self.queues)
            and (not self.funcs or task.func in self.funcs)
            and (self.schedule_id is None or task.schedule_id == self.schedule_id)
            and (self.worker_id is None or task.worker_id == self.worker_id)
        )


EVERY_TASK = TaskFilter()
Counts = dict[str, dict[TaskStatus, int]]
"""Number of tasks per queue and status; queues and statuses without tasks are left out."""

LoggedInsert = Callable[[list[Task], list[TaskEvent]], Awaitable[list[Inserted] | None]]
"""Stores tasks and the events of those stored; None, and nothing is stored, if it cannot these."""
JointFinish = Callable[
    [Sequence[Change], list[TaskResult], datetime | None], Awaitable[list[bool] | None]
]
"""Stores checked results, then swaps; None, and nothing is changed, if it cannot these."""
