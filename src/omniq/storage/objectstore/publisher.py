"""`Publisher`: lets a tree follow its log beside the work of a process, never in its way."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from omniq.exceptions import OmniQError
from omniq.storage.objectstore.tree import Tree

logger = logging.getLogger("omniq.storage.objectstore")

INTERVAL_SECONDS = 5.0
"""Changes gather for so long: what comes and goes in between is never written."""
FOLLOWER_SECONDS = 15.0
"""How often a process looks whether another one has published."""
READER_SECONDS = 60.0
"""How long a process that only reads leaves it to those that work on the store."""
LONGEST_SECONDS = 300.0
CLOSE_SECONDS = 5.0


class Publisher:
    """Takes turns at a tree while there is something to publish. Bound to one event loop."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._gate = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._works = False
        self._is_closed = False

    def take_part(self) -> None:
        """Hear that this process works on the store, and does not only look at it."""
        if not self._works:
            self._works = True
            if self._task is not None and not self._gate.locked():
                self._task.cancel()
                self._task = None
        self.notice()

    def notice(self) -> None:
        """Hear that something may have changed."""
        if self._task is None and not self._is_closed and not self._tree.is_settled:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Publish what is left, if this process worked on the store, within `CLOSE_SECONDS`."""
        if self._is_closed:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS), self._gate:
                self._is_closed = True
                if self._works or self._tree.is_publisher:
                    await self._tree.turn(is_last=True)
        except (TimeoutError, OmniQError) as error:
            reason = str(error) or f"not done within {CLOSE_SECONDS:g} s"
            logger.warning("%s lacks the last changes yet: %s", self._tree, reason)
        finally:
            self._is_closed = True
            await self._rest()

    async def _rest(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self) -> None:
        pause = INTERVAL_SECONDS if self._works else READER_SECONDS
        while not self._tree.is_settled and not self._is_closed:
            await asyncio.sleep(pause)
            try:
                async with self._gate:
                    if not self._is_closed:
                        await self._tree.turn()
                pause = INTERVAL_SECONDS if self._tree.is_publisher else FOLLOWER_SECONDS
            except OmniQError as error:
                pause = min(2 * pause, LONGEST_SECONDS)
                logger.warning("publishing %s: %s; again in %g s", self._tree, error, pause)
            except Exception:
                pause = LONGEST_SECONDS
                logger.exception("publishing %s failed; again in %g s", self._tree, pause)
        self._task = None
