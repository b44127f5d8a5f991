"""Tasks in memory: as current as their files, for every change is observed."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from omniq.storage.file.ops import TaskWrite
from omniq.storage.file.records import Stored, state_in

_MOST_BYTES = 16 << 20
_LARGEST = 64 << 10


class Heard(NamedTuple):
    """What another process wrote, read when it is needed."""

    change: TaskWrite
    request: bytes

    @property
    def size(self) -> int:
        """See `Stored.size`."""
        return self.change.size

    def record(self) -> Stored:
        """Return the task."""
        change = self.change
        state = state_in(change.head)
        return Stored(change.task_id, state, self.request, was=change.to, size=change.size)


class RecordCache:
    """The tasks read or written last, by id.

    A unit of work takes out what it may change, and puts it back once the change is made: a job
    that fails leaves nothing half changed behind.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, Stored | Heard] = OrderedDict()
        self._bytes = 0

    def take(self, task_id: str) -> Stored | None:
        """Take a task out, if it is known."""
        known = self._drop(task_id)
        return known.record() if isinstance(known, Heard) else known

    def put(self, stored: Stored) -> None:
        """Remember a task as it is in its file."""
        self._drop(stored.task_id)
        self._put(stored.task_id, stored)

    def follow(self, change: TaskWrite) -> None:
        """Hear of a change that was made."""
        known = self._drop(change.task_id)
        request = change.payload or (known.request if known is not None else None)
        if change.to is not None and request is not None:
            self._put(change.task_id, Heard(change, request))

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._bytes = 0

    def _put(self, task_id: str, known: Stored | Heard) -> None:
        cost = _cost(known)
        if cost <= _LARGEST:
            self._known[task_id] = known
            self._bytes += cost
        while self._bytes > _MOST_BYTES:
            self._bytes -= _cost(self._known.popitem(last=False)[1])

    def _drop(self, task_id: str) -> Stored | Heard | None:
        known = self._known.pop(task_id, None)
        if known is not None:
            self._bytes -= _cost(known)
        return known


def _cost(known: Stored | Heard) -> int:
    """About how many bytes of memory it takes."""
    return known.size + len(known.request)
