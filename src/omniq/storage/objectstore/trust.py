"""How long ago something was, also in a process that was stopped, suspended or moved meanwhile."""

from __future__ import annotations

import time
from typing import NamedTuple


class Reading(NamedTuple):
    """What both clocks said at one moment."""

    boot: float
    wall: float


class TrustClock:
    """Two clocks: one that counts suspension where there is one, and that on the wall.

    A virtual machine that was frozen has a clock on the wall that was put right since. The longer
    of both times counts.
    """

    def now(self) -> Reading:
        """Return what the clocks say."""
        return Reading(self._boot(), self._wall())

    def seconds_since(self, reading: Reading) -> float:
        """Return how much time has passed, rather too much than too little."""
        now = self.now()
        return max(now.boot - reading.boot, now.wall - reading.wall)

    def _boot(self) -> float:
        source = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if source is None else time.clock_gettime(source)

    def _wall(self) -> float:
        return time.time()
