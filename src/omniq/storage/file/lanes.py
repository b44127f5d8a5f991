"""What a process remembers of the tasks that can be claimed: hints, verified in the files."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

E = TypeVar("E", str, tuple[int, str])

_SPARE = 64


class _Heap(Generic[E]):
    """A heap whose entries can be taken back."""

    def __init__(self) -> None:
        self._entries: list[E] = []
        self._alive: set[E] = set()

    def fill(self, entries: Iterable[E]) -> None:
        """Start with these."""
        self._alive = set(entries)
        self._entries = list(self._alive)
        heapify(self._entries)

    def add(self, entry: E) -> None:
        """Add an entry, if it is not there."""
        if entry not in self._alive:
            self._alive.add(entry)
            heappush(self._entries, entry)
            if len(self._entries) > 2 * len(self._alive) + _SPARE:
                self.fill(self._alive)

    def discard(self, entry: E) -> None:
        """Take an entry back."""
        self._alive.discard(entry)

    def first(self) -> E | None:
        """Return the smallest entry, or None."""
        entries, alive = self._entries, self._alive
        while entries:
            if entries[0] in alive:
                return entries[0]
            heappop(entries)
        return None

    def pop(self) -> None:
        """Remove the entry that `first` returned."""
        self._alive.discard(heappop(self._entries))


class Lane:
    """One queue, by the stems of its tasks' files.

    `line` holds every task that can be claimed now, `timers` when each other comes due; both may
    hold more, and too early moments.
    """

    def __init__(self) -> None:
        self.line: _Heap[str] = _Heap()
        self._timers: _Heap[tuple[int, str]] = _Heap()
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
