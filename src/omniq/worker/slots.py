"""How many tasks run at once, and how many are claimed before there is room for them.

While tasks are short, a worker that claims only what it can run at once spends much of its time
waiting for claims. So it claims as many again: their claim is under way while the others run. What
waits in vain, because tasks became longer, is given back to the queue for others to run.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from omniq.worker.runs import Run, StopReason

SHORT_SECONDS = 0.02
"""Tasks are short while they take less than this on average."""
PATIENCE_SECONDS = 0.25
"""A claimed task that gets no slot in this time is given back."""
_WEIGHT = 0.05
_AT_FIRST = 1.0


class Slots:
    """The slots of a worker; used in its event loop only.

    Args:
        number: how many tasks may run at once.
        clock: seconds, monotonic.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._number = number
        self._free = number
        self._clock = clock
        self._mean_seconds = _AT_FIRST
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def room(self) -> int:
        """How many tasks may be claimed and not executed yet."""
        return 2 * self._number if self._mean_seconds < SHORT_SECONDS else self._number

    async def enter(self, run: Run) -> float:
        """Wait for a slot; return the moment it was given, for `leave`."""
        if self._free:
            self._free -= 1
        else:
            run.is_waiting = True
            try:
                await self._turn()
            finally:
                run.is_waiting = False
        return self._clock()

    def leave(self, entered_at: float) -> None:
        """Give the slot back, or on to whoever waits first."""
        self._mean_seconds += _WEIGHT * (self._clock() - entered_at - self._mean_seconds)
        self._pass_on()

    def give_back_waiting(self, runs: Iterable[Run]) -> None:
        """Give those that wait for a slot back to the queue, at no cost; claim no more ahead."""
        for run in runs:
            if run.is_waiting:
                run.stop(StopReason.RELEASE)
                self._mean_seconds = _AT_FIRST

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
