"""What a process remembers of the tasks that can be claimed: hints, verified in the files."""

from __future__ import annotations

from collections.abc import Iterable

from omniq.storage.file.line import Line

_DIGITS = 16
_LEAST = -(1 << 63)
_MOST = (1 << 63) - 1


class Lane:
    """One queue, by the stems of its tasks' files.

    `line` holds every task that can be claimed now, `timers` when each other comes due; both may
    hold more, and too early moments.
    """

    def __init__(self) -> None:
        self.line = Line()
        self._timers = Line()
        self._moments: dict[str, int] = {}
        self._overdue: dict[str, int] = {}

    def load(self, ready: Iterable[str], waiting: Iterable[tuple[int, str]]) -> None:
        """Start with the files of the folders: those pending, and when the others come due."""
        self.line.fill(ready)
        timers = list(waiting)
        self._moments = {stem: micros for micros, stem in timers}
        self._timers.fill(_timer(micros, stem) for micros, stem in timers)

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
        self._timers.add(_timer(micros, stem))

    def leave(self, stem: str) -> None:
        """Forget a task that cannot be claimed as it is."""
        self._stop_timer(stem)
        self.line.discard(stem)

    def next_timer(self) -> tuple[int, str] | None:
        """Return the moment and the stem of the task that comes due first."""
        timer = self._timers.first()
        return None if timer is None else (int(timer[:_DIGITS], 16) + _LEAST, timer[_DIGITS:])

    def overdue(self) -> int | None:
        """Return when the lease ended that ended first, of those not claimed since."""
        return min(self._overdue.values(), default=None)

    def _stop_timer(self, stem: str) -> None:
        self._overdue.pop(stem, None)
        micros = self._moments.pop(stem, None)
        if micros is not None:
            self._timers.discard(_timer(micros, stem))


def _timer(micros: int, stem: str) -> str:
    """Return a name that sorts by a moment, in microseconds since 1970, then by the stem."""
    return f"{max(_LEAST, min(micros, _MOST)) - _LEAST:0{_DIGITS}x}{stem}"
