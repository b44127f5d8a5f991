"""A thread with an event loop that does what other loops ask of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """The thread has ended; nothing was done."""


class LoopThread:
    """Started when made. Work still under way when it is stopped is cancelled.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._guard = threading.Lock()
        self._is_stopped = False
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(ready)), name=name, daemon=True
        )
        self._thread.start()
        self._loop = ready.result()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, done in the thread.

        Raises:
            StoppedError: it takes no more work.
            CancelledError: the caller was cancelled, and the work with it; or it was stopped.
        """
        with self._guard:
            if self._is_stopped:
                work.close()
                raise StoppedError
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wrap_future(future)

    async def stop(self) -> None:
        """End the thread. Idempotent."""
        with self._guard:
            if not self._is_stopped:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._end.set)
        await asyncio.to_thread(self._thread.join)

    async def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._end = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._end.wait()
