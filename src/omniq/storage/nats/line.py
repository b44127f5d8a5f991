"""`Line`: the ready tasks of one queue as this process knows them, in the order of claims.

It is read from the stream a part at a time: each look takes in what arrived since the last. An
entry may be out of date, as others claim too; then its claim is refused and the entry dropped.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime

from omniq.models.task import TaskStatus
from omniq.storage.memory.heap import LazyHeap
from omniq.storage.nats.records import Record

Entry = tuple[int, int, str, int, Record]
"""Sorts as claims do: priority (high first), creation, id. The revision tells if it still lives."""


class Line:
    """The index of one queue. Each operation is O(log n), amortised."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}
        self._heap: LazyHeap[Entry] = LazyHeap(self._is_current)
        self._scheduled: dict[str, Record] = {}
        self._most = 10_000
        self.seen = 0

    def __len__(self) -> int:
        return len(self._current)

    def add(self, record: Record) -> None:
        """Take in a record, in place of an older one of its task."""
        task_id, head = record.place.task_id, record.head
        if self._current.get(task_id, 0) >= record.sequence:
            return
        self._current[task_id] = record.sequence
        self._scheduled.pop(task_id, None)
        if head.status == TaskStatus.SCHEDULED.value:
            self._scheduled[task_id] = record
        self._heap.push((-head.priority, head.created_at, task_id, record.sequence, record))

    def drop(self, task_id: str) -> None:
        """Forget a task."""
        self._current.pop(task_id, None)
        self._scheduled.pop(task_id, None)

    def clear(self) -> None:
        """Forget everything, so that the next look takes in all there is."""
        self.__init__()  # type: ignore[misc]  # as new

    def is_overgrown(self) -> bool:
        """Whether so much came in since it was empty that much of it must be out of date."""
        return len(self._current) > self._most

    def settled(self) -> None:
        """Say that it holds what there is, and nothing else."""
        self._most = 2 * len(self._current) + 10_000

    def choose(self, limit: int, now: datetime | None, spread: int) -> list[Record]:
        """Remove and return up to `limit` records that are claimable, in order.

        Args:
            limit: at most so many.
            now: the moment that decides what is due; None takes what the server holds for due.
            spread: with more than 1, a random part of the first `limit` x `spread`, so that
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
        for entry in chosen:
            self.drop(entry[2])
        return [entry[4] for entry in chosen]

    def overdue(self, now: datetime | None, most: int) -> list[Record]:
        """Return scheduled tasks whose moment has come, at most so many."""
        due = (record for record in self._scheduled.values() if is_due(record, now))
        return [record for record, _ in zip(due, range(most), strict=False)]

    def has_ready(self, now: datetime) -> bool:
        """Whether something is claimable by the present, as far as is known."""
        entry = self._heap.first()
        if entry is not None and is_due(entry[4], now):
            return True
        return any(self._current.get(one[2]) == one[3] and is_due(one[4], now) for one in self._all())

    def _all(self) -> Iterable[Entry]:
        return list(self._heap)

    def first(self, count: int) -> Sequence[Record]:
        """Return the first records without removing them."""
        entries: list[Entry] = []
        while len(entries) < count and (entry := self._heap.first()) is not None:
            self._heap.pop()
            entries.append(entry)
        for entry in entries:
            self._heap.push(entry)
        return [entry[4] for entry in entries]

    def _is_current(self, entry: Entry) -> bool:
        return self._current.get(entry[2]) == entry[3]


def is_due(record: Record, now: datetime | None) -> bool:
    """Whether a record of the ready group is claimable."""
    if now is None or record.head.status == TaskStatus.PENDING.value:
        return True
    due_at = record.due_at
    return due_at is None or due_at <= now
