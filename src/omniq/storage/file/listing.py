"""The ids in a store, in order: read once, then kept current, forgotten when nobody asks."""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice

_IDLE_SECONDS = 30.0


class Listing:
    """A sorted list of ids. It may hold ids that are gone, but lacks none that is there."""

    def __init__(self) -> None:
        self._ids: list[str] | None = None
        self._used_at = 0.0

    @property
    def is_loaded(self) -> bool:
        """Whether there is a list."""
        return self._ids is not None

    def load(self, ids: Iterable[str]) -> None:
        """Start with these ids; those added from now on are not missed."""
        self._ids = sorted(ids)
        self._used_at = time.monotonic()

    def add(self, item: str) -> None:
        """Add an id, if there is a list that somebody uses."""
        ids = self._ids
        if ids is None:
            return
        if time.monotonic() - self._used_at > _IDLE_SECONDS:
            self._ids = None
        elif not ids or item > ids[-1]:
            ids.append(item)
        else:
            place = bisect_right(ids, item)
            if not place or ids[place - 1] != item:
                insort(ids, item, lo=place)

    def forget(self) -> None:
        """Drop the list."""
        self._ids = None

    def after(self, item: str | None) -> Iterator[str]:
        """Yield the ids greater than `item`, in order."""
        ids = self._ids or []
        self._used_at = time.monotonic()
        start = 0 if item is None else bisect_right(ids, item)
        return islice(ids, start, None)
