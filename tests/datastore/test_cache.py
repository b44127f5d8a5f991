"""The cache, on every store."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any, cast

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import SerializationError, SyncInAsyncError, ValidationError
from omniq.testing.waiting import wait_until
from tests.servers.redis import namespace


async def test_values_are_kept_replaced_and_forgotten(store: DataStore) -> None:
    """The whole life of a key."""
    cache = store.cache
    assert await cache.get("k") is None
    assert not await cache.exists("k")

    await cache.set("k", {"data": 123})
    assert await cache.get("k") == {"data": 123}
    await cache.set("k", [1, "two", 3.5, None, True])
    assert await cache.get("k") == [1, "two", 3.5, None, True]
    assert await cache.exists("k")

    assert await cache.delete("k")
    assert not await cache.delete("k")
    assert await cache.get("k") is None


@pytest.mark.parametrize("ttl", [0.05, timedelta(milliseconds=50)], ids=["number", "timedelta"])
async def test_a_value_is_gone_after_its_ttl(store: DataStore, ttl: Any) -> None:
    """Fractions of a second count; absent means absent to every method."""
    await store.cache.set("short", 1, ttl=ttl)
    await store.cache.set("long", 2, ttl=3600)
    await store.cache.set("kept", 3)

    async def is_gone() -> bool:
        return await store.cache.get("short") is None

    await wait_until(is_gone, description="the value expired")
    assert not await store.cache.exists("short")
    assert not await store.cache.delete("short")
    assert await store.cache.get_many(["short", "long", "kept"]) == {"long": 2, "kept": 3}


async def test_setting_again_without_ttl_keeps_for_good(store: DataStore) -> None:
    """As SET does."""
    await store.cache.set("k", 1, ttl=0.05)
    await store.cache.set("k", 2)
    await store.cache.set("marker", 1, ttl=0.06)

    async def marker_is_gone() -> bool:
        return not await store.cache.exists("marker")

    await wait_until(marker_is_gone, description="a later value expired")
    assert await store.cache.get("k") == 2


async def test_many_are_set_and_got_at_once(store: DataStore) -> None:
    """Missing keys are left out; the empty batch is no error."""
    values = {f"node_{n}_output": {"n": n} for n in range(50)}

    await store.cache.set_many(values)
    await store.cache.set_many({"a": 1, "b": 2}, ttl=timedelta(hours=1))
    await store.cache.set_many({})

    assert await store.cache.get_many([*values, "missing"]) == values
    assert await store.cache.get_many(iter(["a", "b"])) == {"a": 1, "b": 2}
    assert await store.cache.get_many([]) == {}


async def test_prefixes_do_not_mix(store: DataStore, url: str) -> None:
    """So that applications can share a server or a file."""
    await store.cache.set("k", 1)

    async with DataStore(url=url, prefix=f"{namespace()}:") as other:
        assert await other.cache.get("k") is None
        assert await other.queue.length("k") == 0


@pytest.mark.parametrize("ttl", [0, -1, 0.0, timedelta(0), math.nan, "1", True], ids=range(7))
async def test_bad_ttls_are_refused(store: DataStore, ttl: Any) -> None:
    """Zero above all: neither for ever nor gone at once is what was meant."""
    with pytest.raises(ValidationError, match="ttl"):
        await store.cache.set("k", 1, ttl=ttl)
    with pytest.raises(ValidationError, match="ttl"):
        await store.cache.set_many({"k": 1}, ttl=ttl)

    assert await store.cache.get("k") is None


async def test_bad_keys_and_values_are_refused(store: DataStore) -> None:
    """As a whole, before anything is stored."""
    bad: Any = 5
    for call in (store.cache.get, store.cache.delete, store.cache.exists):
        for key in ("", bad):
            with pytest.raises(ValidationError, match="key"):
                await call(key)
    with pytest.raises(ValidationError, match="keys"):
        await store.cache.get_many("abc")
    with pytest.raises(ValidationError, match="values: expected a dict, got list"):
        await store.cache.set_many(cast("Any", [("good", 1)]))
    with pytest.raises(SerializationError):
        await store.cache.set_many({"good": 1, "bad": object()})

    assert await store.cache.get("good") is None


async def test_many_tasks_share_one_store(store: DataStore) -> None:
    """More calls at once than the pool has connections."""
    await asyncio.gather(*(store.cache.set(f"k{n}", n) for n in range(100)))

    found = await asyncio.gather(*(store.cache.get(f"k{n}") for n in range(100)))

    assert found == list(range(100))


def test_every_method_has_a_twin(url: str) -> None:
    """For programs without a loop."""
    with DataStore(url=url, prefix=f"{namespace()}:") as store:
        cache = store.cache
        cache.set_sync("a", 1, ttl=60)
        cache.set_many_sync({"b": 2})
        assert cache.get_sync("a") == 1
        assert cache.get_many_sync(["a", "b"]) == {"a": 1, "b": 2}
        assert cache.exists_sync("a")
        assert cache.delete_sync("a")


async def test_a_twin_is_refused_in_a_loop(store: DataStore) -> None:
    """It would block it."""
    with pytest.raises(SyncInAsyncError, match=r"await CacheStore\.get"):
        store.cache.get_sync("k")
