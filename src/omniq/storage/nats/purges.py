"""Deleting finished tasks, oldest first, each by its revision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from omniq.clock import to_micros
from omniq.storage.nats.inserts import key_subject
from omniq.storage.nats.places import FINAL, ODD, ODDLY_FINAL
from omniq.storage.nats.records import Record
from omniq.storage.nats.shelf import Shelf


class Purges:
    """Final tasks stand in the order of their ends, but for the odd ones: those are all read."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def purge(self, finished_before: datetime, limit: int) -> int:
        """Delete final tasks; see `TaskStore.purge`."""
        before = to_micros(finished_before)
        found = await self._of_group(ODDLY_FINAL, before, None, limit)
        found += await self._of_group(FINAL, before, to_micros(finished_before + 2 * ODD), limit)
        found.sort(key=_finished_at)
        del found[limit:]
        await self._shelf.read([record.place.task_id for record in found])  # deletes late messages
        gone = await self._shelf.stream.delete([record.sequence for record in found])
        purged = [record for record, ok in zip(found, gone, strict=True) if ok]
        await self._free_keys(purged)
        return len(purged)

    async def _of_group(self, group: str, before: int, end: int | None, limit: int) -> list[Record]:
        """Return the first of a group that finished before a moment; none follows after `end`."""
        found: list[Record] = []
        async for page in self._shelf.stream.pages(self._shelf.places.some(group)):
            for record in map(self._shelf.codec.record, page):
                if _finished_at(record) < before:
                    found.append(record)
                elif end is not None and _finished_at(record) >= end:
                    return found
            if end is not None and len(found) >= limit:
                break
        return found

    async def _free_keys(self, purged: Sequence[Record]) -> None:
        """Delete the keys that name a purged task as their last holder."""
        held: dict[str, str] = {}
        for record in purged:
            key = self._shelf.codec.task(record).unique_key
            if key is not None:
                held[key_subject(self._shelf, record.place.queue, key)] = record.place.task_id
        stored = await self._shelf.stream.last(list(held))
        await self._shelf.stream.delete(
            [one.sequence for one in stored if one.data.decode() == held[one.subject]]
        )


def _finished_at(record: Record) -> int:
    return record.head.finished_at or 0
