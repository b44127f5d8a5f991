"""What Redis and Valkey keep, for how long and how safely."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from omniq.backend.redis import RedisBackend
from omniq.clock import utcnow
from omniq.exceptions import SchemaError, StorageError, StorageUnavailableError
from omniq.models import Task, TaskEvent, TaskResult
from omniq.storage.redis import RedisQueue, RedisResultStorage, RedisServer
from tests.servers.debian import Program
from tests.servers.process import Server, answers, free_port
from tests.servers.redis import (
    cluster_url,
    namespace,
    port_of,
    redis7,
    redis7_url,
    redis_program,
    redis_url,
    running_redis,
    start_redis,
)


@pytest.fixture
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[RedisBackend]:
    """On the shared server, or on that of the parameter."""
    url: Callable[[], str] = getattr(request, "param", redis_url)
    async with RedisBackend(url(), namespace=namespace()) as backend:
        yield backend


def task(**fields: Any) -> Task:
    return Task(func="app.work", **fields)


async def keys(server: RedisServer) -> dict[str, int]:
    """All keys of the namespace and the milliseconds they have to live (-1: for ever)."""
    left: dict[str, int] = {}
    for host, port in server.address.hosts:
        node: Any = Redis(host=host, port=port)
        async with node:
            async for key in node.scan_iter(f"{server.prefix}*", count=500):
                left[key.decode()] = await node.pttl(key)
    return left


class TestKeys:
    """What is left on the server, and for how long."""

    @pytest.mark.parametrize("backend", [redis_url, redis7_url, cluster_url], indirect=True)
    async def test_a_finished_and_purged_life_leaves_no_key_without_a_lifetime(
        self, backend: RedisBackend
    ) -> None:
        """Indexes, counters, unique keys, dependants and tokens go with their tasks."""
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        soon = utcnow() + timedelta(hours=1)
        await queue.enqueue_many(
            [
                task(id="a", unique_key="k"),
                task(id="b", depends_on=("a",)),
                task(id="c", depends_on=("a", "b"), queue_name="other"),
                task(id="d", run_at=soon),
            ]
        )
        waiting = asyncio.create_task(queue.wait_final(["c"], 30))
        await queue.set_paused("default", True)
        await queue.set_paused("default", False)
        for _ in range(3):
            run = await queue.dequeue(["default", "other"])
            assert run is not None
            await results.set(TaskResult(task_id=run.id, expires_at=soon))
            await backend.get_event_storage().log_event(
                TaskEvent(task_id=run.id, event_type="DONE")
            )
            await queue.complete(run)
        await queue.cancel("d")
        await waiting
        assert await queue.cleanup_expired_tasks(utcnow() + timedelta(days=1)) == 4

        left = await keys(backend.server)

        assert {name for name, millis in left.items() if millis == -1} == set()
        await results.cleanup_expired_results(now=soon)
        await backend.get_event_storage().cleanup_expired_events(utcnow() + timedelta(days=1))
        kinds = {name.removeprefix(backend.server.prefix).partition(":")[0] for name in left}
        assert kinds <= {"results", "events", "wake", "inbox"}

    async def test_purged_children_do_not_burden_their_parents(self, backend: RedisBackend) -> None:
        """A later task of the same id that waits for nobody is not released by an old parent."""
        queue = backend.get_task_queue()
        await queue.enqueue_many([task(id="p"), task(id="c", depends_on=("p",))])
        await queue.cancel("c")
        await queue.purge(utcnow() + timedelta(days=1))

        assert await backend.server.call("EXISTS", backend.server.key("children", "p")) == 0

    async def test_results_expire_by_themselves(self, backend: RedisBackend) -> None:
        """The server deletes them soon after their end; results without an end stay."""
        results = backend.get_result_storage()
        ends_at = utcnow() + timedelta(seconds=90)
        await results.set(TaskResult(task_id="a", expires_at=ends_at))
        assert await backend.server.call("PTTL", backend.server.key("results")) > 90_000
        await results.set(TaskResult(task_id="b"))

        left = await keys(backend.server)

        second = math.ceil(ends_at.timestamp())
        assert 90_000 < left[backend.server.key("results", str(second))] <= 151_000
        assert left[backend.server.key("results", "kept")] == -1
        assert left[backend.server.key("results")] == -1

    async def test_a_result_is_stored_once_wherever_its_life_ends(
        self, backend: RedisBackend
    ) -> None:
        """With another end it leaves its old place; of a batch, the last counts."""
        results, server = backend.get_result_storage(), backend.server
        ends = [utcnow() + timedelta(hours=hours) for hours in (1, 2, 3)]
        for end in (ends[0], None, ends[1]):
            await results.set(TaskResult(task_id="a", claim_count=1, expires_at=end))
        await results.set_many(
            [TaskResult(task_id="a", claim_count=2, expires_at=end) for end in (None, *ends)]
        )

        stored = await results.get("a")
        shelves = [
            name for name in await keys(server) if await server.call("TYPE", name) == b"hash"
        ]

        assert stored is not None
        assert (stored.claim_count, stored.expires_at) == (2, ends[2])
        assert shelves == [server.key("results", str(math.ceil(ends[2].timestamp())))]
        assert await results.delete_many(["a"]) == 1
        assert await keys(server) == {}

    async def test_what_the_server_expired_leaves_the_index(self, backend: RedisBackend) -> None:
        """The next write or purge forgets it, so that the index never outgrows the results."""
        results = backend.get_result_storage()
        past = utcnow() - timedelta(hours=1)
        await results.set_many([TaskResult(task_id=f"r{n}", expires_at=past) for n in range(10)])
        second = str(math.ceil(past.timestamp()))
        assert await backend.server.call("DEL", backend.server.key("results", second)) == 1

        await results.set_many([TaskResult(task_id=f"s{n}") for n in range(5)])

        assert await backend.server.call("ZCARD", backend.server.key("results")) == 5

    async def test_a_vanished_record_does_not_stop_the_queue(self, backend: RedisBackend) -> None:
        """A task may be gone from under its index, deleted by hand."""
        queue = backend.get_task_queue()
        await queue.enqueue_many([task(id="a"), task(id="b"), task(id="c")])
        await backend.server.call("HDEL", backend.server.key("tasks"), "a")
        await backend.server.call("HDEL", backend.server.key("payloads"), "b")

        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=9)

        assert [one.id for one in claimed] == ["b", "c"]
        assert "omniq.damaged" in claimed[0].metadata

    async def test_a_record_that_cannot_be_read_is_an_error_of_the_store(
        self, backend: RedisBackend
    ) -> None:
        """A worker of an older version goes on trying, and says which task it is about."""
        queue = backend.get_task_queue()
        await queue.enqueue(task(id="odd"))
        server = backend.server
        await server.call("HSET", server.key("tasks"), "odd", b"\x91\x01")

        with pytest.raises(SchemaError, match="task odd cannot be read"):
            await queue.get_task("odd")


class TestDurability:
    """Levels beyond what the server is set to."""

    async def test_fsync_needs_an_append_only_file(self, tmp_path: Path) -> None:
        """Said at connect, not at the first write."""
        with (
            running_redis(tmp_path, "--appendonly", "no") as server,
            pytest.raises(StorageError, match="appendonly"),
        ):
            await RedisQueue(server.url, durability="fsync").connect()

    async def test_fsync_needs_a_server_that_can_tell(self) -> None:
        """Redis 7.0 has no WAITAOF."""
        with pytest.raises(StorageError, match=r"version 7\.2"):
            await RedisQueue(redis7_url(), durability="fsync").connect()

    @pytest.mark.parametrize("made_by", [None, redis7], ids=["valkey", "redis7"])
    async def test_replica_needs_a_replica(
        self, tmp_path: Path, made_by: Callable[[], Program] | None
    ) -> None:
        """With one it confirms each write; without it the write is refused as unconfirmed."""
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        program = made_by() if made_by else None
        with running_redis(
            tmp_path / "one", "--repl-diskless-sync-delay", "0", made_by=program
        ) as primary:
            with pytest.raises(StorageError, match="needs a connected replica"):
                await RedisQueue(primary.url, durability="replica").connect()
            of = ("--replicaof", f"127.0.0.1 {port_of(primary)}")
            replica = start_redis(tmp_path / "two", *of, made_by=program)
            try:
                queue = RedisQueue(primary.url, durability="replica", timeout_seconds=2)
                await connected(queue)
                assert await queue.enqueue(task(id="a")) == "a"
                replica.kill()
                with pytest.raises(StorageUnavailableError, match="not confirm"):
                    await queue.enqueue(task(id="b"))
                await queue.close()
            finally:
                replica.stop()


async def connected(queue: RedisQueue) -> None:
    """Connect as soon as the server is as it should be."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await queue.connect()
            except StorageError:
                await asyncio.sleep(0.05)


class TestSentinel:
    async def test_a_sentinel_url_finds_the_primary(self, tmp_path: Path) -> None:
        """By the name of its service."""
        (tmp_path / "primary").mkdir()
        with running_redis(tmp_path / "primary") as primary:
            port = free_port()
            settings = tmp_path / "sentinel.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
                f"sentinel monitor main 127.0.0.1 {port_of(primary)} 1\n"
            )
            command = [redis_program(), str(settings), "--sentinel"]
            sentinel = Server(
                "sentinel", command, "", partial(answers, port, b"PING\r\n", b"+PONG"), tmp_path
            )
            try:
                url = f"redis+sentinel://127.0.0.1:{port}/main/0"
                async with RedisBackend(url) as backend:
                    assert await backend.get_task_queue().enqueue(task(id="a")) == "a"
                async with RedisResultStorage(primary.url) as direct:
                    assert await direct.get("a") is None
                with pytest.raises(StorageUnavailableError):
                    await RedisQueue(f"redis+sentinel://127.0.0.1:{port}/other").connect()
            finally:
                sentinel.stop()
