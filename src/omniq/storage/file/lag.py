"""Changes that the journal has and the files have not yet, so that two of one task are made as one.

A worker under load claims a hundred tasks, and a moment later ends them. Each change of a task is a
file written and renamed; made together, claim and end cost one. What is here is acknowledged, and
as safe as all of the journal: whoever takes the lock next makes it, should this process be gone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from omniq.storage.file.ops import Op, TaskWrite

MANY = 10
"""Transactions of fewer changes are made at once: who works by hand sees what was done."""
WAIT_SECONDS = 0.5
MOST = 2_048
"""Under load a change waits for so long, or until so many tasks changed after it."""
IDLE_SECONDS = 0.02
"""When nothing was asked of the store for so long, everything is made."""
SHARED_SECONDS = 1.0
"""After another process changed something, nothing waits for so long: it would have to make it."""


class Due(NamedTuple):
    """Changes to make now, and up to where in the journal everything is made then."""

    changes: list[Op]
    position: int


class _Waiting(NamedTuple):
    """A change, where in the journal its task began to differ from its file, and since when."""

    change: TaskWrite
    position: int
    since: float


class Lag:
    """The changes of one process that wait, by task: those that have waited longest come first."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._alone_from = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def holds(self, task_id: str) -> bool:
        """Whether the file of a task is not up to date."""
        return task_id in self._waiting

    def takes(self, changes: Sequence[Op]) -> bool:
        """Whether a transaction may wait here; otherwise it must be made at once."""
        if len(changes) < MANY or time.monotonic() < self._alone_from:
            return False
        return all(map(_is_state, changes))

    def add(self, changes: Sequence[Op], position: int) -> None:
        """Let a transaction wait that begins there in the journal."""
        waiting, now = self._waiting, time.monotonic()
        for change in changes:
            assert isinstance(change, TaskWrite)  # noqa: S101 - `takes` said so
            before = waiting.get(change.task_id)
            waiting[change.task_id] = (
                _Waiting(change, position, now)
                if before is None
                else before._replace(change=replace(change, was=before.change.was))
            )

    def due(self, end: int) -> Due | None:
        """Return what has waited long enough, of a journal that ends there; None: nothing."""
        too_many, long_ago = len(self._waiting) - MOST, time.monotonic() - WAIT_SECONDS
        due: list[TaskWrite] = []
        for change, _, since in self._waiting.values():
            if len(due) >= too_many and since > long_ago:
                break
            due.append(change)
        if not due:
            return None
        for change in due:
            del self._waiting[change.task_id]
        oldest = next(iter(self._waiting.values()), None)
        return Due([*due], end if oldest is None else oldest.position)

    def take_all(self) -> list[Op]:
        """Return everything; nothing is left."""
        changes: list[Op] = [waiting.change for waiting in self._waiting.values()]
        self.clear()
        return changes

    def clear(self) -> None:
        """Forget everything: it is made."""
        self._waiting = {}

    def yield_to_others(self) -> None:
        """Forget everything: another process made it, or began to. Take nothing for a while."""
        self.clear()
        self._alone_from = time.monotonic() + SHARED_SECONDS


def _is_state(change: Op) -> bool:
    """Whether it changes no more than the state of a task."""
    if type(change) is not TaskWrite or change.payload is not None:
        return False
    return change.was is not None and change.to is not None
