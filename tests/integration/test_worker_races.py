"""Moments between two steps of a worker, held open to see what happens in them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from omniq import OmniQ, StopReason, TaskStatus, Worker, current_task
from omniq.backend.memory import MemoryBackend
from omniq.clock import utcnow
from omniq.exceptions import StorageUnavailableError
from omniq.models.event import EventType, TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.base import BaseResultStorage, Change, Lease
from omniq.storage.memory import MemoryQueue
from omniq.testing.waiting import wait_until


class SlowAnswers(MemoryQueue):
    """A queue far away: the answer of the first claim that fits is held up until told."""

    def __init__(self, fits: Callable[[list[Task]], bool]) -> None:
        super().__init__()
        self._fits = fits
        self.held_up = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        tasks = await super()._claim(queues, worker_id, lease_token, limit, lease_seconds, now)
        if self._fits(tasks) and not self.go_on.is_set():
            self.held_up.set()
            await self.go_on.wait()
        return tasks


def application(queue: MemoryQueue) -> OmniQ:
    rest = MemoryBackend()
    return OmniQ(tasks=queue, results=rest, events=rest, schedules=rest)


async def test_a_burst_runs_what_its_last_run_set_free() -> None:
    """The last parent ends while a claim that found nothing is on its way back."""
    queue = SlowAnswers(lambda tasks: not tasks)
    app = application(queue)
    ran: list[str] = []

    @app.task
    async def parent() -> None:
        await queue.held_up.wait()
        ran.append("parent")

    @app.task
    async def child() -> None:
        ran.append("child")

    async with app:
        handle = await parent.enqueue()
        await child.options(depends_on=handle).enqueue()
        worker = Worker(app, burst=True, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await handle.wait(timeout=10)
        await wait_until(lambda: not worker.running, description="the worker noted the end")
        queue.go_on.set()
        await working

    assert ran == ["parent", "child"]


async def test_a_claim_answered_after_its_lease_is_not_run() -> None:
    """A process frozen between claim and start must not start what may be another's by now."""
    queue = SlowAnswers(bool)
    app = application(queue)
    claims: list[int] = []

    @app.task
    async def note() -> None:
        claims.append(current_task().task.claim_count)

    async with app:
        handle = await note.enqueue()
        worker = Worker(app, lease_seconds=0.5, cleanup=False, schedules=False)
        ends_at = time.monotonic() + 0.5
        working = asyncio.create_task(worker.run())
        await queue.held_up.wait()
        await wait_until(lambda: time.monotonic() > ends_at, description="the lease ended")
        queue.go_on.set()
        await handle.result(timeout=10)
        worker.stop()
        await working

    assert claims == [2]


async def test_a_worker_that_claims_its_own_lost_task_stops_the_lost_run(tmp_path: Path) -> None:
    """After a long freeze a worker may be the first to claim again: not twice at once."""
    path = tmp_path / "queue.db"
    log: list[str] = []
    started, for_ever = asyncio.Event(), asyncio.Event()

    async with OmniQ(f"sqlite:///{path}?durability=fast") as app:

        @app.task
        async def slow() -> int:
            claim = current_task().task.claim_count
            log.append(f"start {claim}")
            started.set()
            try:
                if claim == 1:
                    await for_ever.wait()
            except asyncio.CancelledError:
                log.append(f"cancelled {claim}")
                raise
            return claim

        handle = await slow.enqueue()
        worker = Worker(app, lease_seconds=600, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await started.wait()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE omniq_task SET due_at = 1 WHERE status = 'running'")
            connection.commit()
        await app.enqueue("elsewhere")  # wakes the worker

        assert await handle.result(timeout=10) == 2
        assert log == ["start 1", "cancelled 1", "start 2"]
        worker.stop()
        await working


async def test_a_worker_that_is_cancelled_gives_back_what_it_was_claiming() -> None:
    """As by Ctrl-C: the answer of its last claim is waited for, as nobody else has it."""
    queue = SlowAnswers(bool)
    app = application(queue)

    @app.task
    async def never() -> None: ...

    async with app:
        handle = await never.enqueue()
        worker = Worker(app, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await queue.held_up.wait()
        working.cancel()
        queue.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await working

        task = await handle.task()
        assert (task.status, task.attempt, task.lost_leases) == (TaskStatus.PENDING, 0, 0)
        assert worker.running == []


class Unreachable(MemoryQueue):
    """A queue that heartbeats do not get through to."""

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        raise StorageUnavailableError("no route to the store")


class Silent(MemoryQueue):
    """A queue that answers no heartbeat until another worker has the task."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stolen = threading.Event()

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        await asyncio.to_thread(self.is_stolen.wait)
        return await super()._extend(leases, lease_seconds, now)


@pytest.mark.parametrize(
    ("queue_class", "lease"), [(MemoryQueue, 3600), (Unreachable, 0.6), (Silent, 0.6)]
)
async def test_a_run_whose_lease_is_lost_is_stopped(
    queue_class: type[MemoryQueue], lease: float, caplog: pytest.LogCaptureFixture
) -> None:
    """As soon as a heartbeat says so, or when none got through, or an answer, for too long."""
    queue = queue_class()
    queue.capabilities = msgspec.structs.replace(queue.capabilities, heartbeat_seconds=0.05)
    app = application(queue)
    started, cancelled, told = asyncio.Event(), asyncio.Event(), list[str]()

    @app.task
    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert current_task().stop_reason is StopReason.LOST
            cancelled.set()
            raise

    @app.on_event
    def tell(event: TaskEvent, task: Task) -> None:
        told.append(event.event_type)

    async with app:
        handle = await endless.enqueue()
        worker = Worker(app, lease_seconds=lease, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await started.wait()
        later = utcnow() + timedelta(hours=2)
        await queue.claim(["default"], worker_id="thief", lease_token="t", now=later)
        await wait_until(cancelled.is_set, description="the run was stopped")
        if isinstance(queue, Silent):
            queue.is_stolen.set()
        worker.stop()
        await working

        task = await handle.task()
        assert (task.status, task.worker_id) == (TaskStatus.RUNNING, "thief")
        assert worker.counts[EventType.LEASE_LOST] == 1
        history = [event.event_type for event in await handle.events()]
        assert told == history[1:] == [EventType.STARTED, EventType.LEASE_LOST]
        assert "LEASE_LOST: claim 1: its lease was lost" in caplog.text


class LosingAnswers(MemoryQueue):
    """A queue whose first answer to `finish` gets lost on its way back."""

    lost = 0

    async def finish(
        self,
        changes: Sequence[Change],
        results: Sequence[TaskResult],
        storage: BaseResultStorage,
        *,
        now: datetime | None = None,
    ) -> list[bool]:
        won = await super().finish(changes, results, storage, now=now)
        if not self.lost:
            self.lost = 1
            raise StorageUnavailableError("the connection broke")
        return won


async def test_an_end_whose_answer_got_lost_counts_once() -> None:
    """The second try finds the task ended: by this very run, so nothing was lost."""
    queue = LosingAnswers()
    app = application(queue)

    @app.task
    async def answer() -> int:
        return 42

    async with app:
        handle = await answer.enqueue()
        worker = Worker(app, burst=True, cleanup=False, schedules=False)
        await worker.run()

        assert queue.lost == 1
        assert await handle.result(timeout=5) == 42
        assert worker.counts[EventType.COMPLETED] == 1
        events = [str(event.event_type) for event in await handle.events()]
        assert events == ["ENQUEUED", "STARTED", "COMPLETED"]


async def test_a_worker_that_could_not_start_may_start_later(tmp_path: Path) -> None:
    """A disk that is mounted a moment too late: the same object can be told to run again."""
    app = OmniQ(f"sqlite:///{tmp_path}/missing/queue.db")
    worker = Worker(app, burst=True, cleanup=False, schedules=False)

    with pytest.raises(StorageUnavailableError):
        await worker.run()
    (tmp_path / "missing").mkdir()

    await worker.run()
    await app.disconnect()


async def test_what_was_claimed_ahead_in_vain_is_given_back() -> None:
    """Short tasks are claimed ahead; then come long ones, and others can have what waits."""
    app = application(MemoryQueue())
    release = asyncio.Event()
    first, second = Worker(app, concurrency=2), Worker(app, concurrency=2)

    @app.task
    async def short() -> None: ...

    @app.task
    async def long() -> str:
        await release.wait()
        return str(current_task().worker_id)

    async with app:
        working = [asyncio.create_task(first.run())]
        for handle in await short.enqueue_many([()] * 200):
            await handle.wait(timeout=10)
        handles = await long.enqueue_many([()] * 4)
        await wait_until(lambda: len(first.running) == 4, description="two of them ahead")
        working.append(asyncio.create_task(second.run()))
        await wait_until(
            lambda: len(first.running) == len(second.running) == 2,
            description="the other worker has them",
        )
        release.set()

        workers = [await handle.result(timeout=10) for handle in handles]
        tasks = [await handle.task() for handle in handles]
        for worker in (first, second):
            worker.stop()
        await asyncio.gather(*working)

    assert sorted(workers) == sorted([first.id, second.id] * 2)
    assert {task.attempt for task in tasks} == {1}
