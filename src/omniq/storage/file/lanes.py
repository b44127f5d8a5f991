"""What a process remembers of the tasks that can be claimed: hints, verified in the files."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

E = TypeVar("E", str, tuple[int, str])

_SPARE = 64


class _Line(Generic[E]):
    """Entries by size, each of which can be taken back: those there at first sorted, later a heap.

    An entry is taken back by forgetting that it is alive; what is dead is dropped when it is first.
    """

    def __init__(self) -> None:
        self._sorted: list[E] = []
        """From the largest to the smallest."""
        self._heap: list[E] = []
        self._alive: set[E] = set()

    def fill(self, entries: Iterable[E]) -> None:
        """Start with these."""
        self._alive = set(entries)
        self._sorted = sorted(self._alive, reverse=True)
        self._heap = []

    def add(self, entry: E) -> None:
        """Add an entry, if it is not there."""
        if entry not in self._alive:
            self._alive.add(entry)
            heappush(self._heap, entry)
            if len(self._heap) > 2 * len(self._alive) + _SPARE:
                self.fill(self._alive)

    def discard(self, entry: E) -> None:
        """Take an entry back."""
        self._alive.discard(entry)

    def first(self) -> E | None:
        """Return the smallest entry, or None."""
        while self._sorted and self._sorted[-1] not in self._alive:
            self._sorted.pop()
        while self._heap and self._heap[0] not in self._alive:
            heappop(self._heap)
        if self._heap and (not self._sorted or self._heap[0] < self._sorted[-1]):
            return self._heap[0]
        return self._sorted[-1] if self._sorted else None

    def pop(self) -> None:
        """Remove the entry that `first` returned."""
        entry = self.first()
        if entry is not None:
            self._alive.discard(entry)


class Lane:
    """One queue, by the stems of its tasks' files.

    `line` holds every task that can be claimed now, `timers` when each other comes due; both may
    hold more, and too early moments.
    """

    def __init__(self) -> None:
        self.line: _Line[str] = _Line()
        self._timers: _Line[tuple[int, str]] = _Line()
        self._moments: dict[str, int] = {}
        self._overdue: dict[str, int] = {}

    def load(self, ready: Iterable[str], waiting: Iterable[tuple[int, str]]) -> None:
        """Start with the files of the folders: those pending, and when the others come due."""
        self.line.fill(ready)
        timers = list(waiting)
        self._moments = {stem: micros for micros, stem in timers}
        self._timers.fill(timers)

    def line_up(self, stem: str, *, overdue_since: int | None = None) -> None:
        """Let a task be looked at by the next claim; a running one since its lease ended."""
        self._stop_timer(stem)
        self.line.add(stem)
        if overdue_since is not None:
            self._overdue[stem] = overdue_since

    def set_timer(self, stem: str, micros: int) -> None:
        """Let a task be looked at from a moment on."""
        self._stop_timer(stem)
        self.line.discard(stem)
        self._moments[stem] = micros
        self._timers.add((micros, stem))

    def leave(self, stem: str) -> None:
        """Forget a task that cannot be claimed as it is."""
        self._stop_timer(stem)
        self.line.discard(stem)

    def next_timer(self) -> tuple[int, str] | None:
        """Return the moment and the stem of the task that comes due first."""
        return self._timers.first()

    def overdue(self) -> int | None:
        """Return when the lease ended that ended first, of those not claimed since."""
        return min(self._overdue.values(), default=None)

    def _stop_timer(self, stem: str) -> None:
        self._overdue.pop(stem, None)
        micros = self._moments.pop(stem, None)
        if micros is not None:
            self._timers.discard((micros, stem))
