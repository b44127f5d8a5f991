"""`ObjectEventStorage`: the history of tasks, an object for each batch.

``events/2024/01/15/<written>-<first>-<last>-<nonce>.jsonl`` holds one JSON object a line. The name
says when it was written and between which moments of its day the events lie, all in microseconds:
who asks for an hour reads nothing else. Purging may take lines away, so these are bounds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple
from uuid import uuid4

from omniq.clock import to_micros, utcnow
from omniq.exceptions import SerializationError
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.serialization import SerializationFormat
from omniq.storage.events import BaseEventStorage, EventFilter
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.events import EventLine
from omniq.storage.file.location import check_folder_name
from omniq.storage.objectstore.component import ObjectComponent
from omniq.storage.objectstore.damages import Damages
from omniq.storage.objectstore.driver import ABSENT, PAGE, ObjectDriver, Stored
from omniq.storage.objectstore.together import commonprefix, together

logger = logging.getLogger("omniq.storage.objectstore")

DAY_MICROS = 86_400_000_000
READ_AT_ONCE = 64
MANY = 500
RECENT = timedelta(hours=1)
"""How many batches the doctor reads, and written in which time."""
_SUFFIX = ".jsonl"


class Segment(NamedTuple):
    """An object with events of one day; `first` and `last` bound their moments."""

    first: int
    last: int
    written: int
    key: str

    def overlaps(self, since: int | None, until: int | None) -> bool:
        """Whether it may hold events from one moment on and before another."""
        return (since is None or self.last >= since) and (until is None or self.first < until)


class Found(NamedTuple):
    """An event and its place in the order of all."""

    at: datetime
    written: int
    line: int
    event: TaskEvent


class ObjectEventStorage(ObjectComponent, BaseEventStorage):
    """Events in an object store.

    Querying reads all objects of the days asked for, so a query without `since` and `until`, even
    one for a single task, reads everything.

    Args:
        driver: of the store.
        events_dir: name of the folder.
        serialization_format, compression: of new events; each says its own format when read.
    """

    def __init__(
        self,
        driver: ObjectDriver,
        *,
        events_dir: str = "events",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
    ) -> None:
        ObjectComponent.__init__(self, driver)
        BaseEventStorage.__init__(self)
        self._folder = f"{check_folder_name('events_dir', events_dir)}/"
        self._damages = Damages(driver, self._folder.rstrip("/"))
        self._written = 0
        self._codec = FileCodec(
            EventLine, ("details",), format=serialization_format, compression=compression
        )

    async def _append(self, events: list[TaskEvent]) -> None:
        days: dict[str, list[TaskEvent]] = {}
        for event in events:
            days.setdefault(_day(event.timestamp), []).append(event)
        # Encoded before anything is stored: one bad event stops all.
        bodies = {day: b"\n".join(map(self._line, batch)) + b"\n" for day, batch in days.items()}
        self._written = max(self._written + 1, to_micros(utcnow()))
        await together(
            self._driver.put(self._key(day, days[day]), body, expected=ABSENT)
            for day, body in bodies.items()
        )

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        """Read segment after segment until none that follows can hold one of the first `limit`."""
        segments = [one async for one in self._segments(where)]
        segments.sort(key=attrgetter("last") if newest else attrgetter("first"), reverse=newest)
        found: list[Found] = []
        for start in range(0, len(segments), READ_AT_ONCE):
            if len(found) == limit and _is_beyond(segments[start], found, newest=newest):
                break
            read = await together(
                self._matching(one, where) for one in segments[start : start + READ_AT_ONCE]
            )
            found = sorted([*found, *(item for items in read for item in items)], key=_place)
            found = found[-limit:] if newest else found[:limit]
        return [one.event for one in found]

    async def _findings(self) -> list[Finding]:
        """Read what was logged lately, within bounds, and report what cannot be read."""
        now = utcnow()
        day = f"{self._folder}{_day(now)}/"
        start = f"{day}{to_micros(now - RECENT):016d}"
        entries = await self._driver.list(day, after=start, limit=MANY)
        segments = [one for one in (self._segment(entry.key) for entry in entries) if one]
        for n in range(0, len(segments), READ_AT_ONCE):
            part = segments[n : n + READ_AT_ONCE]
            await together(self._matching(one, EventFilter()) for one in part)
        hint = "it hides no other: look at the object, then delete it, or wait until it is purged"
        return await self._damages.findings(repr(self), hint)

    async def _purge(self, before: datetime, limit: int) -> int:
        deleted = 0
        async for segment in self._segments(EventFilter(until=before)):
            if deleted >= limit:
                break
            deleted += await self._shorten(segment, before, limit - deleted)
        return deleted

    async def _shorten(self, segment: Segment, before: datetime, most: int) -> int:
        """Delete up to `most` events before a moment from a segment; return how many."""
        stored = await self._driver.get(segment.key)
        if stored is None:
            return 0
        found = list(self._read(segment, stored))
        old = sorted((one for one in found if one.at < before), key=_place)
        doomed = {one.line for one in old[:most]}
        lines = enumerate(stored.data.splitlines())
        kept = [line for n, line in lines if n not in doomed]
        if kept and len(doomed) == len(found) and segment.last < to_micros(before):
            await self._damages.set_aside(segment.key, b"\n".join(kept) + b"\n")
            kept.clear()
        if not kept:
            is_done = await self._driver.remove(segment.key, stored.version)
        elif doomed:
            data = b"\n".join(kept) + b"\n"
            is_done = await self._driver.put(segment.key, data, expected=stored.version) is not None
        else:
            return 0
        return len(doomed) if is_done else 0

    async def _segments(self, where: EventFilter) -> AsyncIterator[Segment]:
        """Yield the segments that may hold such events, day by day, as they were written."""
        since = None if where.since is None else to_micros(where.since)
        until = None if where.until is None else to_micros(where.until)
        first_day = _day(where.since) if where.since else ""
        last_day = _day(where.until) if where.until else "9999"
        prefix = self._folder + commonprefix([first_day, last_day])
        after = self._folder + first_day
        while True:
            entries = await self._driver.list(prefix, after=after, limit=PAGE)
            for entry in entries:
                if entry.key.removeprefix(self._folder)[: len(last_day)] > last_day:
                    return
                segment = self._segment(entry.key)
                if segment is not None and segment.overlaps(since, until):
                    yield segment
            if len(entries) < PAGE:
                return
            after = entries[-1].key

    async def _matching(self, segment: Segment, where: EventFilter) -> list[Found]:
        stored = await self._driver.get(segment.key)
        if stored is None:
            return []  # purged meanwhile
        return [one for one in self._read(segment, stored) if where.matches(one.event)]

    def _read(self, segment: Segment, stored: Stored) -> Iterator[Found]:
        for n, line in enumerate(stored.data.splitlines()):
            try:
                event = _event(self._codec.decode(line))
            except SerializationError as error:
                self._damages.note(f"line {n + 1} of {segment.key}", error.problem)
                logger.warning("skipped a line of %s in %s: %s", segment.key, self._driver, error)
                continue
            yield Found(event.timestamp, segment.written, n, event)

    def _key(self, day: str, events: Sequence[TaskEvent]) -> str:
        moments = [to_micros(event.timestamp) % DAY_MICROS for event in events]
        bounds = f"{min(moments):011d}-{max(moments):011d}"
        return f"{self._folder}{day}/{self._written:016d}-{bounds}-{uuid4().hex[:12]}{_SUFFIX}"

    def _segment(self, key: str) -> Segment | None:
        """Return what a name says; None if it is none of ours."""
        day, _, name = key.removeprefix(self._folder).rpartition("/")
        try:
            written, first, last, _ = name.removesuffix(_SUFFIX).split("-")
            start = to_micros(datetime.strptime(day, "%Y/%m/%d").replace(tzinfo=UTC))
            return Segment(start + int(first), start + int(last), int(written), key)
        except ValueError:
            return None

    def _line(self, event: TaskEvent) -> bytes:
        return self._codec.encode(
            EventLine(
                timestamp=event.timestamp,
                task_id=event.task_id,
                event_type=str(event.event_type),
                worker_id=event.worker_id,
                message=event.message,
                details=event.details,
            )
        )


def _event(line: EventLine) -> TaskEvent:
    return TaskEvent(
        task_id=line.task_id,
        event_type=line.event_type,
        timestamp=line.timestamp,
        message=line.message,
        details=line.details,
        worker_id=line.worker_id,
    )


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y/%m/%d")


def _place(found: Found) -> tuple[datetime, int, int]:
    return found.at, found.written, found.line


def _is_beyond(segment: Segment, found: list[Found], *, newest: bool) -> bool:
    """Whether a segment, and so all that follow, lies beyond the events found."""
    if newest:
        return segment.last < to_micros(found[0].at)
    return segment.first > to_micros(found[-1].at)
