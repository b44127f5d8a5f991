"""Specification 004, the storage system: every example, table row and diagram, on a server."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from omniq import datastore
from omniq.datastore import CacheStore, DataStore, QueueStore, RedisConnection
from omniq.exceptions import SerializationError, StorageUnavailableError
from omniq.flow import FlowEngine
from omniq.testing.waiting import wait_until
from tests.docs.spec_004 import (
    EXAMPLES,
    PAGE,
    PLACE,
    PREFIX,
    blocks,
    commands_of,
    execute,
    raw_client,
    their_stores,
)
from tests.flow.collecting import Collector
from tests.flow.documents import flow
from tests.servers.process import free_port


@pytest.fixture
async def raw() -> AsyncIterator[Any]:
    """A client of the driver, on a server with nothing under our prefix."""
    async with raw_client() as client:
        for key in await client.keys(f"{PREFIX}*"):
            await client.delete(key)
        yield client


@pytest.fixture
async def store(raw: Any) -> AsyncIterator[DataStore]:
    """A store with a prefix of our own, which the specification leaves open."""
    async with DataStore(str(PLACE.hostname), PLACE.port or 0, prefix=PREFIX) as store:
        yield store


class TestExamples:
    """Each block of code, as written."""

    def test_reader_finds_them_all(self) -> None:
        """None is left out below."""
        assert list(EXAMPLES) == [
            "DataStore (Facade) / Usage",
            "DataStore (Facade) / Initialization",
            "QueueStore / Implementation Example",
            "CacheStore / Implementation Example",
            "RedisConnection / Implementation",
            "Serialization / Serialization Utilities",
        ]
        assert len(EXAMPLES) == PAGE.read_text().count("```python\n")

    async def test_usage(self, raw: Any) -> None:
        """Only the port is ours: the server of the tests is private."""
        made = partial(DataStore, port=PLACE.port or 0)

        names = await execute(EXAMPLES["DataStore (Facade) / Usage"], {"DataStore": made})

        assert names["item"] == {"key": "value"}
        assert names["length"] == 0
        assert names["value"] == {"data": 123}
        assert names["exists"] is False
        await names["data_store"].close()

    async def test_initialization(self) -> None:
        """All five arguments by name; nothing is opened."""
        names = {"DataStore": DataStore}

        await execute(EXAMPLES["DataStore (Facade) / Initialization"], names)

        assert isinstance(names["data_store"], DataStore)

    async def test_serialization(self) -> None:
        """Its functions and ours read each other's text."""
        code = EXAMPLES["Serialization / Serialization Utilities"]
        theirs = await execute(code, {"json": json, "Dict": dict})
        data: Any = {"s": "ü", "i": 1, "f": 1.5, "b": True, "l": [1, None], "d": {"x": {}}}

        assert datastore.deserialize(theirs["serialize"](data)) == data
        assert theirs["deserialize"](datastore.serialize(data)) == data

    async def test_implementations_work_with_ours(self, store: DataStore, raw: Any) -> None:
        """Its three classes, put together from its code, share queues and cache with ours."""
        their_queue, their_cache, connection = await their_stores()

        await their_queue.push("jobs", {"by": "them"})
        await store.queue.push("jobs", {"by": "us"})
        assert await store.queue.pop("jobs", timeout=5) == {"by": "them"}
        assert await their_queue.pop("jobs", timeout=5) == {"by": "us"}
        assert await their_queue.pop("jobs", timeout=0.01) is None

        await their_cache.set("kept", {"by": "them"})
        await their_cache.set("passing", {"by": "them"}, ttl=60)
        assert await store.cache.get("kept") == await store.cache.get("passing") == {"by": "them"}
        assert 0 < await raw.ttl(f"{PREFIX}cache:passing") <= 60
        await store.cache.set("kept", {"by": "us"}, ttl=60)
        assert await their_cache.get("kept") == {"by": "us"}
        assert await their_cache.get("nothing") is None
        await connection.close()
        assert connection._connection is None


class TestTables:
    """Each row of the tables of operations: the command, and what it is said to do."""

    async def test_push_is_lpush(self, store: DataStore, raw: Any) -> None:
        """Left push, under the specified key, as JSON."""
        assert await commands_of(raw, store.queue.push("q", {"n": 1})) == {"LPUSH"}

        await store.queue.push("q", {"n": 2})
        texts = await raw.lrange(f"{PREFIX}queue:q", 0, -1)
        assert [json.loads(text) for text in texts] == [{"n": 2}, {"n": 1}]

    async def test_pop_is_a_brpop_with_a_timeout(self, store: DataStore, raw: Any) -> None:
        """Right pop: first in, first out; None when the time is over."""
        for n in (1, 2):
            await store.queue.push("q", {"n": n})

        assert await commands_of(raw, store.queue.pop("q", timeout=5)) == {"BRPOP"}
        assert await store.queue.pop("q", timeout=5) == {"n": 2}
        assert await store.queue.pop("q", timeout=0.05) is None

    async def test_length_is_llen(self, store: DataStore, raw: Any) -> None:
        """The number of items that wait."""
        await store.queue.push("q", {})

        assert await commands_of(raw, store.queue.length("q")) == {"LLEN"}
        assert await store.queue.length("q") == 1

    async def test_set_is_set_or_setex(self, store: DataStore, raw: Any) -> None:
        """With a ttl, the key ends by itself."""
        assert await commands_of(raw, store.cache.set("k", {"n": 1})) == {"SET"}
        assert await raw.ttl(f"{PREFIX}cache:k") == -1
        assert await commands_of(raw, store.cache.set("k", {"n": 1}, ttl=3600)) == {"SETEX"}
        assert 3590 < await raw.ttl(f"{PREFIX}cache:k") <= 3600

    async def test_get_is_get(self, store: DataStore, raw: Any) -> None:
        """None, if there is nothing."""
        await store.cache.set("k", {"n": 1})

        assert await commands_of(raw, store.cache.get("k")) == {"GET"}
        assert await store.cache.get("k") == {"n": 1}
        assert await store.cache.get("nothing") is None

    async def test_delete_is_del_and_exists_is_exists(self, store: DataStore, raw: Any) -> None:
        """Removes the key; whether it is there."""
        await store.cache.set("k", {"n": 1})

        assert await store.cache.exists("k") is True
        assert await commands_of(raw, store.cache.delete("k")) == {"DEL"}
        assert await commands_of(raw, store.cache.exists("k")) == {"EXISTS"}
        assert await store.cache.exists("k") is False


class TestDiagrams:
    """Each diagram, walked along its arrows."""

    def test_every_diagram_is_walked(self) -> None:
        """A diagram without a test below would be noticed here."""
        walked = {
            "Overview / ": None,
            "Architecture / ": self.test_facade_gives_stores_over_one_connection,
            "Architecture / Component Responsibilities": self.test_classes_have_their_members,
            "QueueStore / Architecture": TestTables.test_pop_is_a_brpop_with_a_timeout,
            "QueueStore / Queue Flow": self.test_queue_flow,
            "CacheStore / Architecture": TestTables.test_set_is_set_or_setex,
            "CacheStore / Cache Flow": self.test_cache_flow,
            "RedisConnection / Architecture": self.test_connection_is_made_once,
            "RedisConnection / Connection Lifecycle": self.test_connection_lifecycle,
            "Cross-Loop Communication / Communication Pattern": self.test_communication_pattern,
            "Development Mode Caching / Caching Flow": self.test_development_caching_flow,
        }
        assert set(blocks("mermaid")) == {place for place, test in walked.items() if test}
        assert len(blocks("mermaid")) == PAGE.read_text().count("```mermaid\n")

    async def test_facade_gives_stores_over_one_connection(
        self, store: DataStore, raw: Any
    ) -> None:
        """DataStore to QueueStore, CacheStore and RedisConnection, and all to one server."""
        assert isinstance(store.queue, QueueStore)
        assert isinstance(store.cache, CacheStore)
        assert isinstance(store.connection, RedisConnection)

        await store.queue.push("q", {})
        await store.cache.set("k", {})

        assert set(await raw.keys(f"{PREFIX}*")) == {f"{PREFIX}queue:q", f"{PREFIX}cache:k"}

    def test_classes_have_their_members(self) -> None:
        """Every public member, with the parameters drawn."""
        drawn: dict[Any, dict[str, list[str]]] = {
            QueueStore: {
                "push": ["queue_name", "data"],
                "pop": ["queue_name", "timeout"],
                "length": ["queue_name"],
            },
            CacheStore: {
                "set": ["key", "value", "ttl"],
                "get": ["key"],
                "delete": ["key"],
                "exists": ["key"],
            },
            RedisConnection: {"ensure_connection": [], "close": []},
            DataStore: {"close": []},
        }
        for kind, methods in drawn.items():
            for name, parameters in methods.items():
                method = getattr(kind, name)
                assert inspect.iscoroutinefunction(method)
                assert list(inspect.signature(method).parameters)[1:] == parameters
        assert all(
            isinstance(vars(DataStore)[n], property) for n in ("queue", "cache", "connection")
        )

    async def test_queue_flow(self, store: DataStore, raw: Any) -> None:
        """QueueWriter, push, LPUSH; QueueReader, BRPOP, data; and a time-out gives None."""
        collector = Collector()
        nodes = {
            "p": ("numbers", {"count": 1, "first": 7}),
            "writer": ("QueueWriter", {"queue_name": "queue_name"}),
            "reader": ("QueueReader", {"queue_name": "queue_name"}),
            "k": "keep",
        }
        engine = FlowEngine(flow(nodes, "p -> writer", "reader -> k"), collector.types, store)

        await engine.run_loop("p")
        pushed = await raw.lrange(f"{PREFIX}queue:queue_name", 0, -1)
        await engine.run_loop("reader")

        assert json.loads(pushed[-1]) == {"n": 7}
        assert collector.numbers() == [7]
        assert await store.queue.pop("queue_name", timeout=0.05) is None

    async def test_cache_flow(self, store: DataStore, raw: Any) -> None:
        """FlowEngine to CacheStore to Redis and back, then the node runs on the cached data."""
        await store.cache.set("node_1_output", {"n": 4}, ttl=3600)
        assert json.loads(await raw.get(f"{PREFIX}cache:node_1_output")) == {"n": 4}
        assert await raw.ttl(f"{PREFIX}cache:node_1_output") > 3590

        output = await two_nodes(store).run_development_node("node_2")

        assert output.data == {"n": 8}

    async def test_connection_is_made_once(self, raw: Any) -> None:
        """No: create and keep; yes: return the existing one; also when many ask at once."""
        connection = RedisConnection(port=PLACE.port or 0)

        made = await asyncio.gather(*(connection.ensure_connection() for _ in range(20)))

        assert all(one is made[0] for one in made)
        assert await connection.ensure_connection() is made[0]
        await connection.close()

    async def test_connection_lifecycle(self, raw: Any) -> None:
        """Uninitialized, connecting, connected, using, closing; and open again by the next use."""
        before = int((await raw.info("clients"))["connected_clients"])
        store = DataStore(port=PLACE.port or 0, prefix=PREFIX)

        async def clients() -> int:
            return int((await raw.info("clients"))["connected_clients"]) - before

        assert await clients() == 0
        await store.connection.ensure_connection()
        assert await clients() == 1
        for n in range(3):
            await store.cache.set("k", {"n": n})
        assert await clients() == 1
        await store.close()
        await wait_until(lambda: gone(clients), description="the connection is closed")
        assert await store.cache.get("k") == {"n": 2}
        await store.close()

    async def test_communication_pattern(self, store: DataStore, raw: Any) -> None:
        """Loop 1, QueueWriter, push, Redis, pop, QueueReader, Loop 2, under the specified name."""
        collector = Collector()
        nodes = {
            "node_1": ("numbers", {"count": 3}),
            "node_5": "QueueWriter",
            "node_8": "QueueReader",
            "node_9": "keep",
        }
        edges = ["node_1 -> node_5", "node_5 -> node_8", "node_8 -> node_9"]
        engine = FlowEngine(flow(nodes, *edges), collector.types, store)
        assert list(engine.plan.loops) == ["node_1", "node_8"]

        await engine.run_loop("node_1")
        assert await raw.llen(f"{PREFIX}queue:queue_node_5_node_8") == 3 + 1  # and the stop signal
        await engine.run_loop("node_8")

        assert collector.numbers() == [0, 1, 2]
        assert await raw.keys(f"{PREFIX}*") == []

    async def test_development_caching_flow(self, store: DataStore, raw: Any) -> None:
        """get("node_1_output"), execute, set("node_2_output"), result to the developer."""
        await store.cache.set("node_1_output", {"n": 21})

        result = await two_nodes(store).run_development_node("node_2")

        assert (result.node_id, result.data) == ("node_2", {"n": 42})
        assert json.loads(await raw.get(f"{PREFIX}cache:node_2_output")) == {"n": 42}


async def gone(clients: Any) -> bool:
    """Whether none is connected any more."""
    return bool(await clients() == 0)


def two_nodes(store: DataStore) -> FlowEngine:
    """Return a flow of a producer and a node that doubles."""
    nodes = {"node_1": ("numbers", {"count": 1}), "node_2": "double"}
    return FlowEngine(flow(nodes, "node_1 -> node_2"), Collector().types, store)


class TestErrors:
    """Each line of "Error Handling"."""

    async def test_connection_failure_raises(self) -> None:
        """Trying again is the application's choice."""
        store = DataStore(port=free_port())

        with pytest.raises(StorageUnavailableError):
            await store.queue.push("q", {})
        await store.close()

    async def test_what_is_not_json_raises_and_is_not_sent(
        self, store: DataStore, raw: Any
    ) -> None:
        """In both stores."""
        for call in (store.queue.push("q", {"x": object()}), store.cache.set("k", {"x": {1}})):
            with pytest.raises(SerializationError):
                await call

        assert await raw.keys(f"{PREFIX}*") == []

    async def test_expired_key_is_none(self, store: DataStore) -> None:
        """As if it had never been there."""
        await store.cache.set("k", {"n": 1}, ttl=0.05)

        async def is_gone() -> bool:
            return await store.cache.get("k") is None

        await wait_until(is_gone, description="the key has expired")
        assert await store.cache.exists("k") is False

    async def test_many_processes_may_share_a_queue(self, store: DataStore) -> None:
        """Several handles on one queue: each item is popped once, whoever asks."""
        async with DataStore(str(PLACE.hostname), PLACE.port or 0, prefix=PREFIX) as other:
            for n in range(50):
                await (store if n % 2 else other).queue.push("q", {"n": n})

            pops = [one.queue.pop("q", timeout=5) for one in (store, other) * 25]
            found = await asyncio.gather(*pops)

        assert sorted(item["n"] for item in found) == list(range(50))
