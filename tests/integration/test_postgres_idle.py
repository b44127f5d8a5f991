"""What workers on PostgreSQL ask with nothing to do, and what they notice all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest

from omniq import Schedule, ScheduleType, Task
from omniq.clock import utcnow
from omniq.storage.postgres import Database, PostgresQueue, PostgresScheduleStorage
from omniq.storage.postgres import queue as queue_module
from omniq.testing.waiting import wait_until
from tests.servers.postgres import postgres_url, schema

if TYPE_CHECKING:
    from asyncpg import Connection

R = TypeVar("R")


class Counting(Database):
    """A handle that counts what it asks the server."""

    asked = 0

    async def run(
        self, work: Callable[[Connection[Any]], Awaitable[R]], *, seconds: float | None = None
    ) -> R:
        self.asked += 1
        return await super().run(work, seconds=seconds)


@pytest.fixture
def name() -> str:
    return schema()


@pytest.fixture
async def handle(name: str) -> Counting:
    return Counting(postgres_url(), schema=name)


@pytest.fixture
async def queue(handle: Counting) -> AsyncIterator[PostgresQueue]:
    """A queue that listens, and has waited in vain."""
    async with PostgresQueue(handle=handle) as opened:
        await opened.wait(["default"], 0.001)
        await wait_until(lambda: handle.heard() is not None, description="it listens")
        await opened.wait(["default"], 0.001)
        yield opened


@pytest.fixture
async def other(name: str, queue: PostgresQueue) -> AsyncIterator[PostgresQueue]:
    """The same queue, as another process sees it."""
    async with PostgresQueue(postgres_url(), schema=name) as opened:
        yield opened


async def test_who_waits_in_vain_asks_once(handle: Counting, queue: PostgresQueue) -> None:
    """While it is listening and hears nothing, the answer is the same."""
    before = handle.asked
    for _ in range(5):
        await queue.wait(["default"], 0.001)

    assert handle.asked == before


async def test_a_task_enqueued_between_two_waits_is_noticed(
    handle: Counting,
    queue: PostgresQueue,
    other: PostgresQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was heard while nobody waited makes the next wait look."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    heard = handle.heard()
    await other.enqueue(Task(func="f"))
    await wait_until(lambda: handle.heard() != heard, description="it is heard")

    async with asyncio.timeout(10):
        await queue.wait(["default"], 3600)
        task = await queue.dequeue()
    assert task is not None


async def test_the_end_of_an_own_lease_is_waited_for(
    queue: PostgresQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of a task nobody announced: a claim changes what is due next."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    async with await psycopg.AsyncConnection.connect(postgres_url()) as connection:
        await queue.insert_within(connection, [Task(func="f")])

    claimed = await queue.claim(
        ["default"], worker_id="w", lease_token="t", limit=1, lease_seconds=0.2
    )
    assert claimed
    async with asyncio.timeout(10):
        await queue.wait(["default"], 3600)


async def test_schedules_are_asked_about_once(
    handle: Counting, queue: PostgresQueue, name: str
) -> None:
    """Until another process stores one; one that is due is asked about each time."""
    async with (
        PostgresScheduleStorage(handle=handle) as schedules,
        PostgresScheduleStorage(postgres_url(), schema=name) as elsewhere,
    ):
        assert await schedules.next_due() is None
        before = handle.asked
        for _ in range(5):
            assert await schedules.next_due() is None
        assert handle.asked == before

        moment = utcnow() + timedelta(hours=1)
        await elsewhere.save_schedule(
            Schedule(schedule_type=ScheduleType.ONCE, func="f", start_at=moment)
        )

        async def is_there() -> bool:
            return await schedules.next_due() is not None

        await wait_until(is_there, description="the new one is noticed")
        (stored,) = await elsewhere.list_schedules()
        assert await schedules.next_due() == stored.next_run_at
        await elsewhere.delete_schedule(stored.id)

        async def is_gone() -> bool:
            return await schedules.next_due() is None

        await wait_until(is_gone, description="that it is gone is noticed")


async def test_workers_share_the_looking_for_dead_ones(
    handle: Counting, queue: PostgresQueue, other: PostgresQueue
) -> None:
    """Each of two looks half as often; who is no worker looks whenever it is told to."""
    before = handle.asked
    for _ in range(3):
        await queue.end_dead_leases()
    assert handle.asked == before + 3

    await other.announce("w2")
    await queue.announce("w1")
    await queue.end_dead_leases()
    before = handle.asked
    for _ in range(5):
        await queue.end_dead_leases()

    assert handle.asked == before
    await queue.withdraw("w1")
    await other.withdraw("w2")
