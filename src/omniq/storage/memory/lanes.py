"""The tasks of one queue, in the order they are claimed, and when others come due."""

from __future__ import annotations

from datetime import datetime

import msgspec

from omniq.clock import EPOCH
from omniq.models.task import Task, TaskStatus
from omniq.storage.memory.heap import LazyHeap

PENDING, SCHEDULED, RUNNING = TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.RUNNING


Place = tuple[int, datetime, str]
Timer = tuple[datetime, str]


class Record(msgspec.Struct, gc=False):
    """A stored task. The garbage collector does not look at it: it is never part of a cycle.

    Attributes:
        task: request and state, replaced as a whole and never changed in place. What a user could
            change through it (arguments, metadata, retry policy) is taken from `data`.
        data: the encoded task as it was inserted; None if it has nothing of that kind.
        waits_on: the parents it will be told about when they become final.
        place: its entry in the line of its lane while it stands there.
        timer: its entry in a heap of moments: the end of its wait or lease, or of its life.
    """

    task: Task
    data: bytes | None
    waits_on: tuple[str, ...] = ()
    place: Place | None = None
    timer: Timer | None = None


class Lane:
    """One queue. Each operation is O(log n), amortised, however many tasks wait or run.

    Entries of heaps are tuples of plain values, which the garbage collector does not look at; an
    entry is alive while its record, found by id, still holds that very tuple.
    """

    def __init__(self, records: dict[str, Record]) -> None:
        self.counts: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self.paused = False
        self._records = records
        self._line: LazyHeap[Place] = LazyHeap(self._stands)
        self._timers: LazyHeap[Timer] = LazyHeap(self._ticks)
        self._overdue: LazyHeap[Timer] = LazyHeap(self._ticks)

    def line_up(self, record: Record) -> None:
        """Make a record claimable; it has one place, however often this is called."""
        if record.place is None:
            task = record.task
            record.place = (-task.priority, task.created_at, task.id)
            self._line.push(record.place)

    def set_timer(self, record: Record) -> None:
        """Let the record come due at its `due_at`."""
        record.timer = (record.task.due_at or EPOCH, record.task.id)
        self._timers.push(record.timer)

    def ring(self, now: datetime) -> list[Record]:
        """Line up the running tasks whose lease ended; return the scheduled ones that are due."""
        due: list[Record] = []
        while (timer := self._timers.first()) is not None and timer[0] <= now:
            self._timers.pop()
            record = self._records[timer[1]]
            if record.task.status is SCHEDULED:
                due.append(record)
            else:
                self._overdue.push(timer)
                self.line_up(record)
        return due

    def take(self, now: datetime) -> Record | None:
        """Remove and return the first in the line that is claimable."""
        while (entry := self._line.first()) is not None:
            self._line.pop()
            record = self._records[entry[2]]
            record.place = None
            if record.task.status is PENDING or is_due(record.task, now):
                return record
            self.set_timer(record)  # the moments callers gave went backwards
        return None

    def claimable_at(self, now: datetime) -> datetime | None:
        """Return from when on a claim finds something: `now`, a moment ahead, or None."""
        if self.paused:
            return None
        return now if self._line.first() is not None else self.next_due()

    def next_due(self) -> datetime | None:
        """Return the earliest `due_at` of a scheduled or running task."""
        timers = (self._timers.first(), self._overdue.first())
        return min((timer[0] for timer in timers if timer is not None), default=None)

    def _stands(self, place: Place) -> bool:
        record = self._records.get(place[2])
        return record is not None and record.place is place

    def _ticks(self, timer: Timer) -> bool:
        record = self._records.get(timer[1])
        return record is not None and record.timer is timer


def is_due(task: Task, now: datetime) -> bool:
    """Whether the moment a scheduled or running task waits for has come."""
    return task.due_at is None or task.due_at <= now
