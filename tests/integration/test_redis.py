"""Connections to Redis and Valkey while they are used: lost replies, silence, killed servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from omniq import lifecycle
from omniq.backend.redis import RedisBackend
from omniq.clock import utcnow
from omniq.exceptions import (
    StorageUnavailableError,
    TaskExistsError,
)
from omniq.models import EventType, Task, TaskEvent, TaskResult, TaskStatus
from omniq.storage import parts
from omniq.storage.base import BaseQueue, Change
from omniq.storage.redis import (
    RedisEventStorage,
    RedisQueue,
    RedisResultStorage,
    RedisServer,
)
from tests.servers.proxy import proxy
from tests.servers.redis import namespace, port_of_shared, redis_url, running_redis


@pytest.fixture
async def backend() -> AsyncIterator[RedisBackend]:
    async with RedisBackend(redis_url(), namespace=namespace()) as backend:
        yield backend


def task(**fields: Any) -> Task:
    return Task(func="app.work", **fields)


async def end_all(queue: BaseQueue) -> None:
    """Complete whatever can be claimed."""
    while (claimed := await queue.dequeue()) is not None:
        await queue.complete(claimed)


async def waiting_on(first: asyncio.Task[None], queue: BaseQueue) -> None:
    await first
    while True:
        await queue.wait(["empty"], 60)


class TestConnections:
    """What happens to connections while they are used."""

    async def test_a_lost_reply_makes_exactly_one_task(self) -> None:
        """The repeated insert recognises its own work."""
        space = namespace()
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(port=between.port, namespace=space) as queue,
        ):
            between.replies_to_lose = 1
            assert await queue.enqueue(task(id="a", unique_key="k")) == "a"
            assert await queue.counts() == {"default": {TaskStatus.PENDING: 1}}

    @pytest.mark.parametrize("fields", [{}, {"unique_key": "k"}], ids=["plain", "keyed"])
    async def test_a_lost_reply_to_an_enqueue_may_come_after_the_end(
        self, fields: dict[str, Any]
    ) -> None:
        """Others ended the task before the insert is repeated: it was stored all the same."""
        space = namespace()
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(port=between.port, namespace=space) as queue,
            RedisQueue(redis_url(), namespace=space) as direct,
        ):
            await queue.enqueue(task(id="first"))
            between.meanwhile = partial(end_all, direct)
            between.replies_to_lose = 1
            one = task(id="a", **fields)
            assert await queue.enqueue(one) == "a"

            assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 2}}
            with pytest.raises(TaskExistsError):
                await queue.enqueue(one)

    async def test_a_lost_reply_makes_exactly_one_task_of_a_logged_one(self) -> None:
        """The insert is repeated by its name, and tells of its task once."""
        async with proxy(port_of_shared()) as between:
            server = RedisServer(port=between.port, namespace=namespace())
            queue, events = RedisQueue(server=server), RedisEventStorage(server=server)
            async with queue, events:
                assert queue.logs_with(events)
                for lost in (0, 1):  # the server must know the scripts before
                    one = task()
                    event = TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED)
                    between.replies_to_lose = lost
                    assert await queue.insert_logged([one], [event], events) == [(one.id, True)]
                    assert await events.get_events(one.id) == [event]

                assert await queue.counts() == {"default": {TaskStatus.PENDING: 2}}

    async def test_a_lost_reply_of_a_finish_is_still_a_success(self) -> None:
        """The repeated finish stores the result again and recognises its own swap."""
        async with proxy(port_of_shared()) as between:
            server = RedisServer(port=between.port, namespace=namespace())
            queue, results = RedisQueue(server=server), RedisResultStorage(server=server)
            async with queue, results:
                for lost in (0, 1):  # the server must know the scripts before
                    await queue.enqueue(task())
                    run = await queue.dequeue()
                    assert run is not None
                    change = Change(run, lifecycle.settle(run, lifecycle.Completed(1), utcnow()))
                    result = TaskResult(task_id=run.id, result=1, claim_count=1)
                    between.replies_to_lose = lost

                    assert await queue.finish([change], [result], results) == [True]

                    stored = await results.get(run.id)
                    assert stored is not None
                    assert stored.result == 1

    async def test_a_lost_reply_of_a_settle_is_still_a_success(self) -> None:
        """The repeated swap recognises its own work, even one that went back to the queue."""
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(port=between.port, namespace=namespace()) as queue,
        ):
            await queue.enqueue_many([task(id="a"), task(id="b")])
            first, second = await queue.dequeue(), await queue.dequeue()
            assert first is not None
            assert second is not None

            between.replies_to_lose = 1
            await queue.complete(first)
            between.replies_to_lose = 1
            await queue.release(second)

            counts = (await queue.counts())["default"]
            assert counts == {TaskStatus.COMPLETED: 1, TaskStatus.PENDING: 1}

    @pytest.mark.parametrize("step", ["claim", "settle", "look"])
    async def test_a_half_open_connection_is_noticed(self, step: str) -> None:
        """Each kind of call gives up by itself; the next one works on a new connection."""
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(
                port=between.port,
                namespace=namespace(),
                timeout_seconds=0.3,
                connect_timeout_seconds=0.3,
            ) as queue,
        ):
            await queue.enqueue_many([task(id="a"), task(id="b")])
            held = await queue.dequeue()
            assert held is not None
            between.silent = True
            calls: dict[str, Any] = {
                "claim": queue.dequeue,
                "settle": lambda: queue.complete(held),
                "look": lambda: queue.wait(["empty"], 60),
            }
            async with asyncio.timeout(15):
                with pytest.raises(StorageUnavailableError):
                    await calls[step]()
            between.silent = False

            assert (await queue.get_task("a")) is not None

    @pytest.mark.slow
    async def test_a_half_open_waiting_connection_is_noticed(self) -> None:
        """The server would have answered within five seconds."""
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(
                port=between.port, connect_timeout_seconds=0.3, namespace=namespace()
            ) as queue,
        ):
            waiting = asyncio.create_task(queue.wait(["empty"], 60))
            await asyncio.sleep(0.1)
            between.silent = True
            async with asyncio.timeout(20):
                with pytest.raises(StorageUnavailableError):
                    await waiting_on(waiting, queue)

    @pytest.mark.parametrize("logged", [False, True])
    async def test_many_large_tasks_are_more_than_one_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
    ) -> None:
        """A server takes half a gigabyte an argument, this one a megabyte."""
        monkeypatch.setattr(parts, "BYTES_PER_CALL", 800_000)
        with running_redis(tmp_path, "--proto-max-bulk-len", "1mb") as running:
            server = RedisServer(running.url)
            queue, events = RedisQueue(server=server), RedisEventStorage(server=server)
            async with queue, events:
                tasks = [task(id=f"{n}", args=("x" * 300_000,)) for n in range(7)]
                told = [TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED) for one in tasks]
                if logged:
                    inserted = await queue.insert_logged(tasks, told, events)
                    assert await events.get_all_events() == told
                else:
                    inserted = await queue.insert(tasks)

                assert inserted == [(one.id, True) for one in tasks]
                assert await queue.list_tasks() == tasks

    async def test_forgotten_scripts_are_sent_again(self, backend: RedisBackend) -> None:
        """After a failover or SCRIPT FLUSH the server knows none."""
        queue = backend.get_task_queue()
        await queue.enqueue(task(id="a"))
        await backend.server.call("SCRIPT", "FLUSH")

        claimed = await queue.dequeue()

        assert claimed is not None
        assert claimed.id == "a"

    async def test_connections_are_bounded(self) -> None:
        """Further calls queue up."""
        async with (
            proxy(port_of_shared()) as between,
            RedisQueue(port=between.port, namespace=namespace(), max_connections=3) as queue,
        ):
            await asyncio.gather(*(queue.counts() for _ in range(100)))
            assert between.connections <= 3

    def test_an_object_works_in_one_loop_after_another(self) -> None:
        """Each loop closes its connections as it ends, though nobody said `disconnect`."""
        queue = RedisQueue(redis_url(), namespace=namespace())

        async def enqueue() -> None:
            await queue.enqueue(task())

        asyncio.run(enqueue())
        thread = threading.Thread(target=lambda: asyncio.run(enqueue()))
        thread.start()
        thread.join()
        asyncio.run(enqueue())

        assert queue.get_queue_size_sync() == 3
        queue.close_sync()

    async def test_a_killed_server_loses_nothing_and_is_found_again(self, tmp_path: Path) -> None:
        """With appendfsync always, what was acknowledged is there after kill -9 and a restart."""
        with running_redis(tmp_path, "--appendfsync", "always") as server:
            async with RedisQueue(server.url, durability="fsync") as queue:
                for n in range(5):
                    await queue.enqueue_many([task(id=f"t{n}-{i}") for i in range(20)])
                    server.kill()
                    with pytest.raises(StorageUnavailableError):
                        await queue.enqueue(task(id=f"lost{n}"))
                    server.start()

                assert await queue.get_queue_size() == 100
                assert await queue.dequeue() is not None

    async def test_a_waiter_meets_the_error_of_a_killed_server(self, tmp_path: Path) -> None:
        """So that a worker can back off; waiting works again when the server does."""
        with running_redis(tmp_path) as server:
            async with RedisQueue(server.url) as queue:
                waiting = asyncio.create_task(queue.wait(["default"], 60))
                ending = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.1)
                server.kill()
                async with asyncio.timeout(10):
                    for waiter in (waiting, ending):
                        with pytest.raises(StorageUnavailableError):
                            await waiter
                server.start()

                waiting = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.05)
                await queue.enqueue(task())
                assert await waiting is not None
