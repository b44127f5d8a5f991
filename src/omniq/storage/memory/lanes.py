"""The tasks of one queue, in the order they are claimed, and when others come due."""

from __future__ import annotations

from datetime import datetime

from omniq.clock import EPOCH
from omniq.models.task import Task, TaskStatus
from omniq.storage.memory.heap import LazyHeap

PENDING, SCHEDULED, RUNNING = TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.RUNNING


class Record:
    """A stored task.

    Attributes:
        task: request and state, replaced as a whole and never changed in place. What a user could
            change through it (arguments, metadata, retry policy) is taken from `data`.
        data: the encoded task as it was inserted; None if it has nothing of that kind.
        place: its entry in the line of its lane while it stands there.
        timer: its entry in a heap of moments: the end of its wait or lease, or of its life.
    """

    __slots__ = ("data", "lane", "place", "task", "timer")

    def __init__(self, task: Task, data: bytes | None, lane: Lane) -> None:
        self.task = task
        self.data = data
        self.lane = lane
        self.place: Place | None = None
        self.timer: Timer | None = None

    def __lt__(self, other: Record) -> bool:
        """Compared only where an id was purged and inserted anew with equal keys: any order."""
        return False

    def forget(self) -> None:
        """Let the entries die that lead here."""
        self.place = self.timer = None


Place = tuple[int, datetime, str, Record]
Timer = tuple[datetime, str, Record]


def stands(entry: Place) -> bool:
    """Whether this is the record's present place in the line."""
    return entry[3].place is entry


def ticks(entry: Timer) -> bool:
    """Whether this is the record's present timer."""
    return entry[2].timer is entry


class Lane:
    """One queue. Each operation is O(log n), amortised, however many tasks wait or run."""

    def __init__(self) -> None:
        self.counts: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self.paused = False
        self._line: LazyHeap[Place] = LazyHeap(stands)
        self._timers: LazyHeap[Timer] = LazyHeap(ticks)
        self._overdue: LazyHeap[Timer] = LazyHeap(ticks)

    def line_up(self, record: Record) -> None:
        """Make a record claimable; it has one place, however often this is called."""
        if record.place is None:
            task = record.task
            record.place = (-task.priority, task.created_at, task.id, record)
            self._line.push(record.place)

    def set_timer(self, record: Record) -> None:
        """Let the record come due at its `due_at`."""
        record.timer = (record.task.due_at or EPOCH, record.task.id, record)
        self._timers.push(record.timer)

    def ring(self, now: datetime) -> list[Record]:
        """Line up the running tasks whose lease ended; return the scheduled ones that are due."""
        due: list[Record] = []
        while (timer := self._timers.first()) is not None and timer[0] <= now:
            self._timers.pop()
            record = timer[2]
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
            record = entry[3]
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
        """Return the earliest `due_at` of a scheduled or running task of an unpaused queue."""
        if self.paused:
            return None
        timers = (self._timers.first(), self._overdue.first())
        return min((timer[0] for timer in timers if timer is not None), default=None)


def is_due(task: Task, now: datetime) -> bool:
    """Whether the moment a scheduled or running task waits for has come."""
    return task.due_at is None or task.due_at <= now
