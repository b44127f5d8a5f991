"""What nobody foresaw: it costs the task at fault, and neither its neighbours nor the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from omniq import Cancel, OmniQ, Retry, Snooze, TaskStatus, Worker
from omniq.backend.memory import MemoryBackend
from omniq.exceptions import StorageUnavailableError, TaskSignal
from omniq.hooks import Hooks
from omniq.lifecycle import Completed, Snoozed, said
from omniq.models.task import Task
from omniq.storage.base import Lease
from omniq.storage.memory import MemoryQueue, MemoryResultStorage
from omniq.testing.waiting import wait_until
from omniq.worker.eventlog import EventLog
from omniq.worker.runs import Run
from omniq.worker.settler import Settler
from tests.integration.conftest import burst

ERROR = ValueError("an exception as the reason")


class Mute:
    """What cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("not a word")


class UnspeakableError(Exception):
    """An error whose traceback cannot be shown."""

    @property
    def __notes__(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - that is what is odd about it
        raise RuntimeError("no notes")


def signal_of(kind: str, reason: Any) -> TaskSignal:
    if kind == "snooze":
        return Snooze(60, reason)
    return Cancel(reason) if kind == "cancel" else Retry(60, reason)


@pytest.mark.parametrize("reason", [ERROR, None, 7, Mute()], ids=["error", "none", "seven", "mute"])
@pytest.mark.parametrize("kind", ["cancel", "snooze", "retry"])
async def test_the_reason_of_a_signal_may_be_anything(app: OmniQ, kind: str, reason: Any) -> None:
    """`raise Cancel(error)` is what people write; its text is the reason."""

    @app.task(max_retries=1)
    async def signalling() -> None:
        raise signal_of(kind, reason)

    @app.task
    async def neighbour() -> int:
        return 1

    handle, other = await signalling.enqueue(), await neighbour.enqueue()
    worker = await burst(app)

    task = await handle.task()
    expected = TaskStatus.CANCELLED if kind == "cancel" else TaskStatus.SCHEDULED
    assert task.status is expected
    assert said(reason) in (task.error or "")
    assert await other.result(timeout=5) == 1
    assert worker.running == []


async def test_an_error_that_cannot_be_shown_fails_its_task(app: OmniQ) -> None:
    """Its type is told all the same."""

    @app.task
    async def odd() -> None:
        raise UnspeakableError

    handle = await odd.enqueue()
    await burst(app)

    assert (await handle.task()).status is TaskStatus.FAILED
    result = await app.result_storage.get(handle.id)
    assert result is not None
    assert result.error is not None
    assert result.error.type.endswith("UnspeakableError")


async def test_an_end_that_makes_no_sense_fails_its_task_and_no_other() -> None:
    """Ends are written in batches; what is wrong with one must not keep back the others."""
    ended: list[Task | None] = []
    async with MemoryQueue() as queue, MemoryResultStorage() as results:
        await queue.enqueue_many([Task(func="app.work", id=name) for name in ("odd", "well")])
        tasks = await queue.claim(["default"], worker_id="w", lease_token="t", limit=2)
        settler = settler_of(queue, results, lambda _, after: ended.append(after), Hooks())
        for task, outcome in zip(tasks, (Snoozed(1e18), Completed(1)), strict=True):
            settler.add(Run(task, trusted_until=time.monotonic() + 60), outcome)
        await settler.drain()

        assert [task.status for task in ended if task] == [TaskStatus.FAILED, TaskStatus.COMPLETED]
        assert await queue.counts() == {"default": {TaskStatus.FAILED: 1, TaskStatus.COMPLETED: 1}}


@pytest.mark.parametrize("error", [StorageUnavailableError("away"), RuntimeError("a bug")])
async def test_an_end_that_could_not_be_stored_is_told_of(error: Exception) -> None:
    """The task runs again, and whoever counts ends misses none."""
    ended, told, hooks = list[Task | None](), list[str](), Hooks()
    hooks.declare_listener(lambda event, task: told.append(f"{event.event_type} {task.id}"))
    async with Failing(error) as queue, MemoryResultStorage() as results:
        await queue.enqueue(Task(func="app.work", id="t"))
        (task,) = await queue.claim(["default"], worker_id="w", lease_token="t", limit=1)
        settler = settler_of(queue, results, lambda _, after: ended.append(after), hooks)
        settler.add(Run(task, trusted_until=time.monotonic()), Completed(1))
        await settler.drain()

    assert ended == [None]
    assert told == ["LEASE_LOST t"]


def settler_of(
    queue: MemoryQueue,
    results: MemoryResultStorage,
    settled: Callable[[Run, Task | None], None],
    hooks: Hooks,
) -> Settler:
    return Settler(
        queue,
        results,
        EventLog(None),
        worker_id="w",
        result_ttl_seconds=None,
        settled=settled,
        tell=hooks.tell,
    )


class Failing(MemoryQueue):
    """A queue that no end can be stored in."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def finish(self, *args: Any, **options: Any) -> list[bool]:
        raise self._error


class Stumbling(MemoryQueue):
    """A queue whose first heartbeat ends in an error of its code."""

    heartbeats = 0

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        self.heartbeats += 1
        if self.heartbeats == 1:
            raise RuntimeError("a bug")
        return await super()._extend(leases, lease_seconds, now)


async def test_heartbeats_go_on_after_an_error_nobody_foresaw() -> None:
    """A worker without them would go on claiming what it soon loses."""
    queue, rest = Stumbling(), MemoryBackend()
    app = OmniQ(tasks=queue, results=rest, events=rest, schedules=rest)
    release = asyncio.Event()

    @app.task
    async def long() -> None:
        await release.wait()

    async with app:
        handle = await long.enqueue()
        worker = Worker(app, lease_seconds=0.6, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await wait_until(lambda: queue.heartbeats > 5, description="heartbeats went on")
        release.set()
        await handle.wait(timeout=5)
        worker.stop()
        await working

        assert (await handle.task()).claim_count == 1


class StumblingResults(MemoryResultStorage):
    """Results whose first purge ends in an error of its code."""

    purges = 0

    async def _purge(self, now: datetime | None, limit: int) -> int:
        self.purges += 1
        if self.purges == 1:
            raise RuntimeError("a bug")
        return await super()._purge(now, limit)


async def test_cleaning_up_goes_on_after_an_error_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a worker that runs for months would keep what has expired."""
    monkeypatch.setattr("omniq.worker.upkeep.CLEANUP_SECONDS", 0.01)
    results, rest = StumblingResults(), MemoryBackend()

    async with OmniQ(tasks=rest, results=results, events=rest, schedules=rest) as app:
        worker = Worker(app, schedules=False)
        working = asyncio.create_task(worker.run())
        await wait_until(lambda: results.purges > 2, description="it was tried again")
        worker.stop()
        await working
