"""`BaseEventStorage`: the history of tasks, append-only."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from omniq.blocking import blocking
from omniq.clock import utcnow
from omniq.coalesce import Coalescer
from omniq.ids import check_name
from omniq.models.checks import check_limit, checked_event, moment_or_none
from omniq.models.event import EventType, TaskEvent, read_event_type
from omniq.storage.component import Component

EVENTS_KEPT = timedelta(days=30)
ALL_EVENTS_LIMIT = 1_000_000


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a query returns: those that match every field given.

    Attributes:
        task_id, event_type: exactly this.
        since, until: from this moment on, and before that one.
    """

    task_id: str | None = None
    event_type: EventType | str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, event: TaskEvent) -> bool:
        """Whether `event` is one of them; for stores that cannot ask their engine."""
        return (
            (self.task_id is None or event.task_id == self.task_id)
            and (self.event_type is None or event.event_type == self.event_type)
            and (self.since is None or event.timestamp >= self.since)
            and (self.until is None or event.timestamp < self.until)
        )


EVERY_EVENT = EventFilter()


class BaseEventStorage(Component, ABC):
    """Events in chronological order (ties: in order of appending).

    A backend provides the underscored primitives. Appending is not idempotent: a call repeated
    after a lost reply may store an event twice.
    """

    def __init__(self) -> None:
        self._appends: Coalescer[TaskEvent, None] = Coalescer(self._append_batch)

    async def append(self, events: Sequence[TaskEvent]) -> None:
        """Store events in one batch.

        Raises:
            ValidationError: a field is bad; nothing of the call is stored.
        """
        checked = [checked_event(event) for event in events]
        store = await self._serving()
        if checked:
            await store._append(checked)

    async def log_event(self, event: TaskEvent) -> None:
        """Store one event. Coalesced."""
        await self._appends.submit(checked_event(event))

    def begin_logging(self, event: TaskEvent) -> asyncio.Future[None]:
        """Begin what `log_event` does; the future tells when it is done.

        Needs a running event loop. Cancelling the future does not keep the event from being stored.
        """
        return self._appends.begin(checked_event(event))

    async def query(
        self, where: EventFilter = EVERY_EVENT, *, limit: int = 1000, newest: bool = False
    ) -> list[TaskEvent]:
        """Return the first `limit` events that match, oldest first.

        With `newest`, the last `limit` events instead, still oldest first.
        """
        check_limit("limit", limit, ALL_EVENTS_LIMIT)
        store = await self._serving()
        return await store._query(where, limit, newest)

    async def get_events(
        self,
        task_id: str | None = None,
        *,
        event_type: EventType | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = ALL_EVENTS_LIMIT,
    ) -> list[TaskEvent]:
        """Return the events that match, oldest first.

        Args:
            task_id: only of this task.
            event_type: only of this type; ``"failed"`` and ``"FAILED"`` are the same.
            since: from this moment on.
            until: before this moment.
            limit: the first so many.
        """
        if task_id is not None:
            check_name("task_id", task_id)
        where = EventFilter(
            task_id=task_id,
            event_type=None if event_type is None else read_event_type(event_type),
            since=moment_or_none("since", since),
            until=moment_or_none("until", until),
        )
        return await self.query(where, limit=limit)

    async def get_all_events(self) -> list[TaskEvent]:
        """Return all events, oldest first (a million at most)."""
        return await self.query(limit=ALL_EVENTS_LIMIT)

    async def purge(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete up to `limit` events older than this moment; return how many."""
        check_limit("limit", limit)
        moment = moment_or_none("before", before) or utcnow()
        store = await self._serving()
        return await store._purge(moment, limit)

    async def cleanup_expired_events(
        self, before: datetime | None = None, *, now: datetime | None = None
    ) -> int:
        """Delete events older than this moment (default: 30 days ago); return how many."""
        moment = before or (now or utcnow()) - EVENTS_KEPT
        deleted = 0
        while True:
            count = await self.purge(moment, limit=1000)
            deleted += count
            if count < 1000:
                return deleted

    append_sync = blocking(append)
    log_event_sync = blocking(log_event)
    query_sync = blocking(query)
    get_events_sync = blocking(get_events)
    get_all_events_sync = blocking(get_all_events)
    purge_sync = blocking(purge)
    cleanup_expired_events_sync = blocking(cleanup_expired_events)

    async def _append_batch(self, events: list[TaskEvent]) -> list[None]:
        store = await self._serving()
        await store._append(events)
        return [None] * len(events)

    @abstractmethod
    async def _append(self, events: list[TaskEvent]) -> None: ...

    @abstractmethod
    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]: ...

    @abstractmethod
    async def _purge(self, before: datetime, limit: int) -> int: ...


async def append_missing(storage: BaseEventStorage, events: Sequence[TaskEvent]) -> None:
    """Store the events that are not there yet: after a write whose answer got lost."""
    missing: list[TaskEvent] = []
    for event in events:
        moment = event.timestamp
        where = EventFilter(
            task_id=event.task_id,
            event_type=event.event_type,
            since=moment,
            until=moment + timedelta(microseconds=1),
        )
        if not await storage.query(where, limit=1):
            missing.append(event)
    await storage.append(missing)
