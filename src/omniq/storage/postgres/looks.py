"""Remembering when something is due, as long as nobody announces that it changed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from omniq.storage.postgres.database import Database

V = TypeVar("V")


class Remembered(Generic[V]):
    """Answers to when something is due next, so that who waits in vain need not ask each time.

    An answer holds while this process listens, nothing to do was announced since before it was
    asked for, what it says is due is not, and for some seconds: an announcement can get lost.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._db, self._seconds = database, seconds
        self._answers: dict[Hashable, _Answer[V]] = {}

    async def get(
        self,
        key: Hashable,
        ask: Callable[[], Awaitable[V]],
        pause_of: Callable[[V], float | None],
    ) -> V:
        """Return what was answered before, if that holds; ask otherwise.

        Args:
            key: what is asked about.
            ask: gets the answer from the server.
            pause_of: in how many seconds what an answer says is due; None for never.
        """
        heard = self._db.heard()
        known = self._answers.get(key)
        if known is not None and known.heard == heard and time.monotonic() < known.until:
            return known.value
        value = await ask()
        pause = pause_of(value)
        holds = self._seconds if pause is None else min(self._seconds, pause)
        self._answers.pop(key, None)
        if heard is not None and holds > 0:
            self._answers[key] = _Answer(value, heard, time.monotonic() + holds)
        return value

    def forget(self) -> None:
        """Ask anew next time."""
        self._answers.clear()


class _Answer(NamedTuple, Generic[V]):
    """An answer, how much had been heard when it was asked for, and how long it holds at most."""

    value: V
    heard: int
    until: float
