"""`MemoryEventStorage`: the history of tasks in memory."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

import msgspec

from omniq.models.event import TaskEvent
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.events import BaseEventStorage, EventFilter
from omniq.storage.memory.component import MemoryComponent


class Details(msgspec.Struct):
    """The encoded part of an event."""

    details: dict[str, Any]


Entry = tuple[datetime, int, str, str, str | None, str | None, bytes | None]
"""Moment, serial, task, type, message, worker and encoded details: plain values, which the garbage
collector skips. Entries sort by moment, then serial."""
Line = list[Entry]


class MemoryEventStorage(MemoryComponent, BaseEventStorage):
    """Events in the memory of this process. Safe to use from any thread and event loop.

    Details are kept encoded: what a caller does to those it gave or got never reaches the store.

    Args:
        serialization_format: how details are encoded; ``pickle`` takes any picklable value.
    """

    def __init__(self, *, serialization_format: SerializationFormat = "json") -> None:
        super().__init__()
        self._codec = RecordCodec(Details, ("details",), format=serialization_format)
        self._lock = threading.Lock()
        self._all: Line = []
        self._by_task: dict[str, Line] = {}
        self._serial = 0

    async def _append(self, events: list[TaskEvent]) -> None:
        encoded = [self._encoded(event) for event in events]
        with self._lock:
            for event, data in zip(events, encoded, strict=True):
                self._serial += 1
                entry = _entry(event, self._serial, data)
                _add(self._all, entry)
                _add(self._by_task.setdefault(event.task_id, []), entry)

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        with self._lock:
            line = self._all if where.task_id is None else self._by_task.get(where.task_id, [])
            since, until = _slice(line, where)
            places = range(until - 1, since - 1, -1) if newest else range(since, until)
            kind = None if where.event_type is None else str(where.event_type)
            matching = (line[place] for place in places if kind in (None, line[place][3]))
            found = list(islice(matching, limit))
        return [self._event(entry) for entry in (reversed(found) if newest else found)]

    async def _purge(self, before: datetime, limit: int) -> int:
        with self._lock:
            count = min(limit, _first_at(self._all, before))
            for entry in self._all[:count]:
                line = self._by_task[entry[2]]
                del line[0]
                if not line:
                    del self._by_task[entry[2]]
            del self._all[:count]
            return count

    def _encoded(self, event: TaskEvent) -> bytes | None:
        return self._codec.encode(Details(event.details)) if event.details else None

    def _event(self, entry: Entry) -> TaskEvent:
        at, _, task_id, event_type, message, worker_id, data = entry
        return TaskEvent(
            task_id=task_id,
            event_type=event_type,
            timestamp=at,
            message=message,
            details={} if data is None else self._codec.decode(data).details,
            worker_id=worker_id,
        )


def _entry(event: TaskEvent, serial: int, data: bytes | None) -> Entry:
    kind = str(event.event_type)
    return event.timestamp, serial, event.task_id, kind, event.message, event.worker_id, data


def _add(line: Line, entry: Entry) -> None:
    """Add an entry at its place, which is nearly always the end."""
    if not line or line[-1][0] <= entry[0]:
        line.append(entry)
    else:
        insort(line, entry, key=itemgetter(0, 1))


def _first_at(line: Line, moment: datetime) -> int:
    """Return the place of the first entry at that moment or later."""
    return bisect_left(line, moment, key=itemgetter(0))


def _slice(line: Line, where: EventFilter) -> tuple[int, int]:
    since = 0 if where.since is None else _first_at(line, where.since)
    until = len(line) if where.until is None else _first_at(line, where.until)
    return since, until
