"""Connections to NATS while they are used: lost replies, silence, killed servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from omniq.exceptions import (
    StorageError,
    StorageUnavailableError,
    TaskExistsError,
)
from omniq.models import EventType, Task, TaskEvent, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.storage.nats import (
    NATSEventStorage,
    NATSQueue,
    NATSServer,
)
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.records import Record
from omniq.storage.nats.shelf import Write
from omniq.storage.nats.signals import Ears
from omniq.storage.nats.wire import Wire
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace, nats_url, running_nats
from tests.servers.proxy import Proxy, proxy

T = TypeVar("T")


def task(task_id: str | None = None, **fields: Any) -> Task:
    return Task(func="app.work", **({"id": task_id} if task_id else {}), **fields)


def shared_port() -> int:
    return int(nats_url().rpartition(":")[2])


def through(between: Proxy, **options: Any) -> NATSQueue:
    return NATSQueue(f"nats://127.0.0.1:{between.port}", namespace=namespace(), **options)


class Cutting(NATSServer):
    """A handle whose connection ends so many times just before it is used."""

    cuts = 0

    async def call(
        self, work: Callable[[Wire], Awaitable[T]], *, again: bool = False, items: int = 1
    ) -> T:
        async def cut(wire: Wire) -> T:
            if self.cuts:
                self.cuts -= 1
                await wire.shut()
            return await work(wire)

        return await super().call(cut, again=again, items=items)


async def end_all(queue: BaseQueue) -> None:
    """Complete whatever can be claimed."""
    while (claimed := await queue.dequeue()) is not None:
        await queue.complete(claimed)


class TestConnections:
    """What happens to connections while they are used."""

    @pytest.mark.parametrize("fields", [{}, {"unique_key": "k"}], ids=["plain", "keyed"])
    async def test_a_lost_reply_makes_exactly_one_task(self, fields: dict[str, Any]) -> None:
        """The repeated insert recognises its own work."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await queue.enqueue(task("first"))
            between.replies_to_lose = 1
            assert await queue.enqueue(task("a", **fields)) == "a"
            assert await queue.counts() == {"default": {TaskStatus.PENDING: 2}}

    @pytest.mark.parametrize(
        ("fields", "looks"), [({}, 0), ({"unique_key": "k"}, 2)], ids=["plain", "keyed"]
    )
    async def test_a_lost_reply_to_an_enqueue_may_come_after_the_end(
        self, fields: dict[str, Any], looks: int
    ) -> None:
        """Others ended the task before the insert is repeated: it was stored all the same."""
        space = namespace()
        async with (
            proxy(shared_port()) as between,
            NATSQueue(f"nats://127.0.0.1:{between.port}", namespace=space) as queue,
            NATSQueue(nats_url(), namespace=space) as direct,
        ):
            await queue.enqueue(task("first"))
            between.meanwhile = partial(end_all, direct)
            between.lose_reply(after=looks)
            one = task("a", **fields)
            assert await queue.enqueue(one) == "a"

            assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 2}}
            with pytest.raises(TaskExistsError):
                await queue.enqueue(one)

    async def test_a_lost_reply_makes_exactly_one_task_of_a_logged_one(self) -> None:
        """Its event, sent in the same breath, is told once as well."""
        async with proxy(shared_port()) as between:
            server = NATSServer(f"nats://127.0.0.1:{between.port}", namespace=namespace())
            queue, events = NATSQueue(server=server), NATSEventStorage(server=server)
            async with queue, events:
                for lost in (0, 1):
                    one = task()
                    event = TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED)
                    between.replies_to_lose = lost
                    assert await queue.insert_logged([one], [event], events) == [(one.id, True)]
                    assert await events.get_events(one.id) == [event]

                assert await queue.counts() == {"default": {TaskStatus.PENDING: 2}}

    async def test_a_stream_of_events_that_is_gone_is_made_anew_for_a_logged_task(self) -> None:
        """Somebody deleted the history: the task is stored once, and its event in a new stream."""
        server = NATSServer(nats_url(), namespace=(space := namespace()))
        queue, events = NATSQueue(server=server), NATSEventStorage(server=server)
        async with queue, events:
            gone = Frame(f"$JS.API.STREAM.DELETE.{space}_events")
            await server.call(lambda wire: wire.ask([gone]))
            one = task()
            event = TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED)

            assert await queue.insert_logged([one], [event], events) == [(one.id, True)]

            assert await events.get_events(one.id) == [event]
            assert await queue.counts() == {"default": {TaskStatus.PENDING: 1}}

    async def test_nothing_is_told_of_a_task_that_the_server_refuses(self) -> None:
        """The other stream takes what it is sent; it is taken back."""
        server = NATSServer(nats_url(), namespace=namespace())
        queue, events = NATSQueue(server=server), NATSEventStorage(server=server)
        async with queue, events:
            await queue.enqueue(task("first"))
            stream = queue.stream
            narrow = json.dumps({**stream.config, "max_msg_size": 10}).encode()
            update = Frame(f"$JS.API.STREAM.UPDATE.{stream.name}", narrow)
            await server.call(lambda wire: wire.ask([update]))
            one = task()
            event = TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED)

            with pytest.raises(StorageError, match="maximum allowed"):
                await queue.insert_logged([one], [event], events)

            assert await events.get_all_events() == []

    async def test_a_lost_reply_of_a_settle_is_still_a_success(self) -> None:
        """The repeated swap recognises its own work, even one that went back to the queue."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await queue.enqueue_many([task("a"), task("b")])
            first, second = await queue.dequeue(), await queue.dequeue()
            assert first is not None
            assert second is not None

            between.replies_to_lose = 1
            await queue.complete(first)
            between.replies_to_lose = 1
            await queue.release(second)

            counts = (await queue.counts())["default"]
            assert counts == {TaskStatus.COMPLETED: 1, TaskStatus.PENDING: 1}

    async def test_who_could_not_begin_to_listen_begins_anew(self) -> None:
        """The connection ended under its hands: it must not take itself for one who listens."""
        server = Cutting(nats_url(), namespace=namespace())
        ears, pattern = Ears(server), f"{namespace()}.>"
        await server.open(self)
        server.cuts = 1
        with pytest.raises(StorageUnavailableError):
            await ears.listen([pattern])

        assert await ears.listen([pattern])
        assert not await ears.listen([pattern])
        await server.close(self)

    async def test_a_claim_that_fails_half_way_returns_what_it_has(self) -> None:
        """It was refused one task and leased another; nobody else could give that one back."""
        server = Cutting(nats_url(), namespace=(space := namespace()))
        async with (
            NATSQueue(server=server) as queue,
            NATSQueue(nats_url(), namespace=space) as rival,
        ):
            await queue.enqueue_many([task("a"), task("b")])
            write = queue.shelf.write

            async def late(writes: Sequence[Write]) -> list[Record | None]:
                assert await rival.dequeue() is not None
                answers = await write(writes)
                server.cuts = 100
                return answers

            queue.shelf.write = late  # type: ignore[method-assign,assignment]  # pyright: ignore[reportAttributeAccessIssue] - the moment in between
            claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=2)

            assert [one.id for one in claimed] == ["b"]
            server.cuts = 0

    @pytest.mark.parametrize("step", ["claim", "settle", "look"])
    async def test_a_half_open_connection_is_noticed(self, step: str) -> None:
        """Each kind of call gives up by itself; the next one works on a new connection."""
        async with (
            proxy(shared_port()) as between,
            through(between, timeout_seconds=0.3, connect_timeout_seconds=0.3) as queue,
        ):
            await queue.enqueue_many([task("a"), task("b")])
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
        """A waiter looks by itself every five seconds."""
        async with (
            proxy(shared_port()) as between,
            through(between, timeout_seconds=1, connect_timeout_seconds=0.3) as queue,
        ):
            waiting = asyncio.create_task(queue.wait(["empty"], 60))
            await asyncio.sleep(0.1)
            between.silent = True
            async with asyncio.timeout(20):
                with pytest.raises(StorageUnavailableError):
                    await waiting

    async def test_one_connection_serves_a_loop(self) -> None:
        """However many calls are made at once."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await asyncio.gather(*(queue.enqueue(task()) for _ in range(200)))
            await asyncio.gather(*(queue.counts() for _ in range(50)))
            assert between.connections == 1

    def test_an_object_works_in_one_loop_after_another(self) -> None:
        """Each loop closes its connection as it ends, though nobody said `disconnect`."""
        queue = NATSQueue(nats_url(), namespace=namespace())

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
        """With sync_interval always, what was acknowledged is there after kill -9 and a restart."""
        with running_nats(tmp_path, jetstream="sync_interval: always") as server:
            async with NATSQueue(server.url, connect_timeout_seconds=1) as queue:
                for n in range(3):
                    await queue.enqueue_many([task(f"t{n}-{i}") for i in range(20)])
                    server.kill()
                    with pytest.raises(StorageUnavailableError):
                        await queue.enqueue(task(f"lost{n}"))
                    server.start()
                    await wait_until(lambda: is_back(queue), description="the server is back")

                assert await queue.get_queue_size() == 60
                assert await queue.dequeue() is not None

    async def test_a_waiter_meets_the_error_of_a_killed_server(self, tmp_path: Path) -> None:
        """So that a worker can back off; waiting works again when the server does."""
        with running_nats(tmp_path) as server:
            async with NATSQueue(server.url, connect_timeout_seconds=1) as queue:
                waiting = asyncio.create_task(queue.wait(["default"], 60))
                ending = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.1)
                server.kill()
                async with asyncio.timeout(10):
                    for waiter in (waiting, ending):
                        with pytest.raises(StorageUnavailableError):
                            await waiter
                server.start()
                await wait_until(lambda: is_back(queue), description="the server is back")

                waiting = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.05)
                await queue.enqueue(task())
                assert await waiting is not None


async def is_back(queue: BaseQueue) -> bool:
    try:
        await queue.counts()
    except StorageUnavailableError:
        return False
    return True
