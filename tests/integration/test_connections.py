"""Connections that go silent or lose an answer, and servers that are away, on each engine alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from omniq import OmniQ, Worker
from omniq.backend.nats import NATSBackend
from omniq.backend.postgres import PostgresBackend
from omniq.backend.redis import RedisBackend
from omniq.clock import utcnow
from omniq.exceptions import LeaseLostError, StorageUnavailableError
from omniq.models import Task, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.testing.waiting import wait_until
from tests.integration.storm import acknowledged
from tests.servers.engines import ENGINES, Engine
from tests.servers.proxy import Proxy, proxy

NOTICED_SECONDS = 20
SOON: dict[str, dict[str, Any]] = {
    "nats": {"timeout_seconds": 0.5, "connect_timeout_seconds": 0.5},
    "postgres": {"command_timeout": 0.5, "connect_timeout": 0.5},
    "redis": {"timeout_seconds": 0.5, "connect_timeout_seconds": 0.5},
}
"""Options by which the tests of a normal run give up soon."""


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Engine:
    return ENGINES[name]


@pytest.fixture
async def between(engine: Engine) -> AsyncIterator[Proxy]:
    """What stands between us and the server."""
    async with proxy(engine.port()) as between:
        yield between


def queue_at(name: str, url: str, **options: Any) -> BaseQueue:
    """Return a queue at this URL."""
    match name:
        case "nats":
            return NATSBackend(url, **options).get_task_queue()
        case "postgres":
            return PostgresBackend(url, **options).get_task_queue()
        case _:
            return RedisBackend(url, **options).get_task_queue()


def task(task_id: str) -> Task:
    return Task(func="app.work", id=task_id)


async def wait_on(queue: BaseQueue) -> None:
    """Sleep until something wakes us, again and again, as an idle worker does."""
    while True:
        await queue.wait(["empty"], 60)


async def calls_on(queue: BaseQueue) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return one call of each kind."""
    await queue.enqueue_many([task("a"), task("b"), task("c")])
    first, second = await queue.dequeue(), await queue.dequeue()
    assert first is not None
    assert second is not None
    return {
        "enqueue": lambda: queue.enqueue(task("d")),
        "claim": queue.dequeue,
        "settle": lambda: queue.complete(first),
        "heartbeat": lambda: queue.heartbeat(second),
        "wake-up": lambda: wait_on(queue),
    }


async def silence_is_noticed(queue: BaseQueue, between: Proxy) -> None:
    """Each kind of call gives up by itself; the next ones are made on new connections."""
    calls = await calls_on(queue)
    between.silent = True

    async with asyncio.timeout(NOTICED_SECONDS):
        answers = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)

    between.silent = False
    assert all(isinstance(answer, StorageUnavailableError) for answer in answers), answers

    async def is_back() -> bool:
        try:
            return await queue.get_task("b") is not None
        except StorageUnavailableError:
            return False

    await wait_until(is_back, description="it works again")
    await queue.enqueue(task("e"))


async def test_a_half_open_connection_is_noticed(name: str, engine: Engine, between: Proxy) -> None:
    """Whatever was under way: no call waits for an answer that cannot come."""
    async with queue_at(name, engine.store_through(between.port), **SOON[name]) as queue:
        await silence_is_noticed(queue, between)


@pytest.mark.slow
async def test_a_half_open_connection_is_noticed_in_time_by_default(
    name: str, engine: Engine, between: Proxy
) -> None:
    """Within twenty seconds, with no option set."""
    async with queue_at(name, engine.store_through(between.port)) as queue:
        await silence_is_noticed(queue, between)


LOST_AFTER = range(5)
"""So many answers pass before one is lost: whichever it is of those a call needs."""


@pytest.mark.parametrize("passed", LOST_AFTER)
async def test_a_lost_answer_to_an_enqueue_leaves_exactly_one_task(
    name: str, engine: Engine, between: Proxy, passed: int
) -> None:
    """The repeated insert recognises its own work, and so does a caller who tries again."""
    async with quiet_queue(name, engine, between) as queue:
        between.lose_reply(after=passed)
        try:
            await queue.enqueue(task("a"))
        except StorageUnavailableError:
            between.lose_reply(after=None)
            assert [one.task_id for one in await queue.insert([task("a")])] == ["a"]
        between.lose_reply(after=None)

        assert await queue.counts() == {"default": {TaskStatus.PENDING: 1}}


@pytest.mark.parametrize("passed", LOST_AFTER)
async def test_a_lost_answer_to_a_claim_costs_a_lease_and_no_task(
    name: str, engine: Engine, between: Proxy, passed: int
) -> None:
    """It runs once, by whoever got it: now, or, when nobody knows of the claim, when it ends."""
    async with quiet_queue(name, engine, between) as queue:
        await queue.enqueue(task("a"))
        between.lose_reply(after=passed)
        try:
            claimed = await claim(queue)
        except StorageUnavailableError:
            claimed = []
        between.lose_reply(after=None)
        later = await claim(queue, now=utcnow() + timedelta(seconds=31))

        assert {one.id for one in (*claimed, *later)} == {"a"}
        assert later[-1].claim_count <= 2
        assert await queue.complete(later[-1]) is not None
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 1}}


async def claim(queue: BaseQueue, **options: Any) -> list[Task]:
    return await queue.claim(
        ["default"], worker_id="w", lease_token="t", limit=9, lease_seconds=30, **options
    )


@pytest.mark.parametrize("passed", LOST_AFTER)
async def test_a_lost_answer_to_a_settle_ends_the_task_once(
    name: str, engine: Engine, between: Proxy, passed: int
) -> None:
    """The repeated swap recognises its own work; at worst the caller does not know it was made."""
    async with quiet_queue(name, engine, between) as queue:
        await queue.enqueue_many([task("a"), Task(func="c", id="c", depends_on=("a",))])
        held = await queue.dequeue()
        assert held is not None
        between.lose_reply(after=passed)
        try:
            await queue.complete(held)
        except StorageUnavailableError:
            between.lose_reply(after=None)
            with suppress(LeaseLostError):
                await queue.complete(held)
        between.lose_reply(after=None)

        child = await queue.dequeue()

        assert child is not None
        assert child.id == "c"
        counts = {TaskStatus.COMPLETED: 1, TaskStatus.RUNNING: 1}
        assert await queue.counts() == {"default": counts}


@pytest.mark.parametrize("passed", LOST_AFTER)
async def test_a_settle_that_is_cut_off_and_repeated_frees_the_children(
    name: str, engine: Engine, between: Proxy, passed: int
) -> None:
    """Wherever the server went away: who tries again makes what is left to do."""
    async with quiet_queue(name, engine, between, **SOON[name]) as queue:
        await queue.enqueue_many([task("a"), Task(func="c", id="c", depends_on=("a",))])
        held = await queue.dequeue()
        assert held is not None
        between.lose_reply(after=passed)
        between.replies_to_lose = 1_000
        with suppress(StorageUnavailableError):
            await queue.complete(held)
        between.lose_reply(after=None)

        async def repeated() -> bool:
            with suppress(StorageUnavailableError):
                with suppress(LeaseLostError):
                    await queue.complete(held)
                return True
            return False

        await wait_until(repeated, description="the server is back")
        child = await queue.dequeue()

        assert child is not None
        assert child.id == "c"


def quiet_queue(name: str, engine: Engine, between: Proxy, **options: Any) -> BaseQueue:
    """A queue whose every answer is one to a call of the test."""
    alone: dict[str, Any] = {"listen": False, "pool_size": 1} if name == "postgres" else {}
    return queue_at(name, engine.store_through(between.port), **alone, **options)


class Visitors:
    """Takes the place of a server that is away, and counts who comes."""

    def __init__(self) -> None:
        self.count = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        writer.close()


async def outage(name: str, folder: Path, seconds: float, at_most: int) -> None:
    """Let a worker live through a server that is away; nobody restarts anything."""
    with ENGINES[name].durable(folder) as server:
        async with OmniQ(server.url) as app:
            done: list[int] = []

            @app.task(name="note")
            async def note(number: int) -> None:
                done.append(number)

            worker = Worker(app, lease_seconds=2, cleanup=False, schedules=False)
            working = asyncio.create_task(worker.run())
            await note.enqueue(1)
            await wait_until(lambda: done == [1], description="it works")

            await asyncio.to_thread(server.kill)
            visitors = Visitors()
            port = urlsplit(server.url).port
            async with await asyncio.start_server(visitors.meet, "127.0.0.1", port):
                await asyncio.sleep(seconds)  # the outage; nothing is waited for
            await asyncio.to_thread(server.start)
            await acknowledged(app, [Task(func="note", args=(2,))])
            await wait_until(lambda: 2 in done, description="it works again", timeout=10)

            worker.stop()
            await working
            assert 0 < visitors.count <= at_most


async def test_a_worker_lives_through_an_outage_longer_than_its_leases(
    name: str, tmp_path: Path
) -> None:
    """It comes back by itself, and does not besiege the server meanwhile."""
    await outage(name, tmp_path, seconds=4, at_most=80)


@pytest.mark.slow
@pytest.mark.timeout(360)
async def test_a_worker_lives_through_a_long_outage(name: str, tmp_path: Path) -> None:
    """The longer it takes, the less often it asks."""
    await outage(name, tmp_path, seconds=60, at_most=240)
