"""`Line`: the ready tasks of one queue as this process knows them, in the order of claims.

It is read from the stream a part at a time: each look takes in what arrived since the last. A
record may be out of date, as others claim too; then its claim is refused and it is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from omniq.models.task import TaskStatus
from omniq.storage.memory.heap import LazyHeap
from omniq.storage.nats.places import READY
from omniq.storage.nats.records import Record

Entry = tuple[int, int, str, int, Record]
"""Sorts as claims do: priority (high first), creation, id; the serial ends every comparison."""


class Line:
    """The index of one queue. Each operation is O(log n), amortised."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._scheduled: dict[str, Record] = {}
        self._heap: LazyHeap[Entry] = LazyHeap(self._is_current)
        self._serial = 0

    def add(self, record: Record) -> None:
        """Take in a record, in place of an older one of its task."""
        task_id, head = record.place.task_id, record.head
        known = self._records.get(task_id)
        if known is not None and known.age >= record.age:
            return
        self._records[task_id] = record
        self._scheduled.pop(task_id, None)
        if head.status == TaskStatus.SCHEDULED.value:
            self._scheduled[task_id] = record
        self._serial += 1
        self._heap.push((-head.priority, head.created_at, task_id, self._serial, record))

    def drop(self, record: Record) -> None:
        """Forget a record, unless a later one took its place."""
        if self._records.get(record.place.task_id) is record:
            del self._records[record.place.task_id]
            self._scheduled.pop(record.place.task_id, None)

    def __len__(self) -> int:
        return len(self._records)

    def choose(self, limit: int, now: datetime | None, spread: int) -> list[Record]:
        """Remove and return up to `limit` claimable records, in order.

        Args:
            limit: at most so many.
            now: the moment that decides what is due; None: whatever the server holds for due.
            spread: if more than 1, a random part of the first `limit` x `spread`, so that
                processes that claim at once do not all go for the same.
        """
        chosen: list[Entry] = []
        aside: list[Entry] = []
        while len(chosen) < limit * spread and (entry := self._heap.first()) is not None:
            self._heap.pop()
            (chosen if is_due(entry[4], now) else aside).append(entry)
        if len(chosen) > limit:
            picked = set(random.sample(range(len(chosen)), limit))
            aside += [entry for place, entry in enumerate(chosen) if place not in picked]
            chosen = [entry for place, entry in enumerate(chosen) if place in picked]
        for entry in aside:
            self._heap.push(entry)
        records = [entry[4] for entry in chosen]
        for record in records:
            self.drop(record)
        return records

    def overdue(self, now: datetime | None, most: int) -> list[Record]:
        """Remove and return scheduled tasks whose moment has come, at most so many."""
        due = (record for record in self._scheduled.values() if is_due(record, now))
        found = list(islice(due, most))
        for record in found:
            self.drop(record)
        return found

    def has_ready(self) -> bool:
        """Whether something is claimable now, as far as is known."""
        return any(is_due(record, None) for record in self._records.values())

    def first(self, count: int) -> Sequence[Record]:
        """Return the first records and leave them."""
        entries: list[Entry] = []
        while len(entries) < count and (entry := self._heap.first()) is not None:
            self._heap.pop()
            entries.append(entry)
        for entry in entries:
            self._heap.push(entry)
        return [entry[4] for entry in entries]

    def _is_current(self, entry: Entry) -> bool:
        return self._records.get(entry[2]) is entry[4]


def is_due(record: Record, now: datetime | None) -> bool:
    """Whether a record is claimable at this moment; None leaves that to the server's clock."""
    if now is None:
        return record.place.group == READY
    if record.head.status == TaskStatus.PENDING.value:
        return True
    due_at = record.due_at
    return due_at is None or due_at <= now
