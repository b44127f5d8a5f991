"""The lifespan of an application: what the tasks of a worker share."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from omniq import (
    LifespanError,
    OmniQ,
    TaskStatus,
    current_task,
)
from omniq.worker import Worker
from tests.integration.conftest import burst


async def test_it_is_open_before_the_first_task_and_closed_after_the_last_is_settled(
    app: OmniQ,
) -> None:
    """A pool opened there serves every task of the worker, coroutine or plain function."""
    seen: list[Any] = []

    @app.lifespan
    async def pool() -> AsyncIterator[str]:
        seen.append("open")
        yield "a pool"
        seen.append(("closed", (await app.counts())["default"]))

    @app.task
    async def here() -> None:
        seen.append(current_task().state)

    @app.task
    def elsewhere() -> None:
        seen.append((current_task().state, threading.current_thread().name))

    await here.enqueue()
    await burst(app)
    await elsewhere.enqueue()
    await burst(app)

    assert seen == [
        *("open", "a pool", ("closed", {TaskStatus.COMPLETED: 1})),
        *("open", ("a pool", "omniq-task"), ("closed", {TaskStatus.COMPLETED: 2})),
    ]


async def test_without_one_there_is_no_state(app: OmniQ) -> None:
    """Tasks can look for it all the same."""

    @app.task
    async def look() -> object:
        return current_task().state

    handle = await look.enqueue()
    await burst(app)

    assert await handle.result() is None


async def test_one_that_cannot_start_ends_the_worker_and_claims_nothing(
    app: OmniQ,
) -> None:
    """Tasks would only fail for want of what it opens."""

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        raise ConnectionRefusedError("no database")
        yield

    handle = await app.enqueue("f")
    with pytest.raises(LifespanError, match="ConnectionRefusedError: no database"):
        await burst(app)

    assert await handle.status() is TaskStatus.PENDING


async def test_a_stop_ends_a_start_that_hangs(app: OmniQ) -> None:
    """Ctrl-C must not wait for a database that never answers."""
    starting, ended = asyncio.Event(), asyncio.Event()

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        starting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        yield

    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(starting.wait(), 5)
    worker.stop()

    await asyncio.wait_for(running, 5)
    assert ended.is_set()


async def test_a_forced_stop_ends_an_end_that_hangs(app: OmniQ) -> None:
    """The second signal means now."""
    opened, ending, given_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        opened.set()
        yield
        ending.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    worker = Worker(app, schedules=False, cleanup=False)
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(opened.wait(), 5)
    worker.stop()
    await asyncio.wait_for(ending.wait(), 5)
    worker.stop()

    await asyncio.wait_for(running, 5)
    assert given_up.is_set()


async def test_an_error_at_its_end_is_raised_after_all_is_settled(app: OmniQ) -> None:
    """It must not pass unseen, nor cost a task."""

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        yield
        raise OSError("cannot close")

    @app.task
    async def work() -> int:
        return 1

    handle = await work.enqueue()
    with pytest.raises(LifespanError, match="OSError: cannot close"):
        await burst(app)

    assert await handle.result() == 1


async def test_one_that_breaks_stops_the_worker_in_order(app: OmniQ) -> None:
    """What it watches over in a task group is gone: the worker's supervisor starts another."""
    crash = asyncio.Event()

    async def watch() -> None:
        await crash.wait()
        raise OSError("connection lost")

    @app.lifespan
    async def watched() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            yield

    @app.task
    async def work() -> int:
        crash.set()
        await asyncio.sleep(0)
        return 1

    handle = await work.enqueue()
    with pytest.raises(LifespanError) as caught:
        await asyncio.wait_for(Worker(app, schedules=False, cleanup=False).run(), 10)

    assert "connection lost" in "".join(traceback.format_exception(caught.value))
    assert await handle.result() == 1


async def test_it_is_closed_when_the_worker_is_cancelled(app: OmniQ) -> None:
    """A web application that ends cancels what it runs."""
    opened, closed = asyncio.Event(), asyncio.Event()

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        opened.set()
        try:
            yield
        finally:
            closed.set()

    running = asyncio.create_task(Worker(app, schedules=False, cleanup=False).run())
    await asyncio.wait_for(opened.wait(), 5)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed.is_set()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SystemExit("DATABASE_URL is not set"), "SystemExit: DATABASE_URL is not set$"),
        (asyncio.CancelledError(), "CancelledError$"),
    ],
    ids=["exit", "cancelled"],
)
async def test_one_that_leaves_without_an_error_has_failed_all_the_same(
    app: OmniQ, error: BaseException, told: str
) -> None:
    """`sys.exit()` there would tear down the event loop, a stray cancellation pass as a stop."""

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        raise error
        yield

    handle = await app.enqueue("f")
    with pytest.raises(LifespanError, match=told):
        await burst(app)

    assert await handle.status() is TaskStatus.PENDING
