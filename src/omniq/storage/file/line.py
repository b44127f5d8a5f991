"""Names in order, the smallest first: a million of them in little more room than their letters."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

_SPARE = 64
_UNPACKED_AT_ONCE = 1_000
_BETWEEN = "/"  # in no name of a file


class Line:
    """Names, each of which can be taken back until it is first.

    Those there at first are sorted once and packed, so many in one string, as a million strings
    take four times the room, and the interpreter a fifth of a second to look through for garbage.
    Those that come later are a heap. Of what is unpacked, `_alive` tells what is still in the
    line; of what is packed, `_gone` tells what no longer is, and may name others.
    """

    def __init__(self, unpacked_at_once: int = _UNPACKED_AT_ONCE) -> None:
        self._unpacked_at_once = unpacked_at_once
        self._packed: list[str] = []
        """From the largest to the smallest, as all that follow."""
        self._smallest: list[str] = []
        self._heap: list[str] = []
        self._alive: set[str] = set()
        self._gone: set[str] = set()
        self._unpacked_to = ""
        self._largest = ""

    def fill(self, names: Iterable[str]) -> None:
        """Start with these."""
        ordered = sorted(names, reverse=True)
        at_once = self._unpacked_at_once
        self._packed = [
            _BETWEEN.join(ordered[at : at + at_once]) for at in range(0, len(ordered), at_once)
        ]
        self._smallest, self._heap, self._alive, self._gone = [], [], set(), set()
        self._unpacked_to, self._largest = "", ordered[0] if ordered else ""

    def add(self, name: str) -> None:
        """Add a name, if it is not there."""
        if name not in self._alive:
            self._alive.add(name)
            heappush(self._heap, name)
            if len(self._heap) > 2 * len(self._alive) + _SPARE:
                self._heap = sorted(self._alive)
                self._smallest = []

    def discard(self, name: str) -> None:
        """Take a name back."""
        self._alive.discard(name)
        if self._unpacked_to < name <= self._largest:
            self._gone.add(name)

    def first(self) -> str | None:
        """Return the smallest name, or None."""
        while self._heap and self._heap[0] not in self._alive:
            heappop(self._heap)
        while self._smallest or self._packed:
            if not self._smallest:
                self._unpack()
            elif self._smallest[-1] not in self._alive:
                self._smallest.pop()
            else:
                break
        if self._heap and (not self._smallest or self._heap[0] < self._smallest[-1]):
            return self._heap[0]
        return self._smallest[-1] if self._smallest else None

    def pop(self) -> None:
        """Remove the name that `first` returned."""
        name = self.first()
        if name is not None:
            self._alive.discard(name)

    def _unpack(self) -> None:
        names = self._packed.pop().split(_BETWEEN)
        self._unpacked_to = names[0]
        self._smallest = [name for name in names if name not in self._gone]
        self._alive.update(self._smallest)
        self._gone = {name for name in self._gone if name > self._unpacked_to}
