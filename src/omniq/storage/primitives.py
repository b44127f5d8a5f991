"""The primitives of a queue as a backend writes them.

`TaskStore` calls each by the public method of the same name, which says what it does: the input is
checked then, and the store is open. What they must keep:

* Each primitive is atomic by itself; nothing else has to be.
* `now` is the caller's moment, or the store's own clock when None.
* `_claim`, `_swap` and `_extend` cost O(log n + batch), however many tasks wait or are finished.
* A decision about a task's next state is never made here but by `omniq.lifecycle`.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from datetime import datetime

from omniq.clock import utcnow
from omniq.models.event import TaskEvent
from omniq.models.task import Task
from omniq.storage.component import Component
from omniq.storage.events import BaseEventStorage
from omniq.storage.joining import Caller
from omniq.storage.results import BaseResultStorage
from omniq.storage.values import (
    Change,
    Counts,
    Inserted,
    JointFinish,
    Lease,
    LoggedInsert,
    TaskFilter,
)

LONGEST_POLL_SECONDS = 0.25
"""How long `wait` sleeps at most between two looks, where the store has no signal of its own."""


class Primitives(Component, ABC):
    """What a backend writes. Each takes and returns many."""

    @abstractmethod
    def _refuse(self, task: Task) -> None:
        """Raise a ValidationError if `_insert` could not encode a task. Asks no server."""

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:  # noqa: ARG002 - for backends
        """Return what stores tasks and their events there in one step; None where nothing does."""
        return None

    def _joint_finish(self, results: BaseResultStorage) -> JointFinish | None:  # noqa: ARG002 - for backends
        """Return what stores results there and swaps in one step; None where nothing does."""
        return None

    async def _insert_logged(
        self, tasks: list[Task], events: list[TaskEvent], storage: BaseEventStorage
    ) -> list[Inserted]:
        """Store tasks and the events of those stored, in one step where the store can."""
        both = self._logged_insert(storage)
        inserted = None if both is None else await both(tasks, events)
        if inserted is not None:
            return inserted
        inserted = await self._insert(tasks, None)
        pairs = zip(events, inserted, strict=True)
        await storage.append([event for event, item in pairs if item.stored])
        return inserted

    @abstractmethod
    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]: ...

    async def _insert_within(
        self,
        caller: Caller,
        tasks: list[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
    ) -> list[Inserted]:
        """Needed with `capabilities.transactions`; never waits where `caller` blocks."""
        raise NotImplementedError

    @abstractmethod
    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]: ...

    @abstractmethod
    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]: ...

    @abstractmethod
    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]: ...

    @abstractmethod
    async def _get(self, task_ids: list[str]) -> list[Task | None]: ...

    @abstractmethod
    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]: ...

    @abstractmethod
    async def _counts(self) -> Counts: ...

    @abstractmethod
    async def _purge(self, finished_before: datetime, limit: int) -> int: ...

    @abstractmethod
    async def _set_paused(self, queue_name: str, paused: bool) -> None: ...

    @abstractmethod
    async def _paused(self) -> set[str]: ...

    @abstractmethod
    async def _next_due(self, queues: list[str]) -> datetime | None:
        """Return the earliest `due_at` of a SCHEDULED or RUNNING task of these queues."""

    async def _wait(self, queues: list[str], timeout: float) -> None:
        await asyncio.sleep(min(await self._until_due(queues, timeout), LONGEST_POLL_SECONDS))

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:  # noqa: ARG002 - a poll
        await asyncio.sleep(min(timeout, LONGEST_POLL_SECONDS / 10))

    async def _until_due(self, queues: list[str], timeout: float) -> float:
        """Seconds until a task comes due by itself, `timeout` at most; a paused queue has none."""
        paused = await self._paused() if timeout > 0 else set(queues)
        names = [name for name in queues if name not in paused]
        due_at = await self._next_due(names) if names else None
        if due_at is None:
            return timeout
        return min(timeout, max(0.0, math.nextafter((due_at - utcnow()).total_seconds(), math.inf)))

    async def _announce(self, worker_id: str) -> None: ...

    async def _withdraw(self, worker_id: str) -> None: ...

    async def _end_dead_leases(self) -> list[str]:
        return []
