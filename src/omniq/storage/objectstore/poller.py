"""`Poller`: looks for news in a log while somebody waits, often when there were some lately."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

from omniq.exceptions import OmniQError

logger = logging.getLogger("omniq.storage.objectstore")

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 5.0
_GROWTH = 1.5


class Poller:
    """Calls `look` while there are waiters. Bound to one event loop.

    Args:
        look: asks once whether there is news.
        sleep, now: of another time, for tests.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._sleep = sleep
        self._now = now
        self._pause = FIRST_SECONDS
        self._next_at = now() + FIRST_SECONDS
        self._waiters = 0
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def notice(self) -> None:
        """Look soon again: there was news."""
        self._pause = FIRST_SECONDS
        self._next_at = self._now() + FIRST_SECONDS
        self._hurry.set()

    def looked(self) -> None:
        """Look later: somebody just did, and there was none."""
        self._next_at = self._now() + self._pause * random.uniform(1.0, 1.2)  # noqa: S311 - jitter

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Look now and then for as long as this lasts."""
        self._waiters += 1
        if self._task is None:
            self._task = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._waiters -= 1
            if not self._waiters:
                self._rest()

    def _rest(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _poll(self) -> None:
        while True:
            pause = self._next_at - self._now()
            if pause > 0:
                await self._nap(pause)
                continue
            self._pause = min(LONGEST_SECONDS, self._pause * _GROWTH)
            self.looked()
            try:
                await self._look()
            except OmniQError as error:
                logger.warning("looking for news: %s; trying again", error)

    async def _nap(self, seconds: float) -> None:
        """Sleep, or less if there is news."""
        self._hurry.clear()
        sleep = asyncio.ensure_future(self._sleep(seconds))
        news = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({sleep, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (sleep, news):
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await one
