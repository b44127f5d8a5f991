"""Storing tasks together with the events that say so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

from omniq.clock import utcnow
from omniq.coalesce import Coalescer
from omniq.exceptions import ValidationError
from omniq.hooks import Hooks
from omniq.models.checks import checked_task
from omniq.models.event import EventType, TaskEvent
from omniq.models.task import Task
from omniq.serialization import RecordCodec
from omniq.storage.base import BaseEventStorage, BaseQueue, Inserted
from omniq.storage.queue import standing
from omniq.storage.refusals import SURELY_STORABLE_BYTES, is_surely_storable

_CHUNK = 1000


class Enqueuing:
    """Stores tasks and logs ENQUEUED, unless told to log nothing."""

    def __init__(
        self, queue: BaseQueue, events: BaseEventStorage, hooks: Hooks, *, log_events: bool
    ) -> None:
        self._queue = queue
        self._events = events
        self._hooks = hooks
        self._log_events = log_events
        self._codec = RecordCodec(Task, ("args", "kwargs", "metadata"))
        self._pairs: Coalescer[tuple[Task, TaskEvent], Inserted] = Coalescer(self._insert_logged)

    async def store(self, task: Task, *, is_fresh: bool) -> str:
        """Store one task; return the id that stands for it.

        A task that is sure to be stored as it is (its id is fresh) is written at the same time as
        its event, so that a store with group commit writes both at once. Otherwise the event
        follows, if the task was stored.
        """
        task = self._hooks.prepared(task)
        if not self._log_events:
            return await self._queue.enqueue(task)
        now = utcnow()
        if is_fresh and self._is_sure(task):
            return await self._store_both(task, _enqueued(task, now))
        task_id = await self._queue.enqueue(task)
        if task_id == task.id:
            await self._events.log_event(_enqueued(task, now))
        return task_id

    async def _store_both(self, task: Task, event: TaskEvent) -> str:
        if self._queue.logs_with(self._events):
            return standing(task, await self._pairs.submit((task, event)))
        logged = self._events.begin_logging(event)
        try:
            task_id = await self._queue.enqueue(task)
        except BaseException:
            logged.cancel()
            raise
        await logged
        return task_id

    async def store_many(self, tasks: Sequence[Task]) -> list[str]:
        """Store tasks in one batch; return the id that stands for each, in order.

        While one part is stored, the events of the part before are.
        """
        tasks = self._hooks.all_prepared(tasks)
        now, logging = utcnow(), None
        done: list[tuple[Task, Inserted]] = []
        try:
            async for part in self._queue.insert_in_parts(tasks):
                done += part
                stored = [task.id for task, item in part if item.stored]
                if logging is not None:
                    await logging
                logging = asyncio.create_task(self.log(EventType.ENQUEUED, stored, now))
        finally:
            if logging is not None:
                await logging
        return [standing(task, item) for task, item in done]

    async def _insert_logged(self, pairs: list[tuple[Task, TaskEvent]]) -> list[Inserted]:
        tasks, events = zip(*pairs, strict=True)
        return await self._queue.insert_logged(tasks, events, self._events)

    async def store_within(self, connection: object, tasks: Sequence[Task]) -> list[str]:
        """Store tasks in a transaction of the caller's; return the id that stands for each.

        ENQUEUED is logged if the events are kept in that database too: elsewhere, it might tell of
        a task that never came to be.
        """
        tasks = self._hooks.all_prepared(tasks)
        inserted = await self._queue.insert_within(connection, tasks, events=self._same_store())
        return [standing(task, item) for task, item in zip(tasks, inserted, strict=True)]

    def store_within_sync(self, connection: object, tasks: Sequence[Task]) -> list[str]:
        """Do as `store_within`, with a connection that blocks, in this thread."""
        tasks = self._hooks.all_prepared(tasks)
        inserted = self._queue.insert_within_sync(connection, tasks, events=self._same_store())
        return [standing(task, item) for task, item in zip(tasks, inserted, strict=True)]

    def _same_store(self) -> BaseEventStorage | None:
        return self._events if self._log_events else None

    async def log(
        self,
        event_type: EventType,
        task_ids: Iterable[str],
        moment: datetime,
        message: str | None = None,
    ) -> None:
        """Log the same event for several tasks, unless nothing is logged."""
        if not self._log_events:
            return
        events = [
            TaskEvent(task_id=task_id, event_type=event_type, timestamp=moment, message=message)
            for task_id in task_ids
        ]
        for start in range(0, len(events), _CHUNK):
            await self._events.append(events[start : start + _CHUNK])

    def _is_sure(self, task: Task) -> bool:
        """Whether no store can refuse the task for what it holds."""
        if task.unique_key is not None or task.depends_on:
            return False
        if is_surely_storable(task):
            return True
        try:
            return len(self._codec.encode(checked_task(task))) <= SURELY_STORABLE_BYTES
        except ValidationError:
            return False


def _enqueued(task: Task, now: datetime) -> TaskEvent:
    return TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED, timestamp=now)
