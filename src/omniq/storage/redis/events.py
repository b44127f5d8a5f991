"""Events in Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

import msgspec

from omniq.clock import check_seconds, from_micros, to_micros
from omniq.exceptions import SerializationError
from omniq.models.event import TaskEvent
from omniq.serialization import from_plain, to_plain
from omniq.storage.events import EVENTS_KEPT, BaseEventStorage, EventFilter
from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.component import RedisComponent, joined, packed, server_of
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import RedisServer

EVENTS_PER_CALL = 1_000


class _Line(msgspec.Struct, array_like=True, gc=False):
    """An event as stored."""

    task_id: str
    event_type: str
    at: int
    message: str | None
    details: dict[str, Any]
    worker_id: str | None


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(_Line).decode


class RedisEventStorage(RedisComponent, BaseEventStorage):
    """Events on a Redis or Valkey server, where they expire by themselves.

    Args:
        url: where; without one, `host`, `port` and `db` are used.
        keep: how long events are kept after they were appended (seconds or timedelta); all users
            of a namespace should say the same.
        server: share this handle instead of making one.
        options: see `RedisOptions`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        keep: float | timedelta = EVENTS_KEPT,
        server: RedisServer | None = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(url, server, options)
        self._kept_seconds = int(check_seconds("keep", keep, least=1.0))

    def is_kept_on(self, server: RedisServer) -> bool:
        """Whether events are stored on this server, over the same connections."""
        return self._server is server

    def appending(self, events: Sequence[TaskEvent]) -> tuple[Any, ...]:
        """Return what scripts are told of events that they append.

        Raises:
            SerializationError: one cannot be stored.
        """
        batch = [
            field
            for item in events
            for field in (item.task_id, str(item.event_type), str(to_micros(item.timestamp)))
        ]
        encoded = [_encoded(item) for item in events]
        return self._kept_seconds, packed(batch), *joined(encoded)

    async def _append(self, events: list[TaskEvent]) -> None:
        parts = range(0, len(events), EVENTS_PER_CALL)
        calls = [self.appending(events[start : start + EVENTS_PER_CALL]) for start in parts]
        for arguments in calls:
            await self._server.run(_APPEND, *arguments)

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        if where.task_id is not None:
            return await self._history(where.task_id, where, limit, newest=newest)
        found: list[TaskEvent] = []
        cursor: tuple[bytes, bytes] = (b"", b"")
        while True:
            answer = await self._page(where, cursor, min(limit, EVENTS_PER_CALL), newest=newest)
            cursor = answer[0], answer[1]
            found += [_decoded(line) for line in answer[2:]]
            if not cursor[0] or len(found) >= limit:
                break
        del found[limit:]
        return found[::-1] if newest else found

    async def _page(
        self, where: EventFilter, cursor: tuple[bytes, bytes], looks: int, *, newest: bool
    ) -> list[bytes]:
        low = "-inf" if where.since is None else str(to_micros(where.since))
        high = "+inf" if where.until is None else f"({to_micros(where.until)}"
        kind = "" if where.event_type is None else str(where.event_type)
        arguments = (self._kept_seconds, low, high, *cursor, looks, "1" if newest else "", kind)
        answer: list[bytes] = await self._server.run(_QUERY, *arguments, again=True)
        return answer

    async def _history(
        self, task_id: str, where: EventFilter, limit: int, *, newest: bool
    ) -> list[TaskEvent]:
        """Return the events of one task: stored as they were appended, here sorted by moment."""
        lines = await self._server.run(_HISTORY, self._kept_seconds, task_id, again=True)
        events = [_decoded(line) for line in lines]
        matching = [event for event in events if where.matches(event)]
        matching.sort(key=lambda event: event.timestamp)
        return matching[-limit:] if newest else matching[:limit]

    async def _purge(self, before: datetime, limit: int) -> int:
        arguments = (self._kept_seconds, to_micros(before), limit)
        return int(await self._server.run(_PURGE, *arguments))


def _encoded(event: TaskEvent) -> bytes:
    details: dict[str, Any] = to_plain(event.details, "details") if event.details else {}
    line = _Line(
        event.task_id,
        str(event.event_type),
        to_micros(event.timestamp),
        event.message,
        details,
        event.worker_id,
    )
    try:
        return _to_json(line)
    except UnicodeEncodeError as error:
        raise SerializationError("event", str(error)) from error


def _decoded(stored: bytes) -> TaskEvent:
    line = _from_json(stored)
    return TaskEvent(
        task_id=line.task_id,
        event_type=line.event_type,
        timestamp=from_micros(line.at),
        message=line.message,
        details=from_plain(line.details) if line.details else {},
        worker_id=line.worker_id,
    )


_APPEND = script("event_append", "events", "event_put")
_HISTORY = script("event_history", "events")
_QUERY = script("event_query", "events")
_PURGE = script("event_purge", "events")
AsyncRedisEventStorage = RedisEventStorage
