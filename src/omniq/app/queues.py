"""Queues as a whole: how they stand, and emptying one."""

from __future__ import annotations

import msgspec

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.ids import check_name
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.storage.base import BaseQueue, Change, TaskFilter

_NOT_STARTED = frozenset({TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.WAITING})
_PAGE = 500


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one queue stands.

    Attributes:
        name: the queue.
        is_paused: whether its tasks are held back.
        counts: number of tasks by status; those with none are left out.
    """

    name: str
    is_paused: bool
    counts: dict[TaskStatus, int]

    @property
    def unfinished(self) -> int:
        """Number of tasks that are not final."""
        return sum(n for status, n in self.counts.items() if status not in FINAL_STATUSES)


async def statuses(queue: BaseQueue) -> dict[str, QueueStatus]:
    """Return how each queue stands that has tasks or is paused, by name."""
    counts, paused = await queue.counts(), await queue.paused()
    return {
        name: QueueStatus(name=name, is_paused=name in paused, counts=counts.get(name, {}))
        for name in sorted(counts.keys() | paused)
    }


async def cancel_unstarted(queue: BaseQueue, queue_name: str) -> list[str]:
    """Cancel the tasks of a queue that are PENDING, SCHEDULED or WAITING; return their ids.

    Tasks that start or are enqueued meanwhile are left alone.
    """
    where = TaskFilter(
        queues=frozenset({check_name("queue_name", queue_name)}), statuses=_NOT_STARTED
    )
    began_at = utcnow()
    cancelled: list[str] = []
    after: str | None = None
    while True:
        page = await queue.find(where, after=after, limit=_PAGE)
        cancelled += await _cancel(queue, [task for task in page if task.created_at <= began_at])
        if len(page) < _PAGE:
            return cancelled
        after = page[-1].id


async def _cancel(queue: BaseQueue, tasks: list[Task]) -> list[str]:
    now = utcnow()
    changes = [
        Change(task, lifecycle.request_cancel(task, now, "its queue was purged")) for task in tasks
    ]
    applied = await queue.swap(changes)
    return [change.before.id for change, ok in zip(changes, applied, strict=True) if ok]
