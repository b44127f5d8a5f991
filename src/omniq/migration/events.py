"""Copying events, which have no ids: what both have is told by comparing spans of time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from omniq.migration.copying import PAGE, Copied, Progress
from omniq.models.event import TaskEvent
from omniq.moving.stores import without
from omniq.storage.base import BaseEventStorage, EventFilter
from omniq.storage.events import ALL_EVENTS_LIMIT

_TICK = timedelta(microseconds=1)


async def copy_events(
    source: BaseEventStorage, target: BaseEventStorage, progress: Progress
) -> Copied:
    """Append to the target what it lacks of the source, in order."""
    done = Copied()
    async for span in _spans(source):
        missing = await _missing(span, target)
        await target.append(missing)
        done = done.plus(len(missing), len(span) - len(missing))
        progress("events", sum(done), None)
    return done


async def missing_events(source: BaseEventStorage, target: BaseEventStorage) -> int:
    """Return how many events of the source the target lacks."""
    return sum([len(await _missing(span, target)) async for span in _spans(source)])


async def _spans(storage: BaseEventStorage) -> AsyncIterator[list[TaskEvent]]:
    """Yield all events in order, those of one moment never in two parts."""
    since: datetime | None = None
    limit = PAGE
    while True:
        page = await storage.query(EventFilter(since=since), limit=limit)
        if len(page) < limit:
            if page:
                yield page
            return
        last = page[-1].timestamp
        whole = [event for event in page if event.timestamp < last]
        if whole:
            yield whole
            since, limit = last, PAGE
        elif limit == ALL_EVENTS_LIMIT:
            yield page
            since, limit = last + _TICK, PAGE
        else:
            limit = min(limit * 10, ALL_EVENTS_LIMIT)


async def _missing(span: list[TaskEvent], target: BaseEventStorage) -> list[TaskEvent]:
    where = EventFilter(since=span[0].timestamp, until=span[-1].timestamp + _TICK)
    return without(span, await target.query(where, limit=ALL_EVENTS_LIMIT))
