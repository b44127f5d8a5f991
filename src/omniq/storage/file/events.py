"""`FileEventStorage`: the history of tasks as lines of text, one folder a day."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from omniq.exceptions import SerializationError
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.serialization import SerializationFormat
from omniq.storage.events import BaseEventStorage, EventFilter
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.elsewhere import LocalOrElsewhere
from omniq.storage.file.location import (
    IN_FILES,
    Durability,
    check_durability,
    check_folder_name,
    locate,
)
from omniq.storage.file.segments import LocalSegments, Rewriter

logger = logging.getLogger("omniq.storage.file")

_OPAQUE = b'{"data":'
"""How a line begins that only its codec can read."""


class EventLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event as it is stored."""

    timestamp: datetime
    task_id: str
    event_type: str
    worker_id: str | None = None
    message: str | None = None
    details: dict[str, Any] = {}


class FileEventStorage(LocalOrElsewhere, BaseEventStorage):
    """Events in a folder, shared by any number of threads and processes of one machine.

    ``<base_dir>/events/2024/01/15/000001.jsonl`` holds one JSON object a line. Querying reads the
    days asked for, so a query without `since` and `until` reads everything.

    Args:
        base_dir: the folder, made if missing; or the URL of a folder in an object store.
        fs_kwargs: options of the file system of an object store.
        events_dir: name of the folder inside it.
        durability: ``full`` (what was logged is on the disk) or ``fast`` (a power cut may lose the
            last half minute; a crash of the program loses nothing).
        serialization_format, compression: of new events; each says its own format when read.
        allow_network: work on a network file system too; only for a single process.
    """

    capabilities = IN_FILES

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - `__new__` takes them all
        self,
        base_dir: str | Path | None = None,
        *,
        fs_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002 - for object stores, see `__new__`
        events_dir: str = "events",
        durability: Durability = "full",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        allow_network: bool = False,
    ) -> None:
        super().__init__()
        root = locate(base_dir).local_path() / check_folder_name("events_dir", events_dir)
        durable = check_durability(durability) == "full"
        self._segments = LocalSegments(root, durable=durable, allow_network=allow_network)
        self._codec = FileCodec(
            EventLine, ("details",), format=serialization_format, compression=compression
        )

    @classmethod
    def _elsewhere(cls) -> type[Any]:
        from omniq.storage.objectstore.events import ObjectEventStorage

        return ObjectEventStorage

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._segments)!r})"

    async def _open(self) -> None:
        await asyncio.to_thread(self._segments.open)

    async def _close(self) -> None:
        await asyncio.to_thread(self._segments.close)

    @property
    def folder(self) -> Path:
        """See `LocalOrElsewhere.folder`."""
        return self._segments.root

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return f"files {self._segments}"

    async def _findings(self) -> list[Finding]:
        return await asyncio.to_thread(self._segments.findings)

    async def _append(self, events: list[TaskEvent]) -> None:
        lines: dict[str, list[bytes]] = {}
        for event in events:
            lines.setdefault(_day(event.timestamp), []).append(self._line(event))
        await asyncio.to_thread(self._segments.append, lines)

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

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        return await asyncio.to_thread(self._select, where, limit, newest)

    async def _purge(self, before: datetime, limit: int) -> int:
        return await asyncio.to_thread(self._delete, before, limit)

    def _select(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        """Read day after day until there are enough; the days do not overlap."""
        found: list[TaskEvent] = []
        days = self._days(where)
        for day in reversed(days) if newest else days:
            events = sorted(self._matching(day, where), key=_moment)
            found = events + found if newest else found + events
            if len(found) >= limit:
                break
        return found[-limit:] if newest else found[:limit]

    def _days(self, where: EventFilter) -> list[str]:
        first = _day(where.since) if where.since else ""
        last = _day(where.until) if where.until else "9999"
        return [day for day in self._segments.days() if first <= day <= last]

    def _matching(self, day: str, where: EventFilter) -> Iterator[TaskEvent]:
        needles = _needles(where)
        for name in self._segments.segments(day):
            text = self._segments.read(day, name)
            if _OPAQUE not in text and any(needle not in text for needle in needles):
                continue
            for line in text.splitlines():
                event = self._event(line, needles, f"{day}/{name}")
                if event is not None and where.matches(event):
                    yield event

    def _event(self, line: bytes, needles: list[bytes], place: str) -> TaskEvent | None:
        """Return the event in a line; None if it cannot match, or is damaged."""
        if not line or (
            not line.startswith(_OPAQUE) and any(needle not in line for needle in needles)
        ):
            return None
        try:
            stored: EventLine = self._codec.decode(line)
        except SerializationError as error:
            logger.warning("skipped a line of %s/%s: %s", self._segments, place, error)
            return None
        return TaskEvent(
            task_id=stored.task_id,
            event_type=stored.event_type,
            timestamp=stored.timestamp,
            message=stored.message,
            details=stored.details,
            worker_id=stored.worker_id,
        )

    def _delete(self, before: datetime, limit: int) -> int:
        """Delete the first events before a moment, segment by segment."""
        last, deleted = _day(before), 0
        with self._segments.rewriting() as files:
            for day in self._segments.days():
                if day > last:
                    break
                for name in self._segments.segments(day):
                    if deleted >= limit:
                        return deleted
                    deleted += self._shorten(files, day, name, before, limit - deleted)
        return deleted

    def _shorten(self, files: Rewriter, day: str, name: str, before: datetime, most: int) -> int:
        """Delete up to `most` events before a moment from a segment; return how many."""
        lines = files.read(day, name).splitlines()
        old = [(_moment(event), n) for n, event in self._numbered(lines, day) if event is not None]
        doomed = sorted((moment, n) for moment, n in old if moment < before)[:most]
        if not doomed:
            return 0
        numbers = {n for _, n in doomed}
        kept = [line for n, line in enumerate(lines) if n not in numbers]
        if any(kept):
            files.replace(day, name, b"\n".join(kept) + b"\n")
        else:
            files.delete(day, name)
        return len(doomed)

    def _numbered(self, lines: list[bytes], day: str) -> Iterator[tuple[int, TaskEvent | None]]:
        for n, line in enumerate(lines):
            yield n, self._event(line, [], day)


def _day(moment: datetime) -> str:
    return _folder(moment.astimezone(UTC).toordinal())


@lru_cache(maxsize=8)
def _folder(day: int) -> str:
    return date.fromordinal(day).strftime("%Y/%m/%d")


def _moment(event: TaskEvent) -> datetime:
    return event.timestamp


def _needles(where: EventFilter) -> list[bytes]:
    """Return what stands in the text of each event that matches."""
    wanted: list[tuple[str, Any]] = [("task_id", where.task_id), ("event_type", where.event_type)]
    return [
        b'"%s":%s' % (name.encode(), msgspec.json.encode(str(value)))
        for name, value in wanted
        if value is not None
    ]


AsyncFileEventStorage = FileEventStorage
