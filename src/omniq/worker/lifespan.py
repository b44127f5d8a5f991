"""What an application's lifespan opens for one worker, held in an asyncio task of its own.

Opened and closed by the same task, as task groups and cancel scopes want it, and apart from the
worker's own, so that a start or an end that hangs can be given up.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from omniq.exceptions import LifespanError
from omniq.waits import first_of

logger = logging.getLogger(__name__)
STUCK_SECONDS = 1.0


@asynccontextmanager
async def opened(
    life: AbstractAsyncContextManager[Any] | None, stop: asyncio.Event, force: asyncio.Event
) -> AsyncGenerator[Any]:
    """Hold a lifespan open during the block, which gets what it yielded.

    Told to `stop` while it starts, it is cancelled, and the block, which gets None, has nothing to
    do. One that ends by itself sets `stop`. With `force`, its end is cancelled too.

    Raises:
        LifespanError: it failed, at its start, its end or in between.
    """
    if life is None:
        yield None
        return
    started: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    closing = asyncio.Event()
    holder = asyncio.create_task(_hold(life, started, closing), name="omniq-lifespan")
    holder.add_done_callback(lambda _: stop.set())
    try:
        await first_of(asyncio.wait([started, holder], return_when=FIRST_COMPLETED), stop.wait())
        yield started.result() if started.done() else None
    finally:
        closing.set()
        if not started.done():
            holder.cancel()
        await _ended(holder, force)
    if not holder.cancelled():
        holder.result()


async def _hold(
    life: AbstractAsyncContextManager[Any], started: asyncio.Future[Any], closing: asyncio.Event
) -> None:
    try:
        async with life as state:
            started.set_result(state)
            await closing.wait()
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise _failed(error) from error
    except (Exception, SystemExit) as error:
        raise _failed(error) from error


def _is_cancelled() -> bool:
    """Whether somebody cancelled this asyncio task: else a `CancelledError` is the lifespan's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(error: BaseException) -> LifespanError:
    """Log that it failed; return the error that says so."""
    logger.error("the lifespan of the application failed", exc_info=error)
    return LifespanError(
        f"the lifespan of the application failed: {type(error).__name__}: {error}".rstrip(": ")
    )


async def _ended(holder: asyncio.Task[None], force: asyncio.Event) -> None:
    """Wait until the lifespan has ended; one that does not react to a cancellation is left."""
    try:
        await first_of(asyncio.wait([holder]), force.wait())
    finally:
        if not holder.done():
            holder.cancel()
            await asyncio.wait([holder], timeout=STUCK_SECONDS)
