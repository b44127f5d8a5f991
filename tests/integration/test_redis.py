"""What is particular to Redis and Valkey: bad servers, broken connections, expiry, durability."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq.backend.redis import RedisBackend
from omniq.clock import utcnow
from omniq.exceptions import ConfigError, StorageError, StorageUnavailableError
from omniq.models import Task, TaskEvent, TaskResult, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.storage.redis import RedisQueue, RedisResultStorage, RedisServer
from tests.servers.process import Server, free_port
from tests.servers.proxy import proxy
from tests.servers.redis import namespace, port_of, redis_program, redis_url, start_redis

PASSWORD = "correct-horse"


@pytest.fixture
async def backend() -> AsyncIterator[RedisBackend]:
    async with RedisBackend(redis_url(), namespace=namespace()) as backend:
        yield backend


@contextmanager
def running(folder: Path, *options: str) -> Generator[Server]:
    server = start_redis(folder, *options)
    try:
        yield server
    finally:
        server.stop()


def task(**fields: Any) -> Task:
    return Task(func="app.work", **fields)


async def keys(server: RedisServer) -> dict[str, int]:
    """All keys of the namespace and the milliseconds they have to live (-1: for ever)."""
    names = [key.decode() async for key in scan(server)]
    return {name: await server.call("PTTL", name) for name in names}


async def scan(server: RedisServer) -> AsyncIterator[bytes]:
    cursor: Any = 0
    while True:
        cursor, found = await server.call(
            "SCAN", cursor, "MATCH", f"{server.prefix}*", "COUNT", 500
        )
        for key in found:
            yield key
        if not int(cursor):
            return


class TestConnecting:
    """Each bad server is one clear error, soon, and never shows a password."""

    async def test_a_wrong_password_is_refused(self, tmp_path: Path) -> None:
        """And a right one is not."""
        with running(tmp_path, "--requirepass", PASSWORD) as server:
            place = server.url.removeprefix("redis://")
            for user in ("", ":wrong-battery@"):
                with pytest.raises(StorageError, match="refused the user name") as caught:
                    await RedisQueue(f"redis://{user}{place}").connect()
                assert "wrong-battery" not in f"{caught.value}{caught.value!r}"
            async with RedisQueue(f"redis://:{PASSWORD}@{place}") as queue:
                assert await queue.counts() == {}

    async def test_an_unknown_database_is_refused(self) -> None:
        """The server has sixteen unless told otherwise."""
        url = redis_url().rpartition("/")[0]
        with pytest.raises(StorageError, match="DB index"):
            await RedisQueue(f"{url}/4000").connect()

    async def test_a_replica_is_refused(self, tmp_path: Path) -> None:
        """Writing to it would fail, and reading from it would lag."""
        port = redis_url().rpartition(":")[2].partition("/")[0]
        with (
            running(tmp_path, "--replicaof", f"127.0.0.1 {port}") as server,
            pytest.raises(StorageUnavailableError, match="replica"),
        ):
            await RedisQueue(server.url).connect()

    async def test_an_evicting_server_is_refused_unless_accepted(self, tmp_path: Path) -> None:
        """It may delete tasks when its memory is full."""
        with running(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
            with pytest.raises(StorageError, match="maxmemory-policy is allkeys-lru"):
                await RedisQueue(server.url).connect()
            async with RedisQueue(server.url, allow_eviction=True) as queue:
                assert await queue.counts() == {}

    async def test_full_memory_is_unavailable_and_stores_nothing(self, tmp_path: Path) -> None:
        """Half a batch would be worse than none."""
        with running(tmp_path, "--maxmemory", "3mb") as server:
            async with RedisBackend(server.url) as backend:
                queue = backend.get_task_queue()
                tasks = [task(args=("x" * 100_000,)) for _ in range(50)]
                with pytest.raises(StorageUnavailableError, match="memory is full"):
                    await in_batches(queue, tasks)
                counts = await queue.counts()
                found = await queue.list_tasks()
                assert counts["default"] == {TaskStatus.PENDING: len(found)}

    async def test_nobody_there_is_unavailable(self) -> None:
        """Said at once."""
        with pytest.raises(StorageUnavailableError):
            await RedisQueue(port=free_port()).connect()

    async def test_silence_ends_at_the_deadline(self) -> None:
        """A server that accepts and never answers."""
        started = time.monotonic()
        async with proxy(port_of_shared()) as between:
            between.silent = True
            queue = RedisQueue(port=between.port, timeout_seconds=0.2, connect_timeout_seconds=0.3)
            with pytest.raises(StorageUnavailableError):
                await queue.connect()
        assert time.monotonic() - started < 3

    async def test_tls_to_a_plain_port_is_unavailable(self) -> None:
        """Without hanging beyond the connect timeout."""
        queue = RedisQueue(port=port_of_shared(), ssl=True, connect_timeout_seconds=1)
        async with asyncio.timeout(5):
            with pytest.raises(StorageUnavailableError):
                await queue.connect()

    async def test_tls_verifies_the_certificate(self, tmp_path: Path) -> None:
        """A stranger's is refused, a known authority's accepted."""
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        make_certificate(key, certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        async with proxy(port_of_shared(), context) as between:
            url = f"rediss://127.0.0.1:{between.port}"
            with pytest.raises(StorageUnavailableError, match=r"(?i)certificate"):
                await RedisQueue(url, connect_timeout_seconds=2).connect()
            async with RedisQueue(
                url, ssl_ca_certs=str(certificate), namespace=namespace()
            ) as queue:
                assert await queue.counts() == {}

    async def test_a_missing_driver_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At `connect`, not at import."""
        monkeypatch.setitem(sys.modules, "redis.asyncio", None)
        with pytest.raises(ConfigError, match=r"omniq-tasks\[redis\]"):
            await RedisQueue().connect()


async def in_batches(queue: BaseQueue, tasks: list[Task]) -> None:
    for start in range(0, len(tasks), 5):
        await queue.enqueue_many(tasks[start : start + 5])


async def waiting_on(first: asyncio.Task[None], queue: BaseQueue) -> None:
    await first
    while True:
        await queue.wait(["empty"], 60)


def port_of_shared() -> int:
    return int(redis_url().rpartition(":")[2].partition("/")[0])


def make_certificate(key: Path, certificate: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


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
        with running(tmp_path, "--appendfsync", "always") as server:
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
        with running(tmp_path) as server:
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


class TestKeys:
    """What is left on the server, and for how long."""

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
        assert kinds <= {"result", "results", "events", "wake", "inbox"}

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

        assert 90_000 < left[backend.server.key("result", "a")] <= 151_000
        assert left[backend.server.key("result", "b")] == -1
        assert left[backend.server.key("results")] == -1

    async def test_what_the_server_expired_leaves_the_index(self, backend: RedisBackend) -> None:
        """The next write or purge forgets it, so that the index never outgrows the results."""
        results = backend.get_result_storage()
        past = utcnow() - timedelta(hours=1)
        await results.set_many([TaskResult(task_id=f"r{n}", expires_at=past) for n in range(10)])
        for n in range(10):
            await backend.server.call("DEL", backend.server.key("result", f"r{n}"))

        await results.set_many([TaskResult(task_id=f"s{n}") for n in range(5)])

        assert await backend.server.call("ZCARD", backend.server.key("results")) == 5

    async def test_a_vanished_record_does_not_stop_the_queue(self, backend: RedisBackend) -> None:
        """On a server that evicts, a task may be gone from under its index."""
        queue = backend.get_task_queue()
        await queue.enqueue_many([task(id="a"), task(id="b"), task(id="c")])
        await backend.server.call("DEL", backend.server.key("t", "a"))
        await backend.server.call("DEL", backend.server.key("p", "b"))

        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=9)

        assert [one.id for one in claimed] == ["b", "c"]
        assert "omniq.damaged" in claimed[0].metadata


class TestDurability:
    """Levels beyond what the server is set to."""

    async def test_fsync_needs_an_append_only_file(self, tmp_path: Path) -> None:
        """Said at connect, not at the first write."""
        with (
            running(tmp_path, "--appendonly", "no") as server,
            pytest.raises(StorageError, match="appendonly"),
        ):
            await RedisQueue(server.url, durability="fsync").connect()

    async def test_replica_needs_a_replica(self, tmp_path: Path) -> None:
        """With one it confirms each write; without it the write is refused as unconfirmed."""
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        with running(tmp_path / "one", "--repl-diskless-sync-delay", "0") as primary:
            with pytest.raises(StorageError, match="needs a connected replica"):
                await RedisQueue(primary.url, durability="replica").connect()
            replica = start_redis(tmp_path / "two", "--replicaof", f"127.0.0.1 {port_of(primary)}")
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
        with running(tmp_path / "primary") as primary:
            port = free_port()
            settings = tmp_path / "sentinel.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
                f"sentinel monitor main 127.0.0.1 {port_of(primary)} 1\n"
            )
            command = [redis_program(), str(settings), "--sentinel"]
            sentinel = Server("sentinel", command, "", probe_of(port), tmp_path)
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


def probe_of(port: int) -> Any:
    from tests.servers.process import answers

    return lambda: answers(port, b"PING\r\n", b"+PONG")
