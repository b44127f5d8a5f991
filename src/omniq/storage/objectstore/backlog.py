"""`Backlog`: the changes of a log that its tree does not show yet."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MOST_TRACES = 200_000


class Trace(NamedTuple):
    """A change: in which commit, of what, and where that was shown before; None: nowhere."""

    seq: int
    item_id: str
    place: str | None


class Backlog:
    """Traces in the order of commits. What came before `since` is not known here."""

    def __init__(self) -> None:
        self.since = 0
        self._traces: deque[Trace] = deque()

    def __bool__(self) -> bool:
        return bool(self._traces)

    def add(self, seq: int, item_id: str, place: str | None) -> None:
        """Note a change. Too many are given up, as if this process had just begun."""
        self._traces.append(Trace(seq, item_id, place))
        if len(self._traces) > MOST_TRACES:
            self.begin_anew(seq)

    def begin_anew(self, seq: int) -> None:
        """Know only what changes after a commit."""
        self._traces.clear()
        self.since = seq

    def drop(self, seq: int) -> None:
        """Forget what is shown: all up to a commit."""
        while self._traces and self._traces[0].seq <= seq:
            self._traces.popleft()

    def knows(self, seq: int) -> bool:
        """Whether all changes after a commit are known."""
        return seq >= self.since

    def places(self, seq: int) -> dict[str, list[str | None]]:
        """Return what changed up to a commit, and where it was shown since the last publication.

        The first place is the one the last publication left it at.
        """
        found: dict[str, list[str | None]] = {}
        for trace in self._traces:
            if trace.seq > seq:
                break
            found.setdefault(trace.item_id, []).append(trace.place)
        return found
