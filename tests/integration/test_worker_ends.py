"""How runs end before their time, on the stores that need no server."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omniq import (
    EventType,
    OmniQ,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
    TaskStatus,
    current_task,
)
from omniq.models import Task
from omniq.testing.waiting import wait_until
from omniq.worker import Worker
from tests.integration.conftest import Working, burst, events_of


async def test_a_coroutine_over_its_timeout_is_cancelled(app: OmniQ) -> None:
    """A hanging coroutine ends by its timeout, cleans up, and fails with a TimeoutError."""
    cleaned = asyncio.Event()

    @app.task(timeout=0.05)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    handle = await hang.enqueue()
    await burst(app)

    assert cleaned.is_set()
    with pytest.raises(TaskFailedError, match=r"longer than 0\.05 s"):
        await handle.result(timeout=5)


async def test_a_thread_over_its_timeout_is_interrupted(app: OmniQ) -> None:
    """A busy loop in a thread ends by its timeout too, though it never looks."""

    @app.task(timeout=0.05)
    def spin() -> None:
        while True:
            time.monotonic()

    handle = await spin.enqueue()
    await burst(app)

    with pytest.raises(TaskFailedError, match=r"longer than 0\.05 s"):
        await handle.result(timeout=5)


async def test_a_running_task_can_be_cancelled(app: OmniQ, working: Working) -> None:
    """The request reaches the worker with a heartbeat and cancels the coroutine."""
    started = asyncio.Event()

    @app.task
    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    handle = await hang.enqueue()
    async with working(lease_seconds=0.5):
        await started.wait()
        task = await handle.cancel()
        assert task.status is TaskStatus.RUNNING
        assert task.cancel_requested
        with pytest.raises(TaskCancelledError):
            await handle.result(timeout=10)


async def test_a_waiting_task_is_cancelled_at_once(app: OmniQ) -> None:
    """What has not started needs no worker to be cancelled, and never runs."""
    ran: list[int] = []

    @app.task
    async def never() -> None:
        ran.append(1)

    handle = await never.enqueue()
    await handle.cancel()
    await burst(app)

    assert ran == []
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=5)


async def test_an_expired_task_does_not_run(app: OmniQ) -> None:
    """Work nobody wants any more ends as EXPIRED."""
    ran: list[int] = []

    @app.task
    async def late() -> None:
        ran.append(1)

    task = late.make_task()
    task.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    handle = await app.enqueue_task(task)
    await burst(app)

    assert ran == []
    with pytest.raises(TaskExpiredError):
        await handle.result(timeout=5)


async def test_a_graceful_stop_lets_running_tasks_end(app: OmniQ) -> None:
    """`stop` claims nothing more and waits for what runs."""
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def slow(n: int) -> int:
        started.set()
        await go_on.wait()
        return n

    first, second = await slow.enqueue(1), await slow.enqueue(2)
    worker = Worker(app, concurrency=1, cleanup=False, schedules=False)
    running = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    go_on.set()
    await running

    assert await first.result(timeout=5) == 1
    assert await second.status() is TaskStatus.PENDING


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_forced_stop_gives_running_tasks_back_without_an_attempt(
    app: OmniQ, kind: str
) -> None:
    """What is interrupted by a stop is claimable at once and not counted against its retries."""
    started = threading.Event()

    @app.task
    async def coroutine() -> None:
        started.set()
        await asyncio.Event().wait()

    @app.task
    def thread() -> None:
        started.set()
        while True:  # one that looked at `should_stop` might end by itself first
            time.monotonic()

    handle = await {"coroutine": coroutine, "thread": thread}[kind].enqueue()
    worker = Worker(app, cleanup=False, schedules=False)
    running = asyncio.create_task(worker.run())
    await wait_until(started.is_set, description="the task started")
    worker.stop(force=True)
    await running

    task = await handle.task()
    assert task.status is TaskStatus.PENDING
    assert task.attempt == 0
    assert "RELEASED" in await events_of(app, handle.id)


async def test_a_thread_that_was_given_back_ends_without_a_word(app: OmniQ) -> None:
    """Its task is another's by then: nothing is settled, and nothing left under way at the exit."""
    begun, released = threading.Event(), threading.Event()

    @app.task(name="stuck")
    def stuck() -> None:
        begun.set()
        released.wait()  # in C: no exception gets there

    handle = await stuck.enqueue()
    worker = Worker(app)
    working = asyncio.create_task(worker.run())
    await wait_until(begun.is_set, description="the thread runs")
    worker.stop(force=True)
    await working

    released.set()
    late = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*late)

    assert worker.counts[EventType.LEASE_LOST] == 0
    assert await events_of(app, handle.id) == ["ENQUEUED", "STARTED", "RELEASED"]


async def test_a_worker_can_be_stopped_while_it_cannot_connect() -> None:
    """Ctrl-C at a server that says nothing: at once, not when the last deadline has passed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        worker = Worker(OmniQ(f"redis://{place}?timeout_seconds=60&connect_timeout_seconds=60"))
        working = asyncio.create_task(worker.run())
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        with connection:
            worker.stop()
            await asyncio.wait_for(working, 20)

    await worker.app.disconnect()


@pytest.mark.parametrize("fraction", [-1, 1.5, math.nan, "half", None, True], ids=repr)
async def test_progress_that_is_no_fraction_is_refused(app: OmniQ, fraction: Any) -> None:
    """In the task, where the mistake is, and in words."""

    @app.task
    def report() -> None:
        current_task().progress(fraction)

    handle = await report.enqueue()
    await burst(app)

    with pytest.raises(TaskFailedError, match=r"progress: .* is not between 0 and 1"):
        await handle.result()


async def test_progress_is_written_with_the_heartbeat(app: OmniQ, working: Working) -> None:
    """What a task says about itself is seen from outside while it runs."""
    go_on = asyncio.Event()

    @app.task
    async def long() -> None:
        current_task().progress(0.5)
        await go_on.wait()

    handle = await long.enqueue()
    async with working(lease_seconds=0.5):

        async def half() -> bool:
            return (await handle.task()).progress == 0.5

        await wait_until(half, description="the progress was written")
        go_on.set()
        await handle.result(timeout=5)


async def test_a_blocked_event_loop_loses_no_lease(app: OmniQ, working: Working) -> None:
    """Heartbeats come from a thread: nobody gets a task that blocks the loop for three leases."""
    runs: list[int] = []
    stolen: list[Task] = []
    over = threading.Event()

    async def steal() -> None:
        while not over.is_set():
            stolen.extend(
                await app.task_queue.claim(["default"], worker_id="thief", lease_token="x", limit=1)
            )
            await asyncio.sleep(0.05)

    thief = threading.Thread(target=lambda: asyncio.run(steal()))

    @app.task
    async def blocking() -> int:
        runs.append(1)
        thief.start()
        threading.Event().wait(1.8)
        over.set()
        return len(runs)

    handle = await blocking.enqueue()
    async with working(lease_seconds=0.6):
        assert await handle.result(timeout=20) == 1
    thief.join()

    task = await handle.task()
    assert stolen == []
    assert runs == [1]
    assert task.claim_count == 1


async def test_a_task_that_kills_its_workers_fails_as_poisoned(app: OmniQ) -> None:
    """After three leases lost without a word the task is failed instead of run again."""
    ran: list[int] = []

    @app.task(max_retries=10)
    async def poison() -> None:
        ran.append(1)

    handle = await poison.enqueue()
    now = datetime.now(UTC) - timedelta(hours=1)
    for n in range(3):
        claimed = await app.task_queue.claim(
            ["default"], worker_id="w", lease_token=f"t{n}", lease_seconds=1, now=now
        )
        assert len(claimed) == 1
        now += timedelta(minutes=1)
    await burst(app)

    assert ran == []
    with pytest.raises(TaskFailedError, match="poisoned"):
        await handle.result(timeout=5)


async def test_a_run_that_lost_its_lease_changes_nothing(app: OmniQ) -> None:
    """A zombie's end is refused: the result shown is that of the run that holds the task."""
    first_started, zombie_go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def answer() -> str:
        if current_task().task.claim_count == 1:
            first_started.set()
            await zombie_go_on.wait()
            return "zombie"
        return "holder"

    handle = await answer.enqueue()
    zombie = Worker(app, burst=True, cleanup=False, schedules=False, lease_seconds=600)
    running = asyncio.create_task(zombie.run())
    await first_started.wait()
    later = datetime.now(UTC) + timedelta(hours=1)
    queue = app.task_queue
    (taken,) = await queue.claim(["default"], worker_id="w2", lease_token="b", now=later)
    await app.result_storage.set_many([])
    zombie_go_on.set()
    await running

    task = await handle.task()
    assert (task.status, task.claim_count, task.worker_id) == (TaskStatus.RUNNING, 2, "w2")
    assert "LEASE_LOST" in await events_of(app, handle.id)
    await queue.complete(taken)
