"""A heap whose entries may die where they are."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

E = TypeVar("E", bound=tuple[Any, ...])

_SWEEP_AT = 64


class LazyHeap(Generic[E]):
    """A heap of tuples that are dropped, once dead, when they reach the top or pile up.

    So an entry is removed from the middle at no cost. All operations are O(log n), amortised.
    """

    def __init__(self, is_alive: Callable[[E], bool]) -> None:
        self._is_alive = is_alive
        self._entries: list[E] = []
        self._sweep_at = _SWEEP_AT

    def push(self, entry: E) -> None:
        """Add an entry."""
        heappush(self._entries, entry)
        if len(self._entries) > self._sweep_at:
            self._sweep()

    def first(self) -> E | None:
        """Return the smallest living entry, or None."""
        entries = self._entries
        while entries:
            if self._is_alive(entries[0]):
                return entries[0]
            heappop(entries)
        return None

    def pop(self) -> None:
        """Drop the entry that `first` returned."""
        heappop(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _sweep(self) -> None:
        """Drop the dead. Doubling the mark makes it O(1) per push however many live."""
        self._entries = list(filter(self._is_alive, self._entries))
        heapify(self._entries)
        self._sweep_at = 2 * len(self._entries) + _SWEEP_AT
