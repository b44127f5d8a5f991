"""`NATSEventStorage`: events in a stream, on a subject for each task.

A stream is in the order of appending; events are asked for in the order of their moments. Nearly
always that is the same order but for a moment, and a reader can stop once it is a moment past what
it wants. An event appended late (a stalled worker, a migration) goes to a subject of its own, and
those are read in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Unpack

import msgspec

from omniq.clock import utcnow
from omniq.models.event import TaskEvent
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.events import BaseEventStorage, EventFilter
from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.answers import Stored
from omniq.storage.nats.component import NATSComponent, server_of, token
from omniq.storage.nats.cursor import PAGE
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.jetstream import EXPECTED, Addressed, Stream
from omniq.storage.nats.link import NATSServer

LATE = timedelta(seconds=1)
"""An event further from the present when appended counts as late."""
DISORDER = timedelta(seconds=5)
"""Two events on time that were appended in one order are never further apart in the other:
twice `LATE`, and the way to the server."""
KEPT_SECONDS = 30 * 86_400


class EventRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An event as it is stored; the type as plain text."""

    task_id: str
    event_type: str
    timestamp: datetime
    message: str | None = None
    details: dict[str, Any] = {}
    worker_id: str | None = None


class _Entry(NamedTuple):
    at: datetime
    sequence: int
    event: TaskEvent


class NATSEventStorage(NATSComponent, BaseEventStorage):
    """Events in the stream ``<namespace>_events``, which keeps them for 30 days by itself.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        serialization_format: how new details are encoded.
        server: share this handle instead of making one.
        options: see `NATSOptions`.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: NATSServer | None = None,
        **options: Unpack[NATSOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(servers, server, options)
        self._prefix = f"{self._server.prefix}.events"
        self.stream = Stream(
            self._server,
            f"{self._server.prefix}_events",
            {"subjects": [f"{self._prefix}.>"], "max_age": KEPT_SECONDS * 1_000_000_000},
            (),
        )
        self._codec = RecordCodec(EventRecord, ("details",), format=serialization_format)

    def is_kept_on(self, server: NATSServer) -> bool:
        """Whether this very handle leads to the events."""
        return self._server is server

    def beginning(self, events: Sequence[TaskEvent]) -> Addressed:
        """Return the messages that begin histories: refused where something is told already."""
        frames = [
            frame._replace(headers=self._first_of(event.task_id))
            for frame, event in zip(self._frames(events), events, strict=True)
        ]
        return Addressed(self.stream, frames)

    async def _append(self, events: list[TaskEvent]) -> None:
        await self.stream.publish(self._frames(events))

    def _frames(self, events: Sequence[TaskEvent]) -> list[Frame]:
        now = utcnow()
        return [Frame(self._subject(event, now), self._encoded(event)) for event in events]

    def _first_of(self, task_id: str) -> bytes:
        history = f"{self._prefix}.*.{token(task_id)}"
        return f"{EXPECTED}: 0\r\n{EXPECTED}-Subject: {history}\r\n".encode()

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        if where.task_id is not None:
            found = await self._read(f"{self._prefix}.*.{token(where.task_id)}")
        else:
            late = await self._read(f"{self._prefix}.late.*")
            found = [*late, *await self._on_time(where, limit, newest=newest)]
        matching = sorted(
            (one for one in found if where.matches(one.event)), key=lambda one: one[:2]
        )
        return [one.event for one in (matching[-limit:] if newest else matching[:limit])]

    async def _purge(self, before: datetime, limit: int) -> int:
        where = EventFilter(until=before)
        found = [
            *await self._read(f"{self._prefix}.late.*"),
            *await self._from_the_start(where, limit),
        ]
        old = sorted((one.at, one.sequence) for one in found if one.at < before)[:limit]
        return sum(await self.stream.delete([sequence for _, sequence in old]))

    async def _on_time(self, where: EventFilter, limit: int, *, newest: bool) -> list[_Entry]:
        if newest and where.until is None:
            return await self._from_the_end(where, limit)
        return await self._from_the_start(where, None if newest else limit)

    async def _from_the_start(self, where: EventFilter, limit: int | None) -> list[_Entry]:
        """Events on time, oldest first, until what follows cannot be among the first `limit`."""
        is_past = _Horizon(where, limit)
        found: list[_Entry] = []
        async for page in self.stream.pages(f"{self._prefix}.now.*"):
            for entry in map(self._entry, page):
                if is_past(entry):
                    return found
                found.append(entry)
        return found

    async def _from_the_end(self, where: EventFilter, limit: int) -> list[_Entry]:
        """Events on time, read backwards until what precedes is not among the last `limit`."""
        end = await self.stream.last_sequence()
        width, matching, found = max(PAGE, limit), 0, list[_Entry]()
        while end > 0:
            start = max(1, end - width + 1)
            window = await self._window(start, end)
            found += window
            matching += sum(where.matches(one.event) for one in window)
            moments = [one.at for one in found if where.matches(one.event)]
            since = where.since
            if matching >= limit:
                since = max(since or moments[0], sorted(moments)[-limit])
            if since is not None and any(one.at < since - DISORDER for one in window):
                break
            end, width = start - 1, 2 * width
        return found

    async def _window(self, start: int, end: int) -> list[_Entry]:
        found: list[_Entry] = []
        async for page in self.stream.pages(f"{self._prefix}.now.*", start=start):
            found += [self._entry(stored) for stored in page if stored.sequence <= end]
            if page[-1].sequence >= end:
                break
        return found

    async def _read(self, pattern: str) -> list[_Entry]:
        return [self._entry(stored) async for page in self.stream.pages(pattern) for stored in page]

    def _entry(self, stored: Stored) -> _Entry:
        record: EventRecord = self._codec.decode(stored.data)
        event = TaskEvent(
            task_id=record.task_id,
            event_type=record.event_type,
            timestamp=record.timestamp,
            message=record.message,
            details=record.details,
            worker_id=record.worker_id,
        )
        return _Entry(event.timestamp, stored.sequence, event)

    def _encoded(self, event: TaskEvent) -> bytes:
        return self._codec.encode(
            EventRecord(
                task_id=event.task_id,
                event_type=str(event.event_type),
                timestamp=event.timestamp,
                message=event.message,
                details=event.details,
                worker_id=event.worker_id,
            )
        )

    def _subject(self, event: TaskEvent, now: datetime) -> str:
        kind = "now" if abs(now - event.timestamp) <= LATE else "late"
        return f"{self._prefix}.{kind}.{token(event.task_id)}"


def _Horizon(where: EventFilter, limit: int | None) -> Callable[[_Entry], bool]:  # noqa: N802
    """Tell of entries read in order of appending whether all that follow are of no interest."""
    moments: list[datetime] = []
    until = where.until

    def is_past(entry: _Entry) -> bool:
        nonlocal until
        if where.matches(entry.event):
            moments.append(entry.at)
        if limit is not None and len(moments) == limit:
            last = max(moments)
            until = last if until is None else min(until, last)
        return until is not None and entry.at > until + DISORDER

    return is_past


AsyncNATSEventStorage = NATSEventStorage
NatsEventStorage = NATSEventStorage
AsyncNatsEventStorage = NATSEventStorage
