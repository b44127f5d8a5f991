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
TURN_CHANGES = 256
TURN_SECONDS = 0.1
"""After so many changes, or so long, a turn begins: what is older than the last one is made."""
IDLE_SECONDS = 0.02
"""When nothing was asked of the store for so long, everything is made."""


class Due(NamedTuple):
    """Changes to make now, and up to where in the journal everything is made then."""

    changes: list[Op]
    position: int


class Lag:
    """The changes of one process, in two generations: so each waits for at least one turn."""

    def __init__(self) -> None:
        self._old: dict[str, TaskWrite] = {}
        self._young: dict[str, TaskWrite] = {}
        self._young_from = 0
        self._turned_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._old or self._young)

    def holds(self, task_id: str) -> bool:
        """Whether the file of a task is not up to date."""
        return task_id in self._young or task_id in self._old

    def takes(self, changes: Sequence[Op]) -> bool:
        """Whether a transaction may wait here; otherwise it must be made at once."""
        return len(changes) >= MANY and all(map(_is_state, changes))

    def add(self, changes: Sequence[Op], position: int) -> None:
        """Let a transaction wait that begins there in the journal."""
        if not self:
            self._young_from, self._turned_at = position, time.monotonic()
        for change in changes:
            assert isinstance(change, TaskWrite)  # noqa: S101 - `takes` said so
            held = self._old if change.task_id in self._old else self._young
            before = held.get(change.task_id)
            held[change.task_id] = change if before is None else replace(change, was=before.was)

    def turn(self, position: int) -> Due | None:
        """Return what is due, where the journal now ends at `position`; None: nothing yet."""
        is_time = time.monotonic() - self._turned_at >= TURN_SECONDS
        if not self or not (is_time or len(self._young) >= TURN_CHANGES):
            return None
        due = Due(list(self._old.values()), self._young_from if self._young else position)
        self._old, self._young = self._young, {}
        self._young_from, self._turned_at = position, time.monotonic()
        return due

    def take_all(self) -> list[Op]:
        """Return everything; nothing is left."""
        changes: list[Op] = [*self._old.values(), *self._young.values()]
        self.clear()
        return changes

    def clear(self) -> None:
        """Forget everything: somebody else made it."""
        self._old, self._young = {}, {}


def _is_state(change: Op) -> bool:
    """Whether it changes no more than the state of a task."""
    if type(change) is not TaskWrite or change.payload is not None:
        return False
    return change.was is not None and change.to is not None
