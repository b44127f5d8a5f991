"""What is particular to Redis: its keys and commands, its absence, its passwords."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from omniq.datastore import DataStore, RedisConnection, serialize
from omniq.exceptions import ConfigError, SerializationError, StorageError, StorageUnavailableError
from omniq.testing.waiting import wait_until
from tests.servers.process import free_port
from tests.servers.redis import namespace, port_of, redis_url, running_redis


@pytest.fixture
async def store() -> AsyncIterator[DataStore]:
    async with DataStore(url=redis_url(), prefix=f"{namespace()}:") as store:
        yield store


@pytest.fixture
async def raw() -> AsyncIterator[Any]:
    client = _client(redis_url())
    async with client:
        yield client


class TestWire:
    """Other programs may use the same keys with the plain commands."""

    async def test_queues_are_lists(self, store: DataStore, raw: Any) -> None:
        """LPUSH, BRPOP, LLEN on ``{prefix}queue:{name}``, the items plain JSON."""
        key = f"{store.queue.prefix}queue:a"
        await store.queue.push_many("a", [{"x": 1}, {"x": 2}])

        assert await raw.llen(key) == 2
        assert await raw.brpop([key], 1) == (key.encode(), json.dumps({"x": 1}).encode())
        await raw.lpush(key, json.dumps({"x": 3}))
        assert await store.queue.length("a") == 2
        assert [await store.queue.pop("a", timeout=1) for _ in range(2)] == [{"x": 2}, {"x": 3}]

    async def test_cached_values_are_strings(self, store: DataStore, raw: Any) -> None:
        """SET and SETEX on ``{prefix}cache:{key}``."""
        key = f"{store.cache.prefix}cache:a"
        await store.cache.set("a", {"x": 1}, ttl=3600)

        assert await raw.get(key) == serialize({"x": 1}).encode()
        assert 3500 < await raw.ttl(key) <= 3600
        await raw.set(key, "[1]")
        assert await store.cache.get("a") == [1]

    async def test_commands_are_those_of_the_specification(
        self, store: DataStore, raw: Any
    ) -> None:
        """Each row of its tables, as the server sees it."""
        prefix = store.queue.prefix
        marker = f"{prefix}end"
        async with raw.monitor() as monitor:
            await store.queue.push("q", 1)
            await store.queue.pop("q", timeout=5)
            await store.queue.length("q")
            await store.cache.set("k", 1)
            await store.cache.set("k", 1, ttl=3600)
            await store.cache.get("k")
            await store.cache.exists("k")
            await store.cache.delete("k")
            await raw.get(marker)
            seen: list[list[str]] = []
            while not seen or marker not in seen[-1]:
                words = (await monitor.next_command())["command"].split(" ")
                seen += [words] if any(word.startswith(prefix) for word in words) else []

        queue, cache = f"{prefix}queue:q", f"{prefix}cache:k"
        assert [words[0] for words in seen[:-1]] == [
            *("LPUSH", "BRPOP", "LLEN"),
            *("SET", "SETEX", "GET", "EXISTS", "DEL"),
        ]
        assert [words[1] for words in seen[:-1]] == [queue] * 3 + [cache] * 5

    async def test_nothing_is_left_behind(self, store: DataStore, raw: Any) -> None:
        """Emptied queues, acknowledged and cleared items, deleted values leave no key."""
        await store.queue.push_many("q", [1, 2, 3])
        for _ in range(2):
            async with await store.queue.receive("q", timeout=1) or pytest.fail("no item"):
                pass
        await store.queue.receive("q", timeout=1)
        await store.queue.clear("q")
        await store.cache.set("k", 1)
        await store.cache.delete("k")

        assert [key async for key in raw.scan_iter(f"{store.queue.prefix}*")] == []

    async def test_foreign_items_that_are_no_json_are_one_clear_error(
        self, store: DataStore, raw: Any
    ) -> None:
        """And do not block the queue."""
        await raw.lpush(f"{store.queue.prefix}queue:q", "{broken", "{broken", "1")

        with pytest.raises(SerializationError, match="not JSON"):
            await store.queue.pop("q", timeout=1)
        with pytest.raises(SerializationError, match="not JSON"):
            await store.queue.receive("q", timeout=1)
        assert await store.queue.pop("q", timeout=1) == 1

    async def test_a_key_of_another_type_is_one_clear_error(
        self, store: DataStore, raw: Any
    ) -> None:
        """The connection stays usable."""
        await raw.set(f"{store.queue.prefix}queue:q", "text", ex=60)

        for call in (store.queue.push("q", 1), store.queue.pop("q", timeout=1)):
            with pytest.raises(StorageError, match="wrong kind"):
                await call
        assert await store.queue.length("other") == 0

    async def test_bad_data_causes_no_traffic(self) -> None:
        """It is refused before a connection is even tried."""
        store = DataStore(port=free_port())

        with pytest.raises(SerializationError):
            await store.queue.push("q", object())
        with pytest.raises(SerializationError):
            await store.cache.set("k", {"a": {1}})


class TestConnection:
    """Made late, shared, made again."""

    def test_arguments_of_the_specification(self) -> None:
        """Making a store does no I/O."""
        store = DataStore(host="127.0.0.1", port=6379, db=0, password=None, pool_size=10)

        assert isinstance(store.connection, RedisConnection)
        assert store.queue.prefix == store.cache.prefix == "datastore:"
        assert "secret" not in repr(DataStore(password="secret"))

    async def test_many_may_connect_at_once(self) -> None:
        """All get the same client, within the size of the pool."""
        store = DataStore(url=redis_url(), pool_size=3)
        try:
            found = await asyncio.gather(*(store.connection.ensure_connection() for _ in range(50)))
            assert len({id(client) for client in found}) == 1
            assert await found[0].ping()
        finally:
            await store.close()

    async def test_a_closed_store_opens_again(self, store: DataStore) -> None:
        """Closing twice is no error."""
        await store.queue.push("q", 1)
        await store.close()
        await store.close()

        assert await store.queue.pop("q", timeout=1) == 1

    async def test_a_wrong_password_is_refused(self, tmp_path: Path) -> None:
        """With one clear error that does not show it, by every kind of call."""
        with running_redis(tmp_path, "--requirepass", "right") as server:
            port = port_of(server)
            wrong = DataStore(port=port, password="wrong")
            for call in (wrong.queue.push("q", 1), wrong.queue.pop("q"), wrong.cache.get("k")):
                with pytest.raises(StorageError, match="refused the user name") as caught:
                    await call
                assert "wrong" not in str(caught.value)
            async with DataStore(port=port, password="right") as right:
                await right.queue.push("q", 1)

    async def test_a_server_that_is_not_there_is_an_error_at_once(self) -> None:
        """A pop waits for items, not for a server it never reached."""
        store = DataStore(port=free_port())
        for call in (store.queue.push("q", 1), store.queue.pop("q"), store.queue.receive("q")):
            with pytest.raises(StorageUnavailableError):
                await call

    @pytest.mark.parametrize(
        "options",
        [
            {"url": "redis://127.0.0.1/0", "port": 1},
            {"url": "redis+cluster://127.0.0.1:7000"},
            {"url": "memory://", "password": "x"},
            {"url": "memory://somewhere"},
            {"url": "sqlite://"},
            {"url": "postgresql://127.0.0.1/x"},
            {"url": "nonsense"},
            {"port": 0},
            {"db": -1},
            {"pool_size": 0},
            {"prefix": 5},
            {"host": "redis://127.0.0.1/0"},
            {"host": ""},
            {"host": 5},
        ],
        ids=range(14),
    )
    def test_bad_options_are_refused(self, options: Any) -> None:
        """When the store is made."""
        with pytest.raises(ConfigError):
            DataStore(**options)


class TestOutage:
    """The server goes away and comes back."""

    async def test_waiting_pops_resume(self, tmp_path: Path) -> None:
        """Killed while they wait; after its return they get what is pushed then."""
        with running_redis(tmp_path) as server:
            async with DataStore(url=server.url) as store:
                popping = [asyncio.create_task(store.queue.pop("q")) for _ in range(3)]
                popping += [asyncio.create_task(store.queue.pop("q", timeout=60))]
                receiving = asyncio.create_task(store.queue.receive("r"))
                await _blocked(server.url, 5)
                server.kill()
                server.start()

                await store.queue.push_many("q", [1, 2, 3, 4])
                await store.queue.push("r", 5)

                assert sorted(await asyncio.gather(*popping)) == [1, 2, 3, 4]
                delivery = await receiving
                assert delivery is not None
                assert delivery.data == 5

    async def test_a_receive_resumes_that_had_just_asked(self, tmp_path: Path) -> None:
        """A busy consumer asks, and seldom waits; it goes on as one that waits does."""
        with running_redis(tmp_path, "--appendfsync", "always") as server:
            async with DataStore(url=server.url) as store:
                await store.queue.push("q", 1)
                client = _client(server.url)
                async with client:
                    await client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
                receiving = asyncio.create_task(store.queue.receive("q"))
                await _blocked(server.url, 1)
                server.kill()
                server.start()

                delivery = await receiving

                assert delivery is not None
                assert delivery.data == 1

    async def test_acknowledged_mode_loses_nothing(self, tmp_path: Path) -> None:
        """Killed again and again while consumers work; what it had on disk arrives."""
        with running_redis(tmp_path, "--appendfsync", "always") as server:
            async with DataStore(url=server.url) as store:
                await store.queue.push_many("q", range(200))
                done: set[int] = set()
                consumers = [asyncio.create_task(_consume(store, done)) for _ in range(4)]
                for goal in (20, 60, 100):
                    await wait_until(lambda goal=goal: len(done) >= goal, description="progress")
                    server.kill()
                    server.start()
                await wait_until(lambda: len(done) == 200, description="all items were seen")
                for consumer in consumers:
                    consumer.cancel()
                await asyncio.gather(*consumers, return_exceptions=True)

    async def test_a_lease_whose_answer_got_lost_can_be_asked_for_again(
        self, store: DataStore
    ) -> None:
        """The same receipt brings the same item, not one more that nobody knows of."""
        await store.queue.push_many("q", [1, 2])
        lists = store.connection.lists(store.queue.prefix)

        found = [await lists.lease("q", "receipt", 60, 0) for _ in range(2)]

        assert found == [b"1", b"1"]
        assert await store.queue.length("q") == 1
        assert await lists.settle("q", "receipt", put_back=False)

    async def test_a_pop_gives_up_when_its_time_is_over(self, tmp_path: Path) -> None:
        """It cannot know whether there is an item, so it says that the server is away."""
        with running_redis(tmp_path) as server:
            async with DataStore(url=server.url) as store:
                popping = asyncio.create_task(store.queue.pop("q", timeout=1))
                await _blocked(server.url, 1)
                server.kill()

                with pytest.raises(StorageUnavailableError):
                    await popping


def _client(url: str) -> Any:
    driver: Any = redis.asyncio.Redis
    return driver.from_url(url)


async def _blocked(url: str, count: int) -> None:
    """Return when so many clients of a server wait."""
    client = _client(url)
    async with client:

        async def are_blocked() -> bool:
            return (await client.info("clients"))["blocked_clients"] == count

        await wait_until(are_blocked, description=f"{count} clients wait")


async def _consume(store: DataStore, done: set[int]) -> None:
    while True:
        try:
            delivery = await store.queue.receive("q", lease_seconds=1)
            if delivery is not None:
                done.add(delivery.data)
                await delivery.acknowledge()
        except StorageUnavailableError:
            await asyncio.sleep(0.01)
