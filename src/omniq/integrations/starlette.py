"""Starlette (and what is built on it): a queue that opens and closes with the web application.

q = OmniQ("postgresql://…")
app = Starlette(routes=…, lifespan=lifespan(q))

async def signup(request):
    await send_mail.enqueue(…)          # a task function of q, or:
    await queue_of(request).enqueue("mail.send", …)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.requests import HTTPConnection

from omniq.core import OmniQ
from omniq.exceptions import ConfigError
from omniq.worker import Worker

__all__ = ["lifespan", "queue_of"]

logger = logging.getLogger(__name__)
_PLACE = "omniq"
GRACE_SECONDS = 5.0

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def lifespan(q: OmniQ, *, worker: bool | Mapping[str, Any] = False) -> Lifespan:
    """Return a lifespan that opens `q` with the web application and closes it with it.

    Within a lifespan of your own: ``async with lifespan(q)(app): yield``.

    Args:
        q: the queue; `queue_of` finds it.
        worker: True, or options of `omniq.worker.Worker`, also runs tasks in this process: for
            development, and for applications of one process that may share their event loop. In
            production, run ``omniq worker`` beside it.
    """
    options = {"grace_seconds": GRACE_SECONDS, **(worker if isinstance(worker, Mapping) else {})}

    @asynccontextmanager
    async def opened(app: Any) -> AsyncGenerator[None]:
        async with q:
            setattr(app.state, _PLACE, q)
            if worker is False:
                yield
                return
            async with _working(q.worker(**options)):
                yield

    return opened


def queue_of(connection: HTTPConnection) -> OmniQ:
    """Return the queue of the application a request (or WebSocket) belongs to.

    Raises:
        ConfigError: the application was made without `lifespan`, or it did not run.
    """
    q = getattr(connection.app.state, _PLACE, None)
    if isinstance(q, OmniQ):
        return q
    raise ConfigError(
        "this web application has no queue; make it with lifespan=lifespan(q) of "
        "omniq.integrations.starlette, and in tests use the client as a context manager"
    )


@asynccontextmanager
async def _working(worker: Worker) -> AsyncGenerator[None]:
    """Run a worker beside the block; at its end, running tasks get the grace period."""
    running = asyncio.create_task(worker.run(), name="omniq-worker")
    running.add_done_callback(_log_failure)
    try:
        yield
    finally:
        worker.stop()
        if not running.done():
            await asyncio.sleep(0)  # a worker that had not begun yet begins, and hears of the stop
            worker.stop()
        await asyncio.wait([running])


def _log_failure(running: asyncio.Task[None]) -> None:
    """Say at once, not at the end, that no task runs here any more."""
    if not running.cancelled() and running.exception() is not None:
        logger.error("the worker in this web application ended", exc_info=running.exception())
