"""Queues, on every store."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from omniq.datastore import DataStore, Delivery
from omniq.exceptions import (
    SerializationError,
    StorageUnavailableError,
    SyncInAsyncError,
    ValidationError,
)
from omniq.testing.waiting import wait_until
from tests.datastore.conftest import settled
from tests.servers.redis import namespace


@pytest.fixture
async def other(kind: str, url: str, store: DataStore) -> AsyncIterator[DataStore]:
    """Another handle on the same store; in memory there is only one."""
    if kind == "memory":
        yield store
        return
    async with DataStore(url=url, prefix=_prefix(store)) as other:
        yield other


def _prefix(store: DataStore) -> str:
    return store.queue.prefix


async def _popping(store: DataStore, name: str, timeout: Any = None) -> asyncio.Task[Any]:
    """Start a pop, and return when it waits."""
    task = asyncio.create_task(store.queue.pop(name, timeout=timeout))
    await settled(store)
    return task


class TestOrder:
    """First in, first out."""

    async def test_items_come_out_in_the_order_they_went_in(self, store: DataStore) -> None:
        """Whether pushed one by one or many at once."""
        await store.queue.push("q", {"n": 0})
        await store.queue.push_many("q", ({"n": n} for n in range(1, 4)))
        await store.queue.push("q", {"n": 4})

        assert await store.queue.length("q") == 5
        assert [(await store.queue.pop("q", timeout=1))["n"] for _ in range(5)] == list(range(5))
        assert await store.queue.length("q") == 0

    async def test_many_thousands_are_pushed_at_once(self, store: DataStore) -> None:
        """More than fit into one command."""
        await store.queue.push_many("q", range(10_005))

        assert await store.queue.length("q") == 10_005
        assert [await store.queue.pop_nowait("q") for _ in range(3)] == [0, 1, 2]
        assert await store.queue.clear("q") == 10_002

    async def test_queues_do_not_mix(self, store: DataStore) -> None:
        """Neither with each other nor with the cache."""
        await store.queue.push("a", 1)
        await store.queue.push("b", 2)
        await store.cache.set("a", 3)

        assert await store.queue.clear("a") == 1
        assert await store.queue.pop_nowait("a") is None
        assert await store.queue.pop_nowait("b") == 2
        assert await store.cache.get("a") == 3

    async def test_names_may_be_odd(self, store: DataStore) -> None:
        """Names are made of user input."""
        names = ["queue_node_5_node_8", "a:b", "ä ö", "line\nbreak", "{x}", "*", "'; --"]
        for name in names:
            await store.queue.push(name, name)

        for name in names:
            assert await store.queue.pop(name, timeout=1) == name

    async def test_pop_any_serves_the_first_queue_that_has_one(self, store: DataStore) -> None:
        """In the order the names are given."""
        await store.queue.push("b", 1)
        await store.queue.push("a", 2)

        assert await store.queue.pop_any(["a", "b"], timeout=1) == ("a", 2)
        assert await store.queue.pop_any(["a", "b"], timeout=1) == ("b", 1)
        assert await store.queue.pop_any(["a", "b"], timeout=0.01) is None

    async def test_nothing_pushed_is_nothing_stored(self, store: DataStore) -> None:
        """An empty batch is not an error."""
        await store.queue.push_many("q", [])

        assert await store.queue.length("q") == 0


class TestWaiting:
    """A pop waits as long as it is told, and no longer."""

    @pytest.mark.parametrize(
        "timeout", [0.05, timedelta(milliseconds=50)], ids=["number", "timedelta"]
    )
    async def test_an_empty_queue_returns_none_after_the_timeout(
        self, store: DataStore, timeout: float | timedelta
    ) -> None:
        """Fractions of a second count."""
        began = time.monotonic()

        assert await store.queue.pop("q", timeout=timeout) is None

        assert 0.04 <= time.monotonic() - began < 2

    @pytest.mark.parametrize("timeout", [None, 0, timedelta(0)], ids=["none", "zero", "timedelta"])
    async def test_none_and_zero_wait_for_ever(
        self, store: DataStore, other: DataStore, timeout: Any
    ) -> None:
        """As BRPOP understands 0."""
        popping = await _popping(store, "q", timeout=timeout)
        assert not popping.done()

        await other.queue.push("q", {"a": 1})

        assert await popping == {"a": 1}

    async def test_pop_any_is_woken_by_any_of_its_queues(
        self, store: DataStore, other: DataStore
    ) -> None:
        """Not by the first alone."""
        popping = asyncio.create_task(store.queue.pop_any(["a", "b", "c"]))
        await settled(store)

        await other.queue.push("b", 5)

        assert await popping == ("b", 5)

    async def test_each_item_wakes_one_of_many(self, store: DataStore, other: DataStore) -> None:
        """Nobody gets what somebody else got, and nobody is forgotten."""
        popping = [await _popping(store, "q") for _ in range(20)]

        await other.queue.push_many("q", range(12))
        for n in range(12, 20):
            await other.queue.push("q", n)

        assert sorted(await asyncio.gather(*popping)) == list(range(20))

    async def test_waiting_pops_stall_nothing_else(self, store: DataStore) -> None:
        """More of them than the pool has connections."""
        popping = [await _popping(store, "never") for _ in range(25)]

        began = time.monotonic()
        await store.queue.push("q", 1)
        await store.cache.set("k", 2)
        assert (await store.queue.pop("q", timeout=1), await store.cache.get("k")) == (1, 2)
        assert time.monotonic() - began < 2

        for one in popping:
            one.cancel()
        await asyncio.gather(*popping, return_exceptions=True)

    async def test_closing_ends_what_waits(self, store: DataStore) -> None:
        """Instead of opening the store again behind the back of its owner."""
        popping = await _popping(store, "q")
        leasing = asyncio.create_task(store.queue.receive("q"))
        await settled(store)

        await store.close()

        for waiting in (popping, leasing):
            with pytest.raises(StorageUnavailableError, match="closed"):
                await waiting


class TestCancelling:
    """A cancelled pop loses nothing."""

    async def test_a_cancelled_pop_takes_nothing(self, store: DataStore) -> None:
        """Its place is free at once for the next."""
        popping = await _popping(store, "q")
        popping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await popping

        await store.queue.push("q", 1)

        assert await store.queue.pop("q", timeout=1) == 1

    @pytest.mark.parametrize("method", ["pop", "pop_nowait", "receive"])
    async def test_no_item_is_lost_however_late_the_cancellation(
        self, store: DataStore, method: str
    ) -> None:
        """Cancelled at every step of the way: before, while and after the item is on its way."""
        for steps in range(40):
            taking = asyncio.create_task(getattr(store.queue, method)("q"))
            pushing = asyncio.create_task(store.queue.push("q", steps))
            for _ in range(steps):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait([taking, pushing])

            found = None if taking.cancelled() else taking.result()
            if isinstance(found, Delivery):
                assert await found.acknowledge()
                found = found.data
            assert found == steps or await store.queue.pop_nowait("q") == steps
            assert await store.queue.length("q") == 0

    async def test_a_cancelled_pop_leaves_the_order(self, store: DataStore) -> None:
        """What was taken goes back to the front."""
        for steps in range(30):
            await store.queue.push_many("q", [1, 2, 3])
            popping = asyncio.create_task(store.queue.pop("q"))
            for _ in range(steps):
                await asyncio.sleep(0)
            popping.cancel()
            await asyncio.wait([popping])

            taken = [] if popping.cancelled() else [popping.result()]
            taken += [await store.queue.pop_nowait("q") for _ in range(3 - len(taken))]
            assert taken == [1, 2, 3]

    async def test_cancelled_again_and_again_by_many(self, store: DataStore) -> None:
        """Cancelling what is being cancelled, and scopes of anyio that never stop cancelling."""
        count = 25
        found: list[int] = []
        poppers = [asyncio.create_task(_pop_fitfully(store, found, n)) for n in range(6)]

        for number in range(count):
            await store.queue.push("q", number)
        await wait_until(lambda: len(found) >= count, description="all items came")

        for popper in poppers:
            popper.cancel()
        await asyncio.wait(poppers)
        assert await store.queue.length("q") == 0
        assert sorted(found) == list(range(count))

    async def test_a_deadline_around_a_pop_loses_nothing(self, store: DataStore) -> None:
        """`asyncio.timeout` cancels, too."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.queue.pop("q")

        await store.queue.push("q", 1)

        assert await store.queue.pop_nowait("q") == 1

    def test_a_loop_that_ends_loses_nothing(self, kind: str, url: str) -> None:
        """`asyncio.run` cancels all that still runs."""
        store = DataStore(url=url, prefix=f"{namespace()}:")

        async def run(steps: int) -> asyncio.Task[Any]:
            popping = asyncio.create_task(store.queue.pop("q"))
            pushing = asyncio.create_task(store.queue.push("q", steps))
            for _ in range(steps):
                await asyncio.sleep(0)
            await pushing
            return popping

        ended = [asyncio.run(run(steps)) for steps in range(12)]

        popped = [popping.result() for popping in ended if not popping.cancelled()]
        left = [store.queue.pop_nowait_sync("q") for _ in range(12 - len(popped))]
        assert sorted(popped + left) == list(range(12))
        store.close_sync()


async def _pop_fitfully(store: DataStore, found: list[int], patience: int) -> None:
    """Pop, giving up after ever other times, in both ways there are."""
    while True:
        with anyio.move_on_after(0.001 * patience):
            found.append(await store.queue.pop("q"))
        popping = asyncio.create_task(store.queue.pop("q"))
        for _ in range(patience):
            await asyncio.sleep(0)
        for _ in range(3):
            popping.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([popping])
        if not popping.cancelled():
            found.append(popping.result())
        await store.queue.length("q")


class TestBadInput:
    """Refused with one clear error, before anything is stored or sent."""

    @pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, math.inf, "5", True])
    async def test_bad_timeouts(self, store: DataStore, timeout: Any) -> None:
        """A negative one above all."""
        for method in (store.queue.pop, store.queue.receive):
            with pytest.raises(ValidationError, match="timeout"):
                await method("q", timeout=timeout)

    @pytest.mark.parametrize("name", ["", 5, None, "x" * 1001, "\ud800"], ids=range(5))
    async def test_bad_names(self, store: DataStore, name: Any) -> None:
        """Of every method."""
        queue = store.queue
        calls = (queue.pop, queue.pop_nowait, queue.receive, queue.length, queue.clear)
        for call in calls:
            with pytest.raises(ValidationError, match="queue_name"):
                await call(name)
        with pytest.raises(ValidationError, match="queue_name"):
            await queue.push(name, 1)

    @pytest.mark.parametrize("names", [[], "abc", ["a", ""]], ids=range(3))
    async def test_bad_lists_of_names(self, store: DataStore, names: Any) -> None:
        """A string is a list of letters only by accident."""
        with pytest.raises(ValidationError, match="queue_names"):
            await store.queue.pop_any(names, timeout=1)

    @pytest.mark.parametrize("items", ["abc", b"abc", {"a": 1}, None, 5], ids=repr)
    async def test_what_is_not_several_items_is_refused(self, store: DataStore, items: Any) -> None:
        """One text would be pushed letter by letter, and of a dict only its keys."""
        with pytest.raises(ValidationError, match="items: expected several items, got"):
            await store.queue.push_many("q", items)

        assert await store.queue.length("q") == 0

    async def test_what_is_not_json_is_refused_as_a_whole(self, store: DataStore) -> None:
        """One bad item and none of the batch is stored."""
        with pytest.raises(SerializationError):
            await store.queue.push("q", object())
        with pytest.raises(SerializationError):
            await store.queue.push_many("q", [1, 2, object()])

        assert await store.queue.length("q") == 0


class TestLoopsAndThreads:
    """One object for all loops and threads."""

    async def test_items_travel_between_loops(self, store: DataStore) -> None:
        """A pop in one thread's loop is woken by a push in another's."""
        popping = await _popping(store, "q")
        pushing = threading.Thread(target=lambda: asyncio.run(store.queue.push("q", [1])))
        pushing.start()

        assert await popping == [1]
        await wait_until(lambda: not pushing.is_alive(), description="the thread ended")

    def test_every_method_has_a_twin(self, url: str) -> None:
        """For programs without a loop."""
        with DataStore(url=url, prefix=f"{namespace()}:") as store:
            queue = store.queue
            queue.push_sync("q", 1)
            queue.push_many_sync("q", [2, 3, 4, 5])
            assert queue.length_sync("q") == 5
            assert queue.pop_sync("q", timeout=1) == 1
            assert queue.pop_any_sync(["q"], timeout=1) == ("q", 2)
            assert queue.pop_nowait_sync("q") == 3
            delivery = queue.receive_sync("q")
            assert delivery is not None
            with delivery:
                assert delivery.data == 4
                assert delivery.extend_sync(5)
            assert queue.clear_sync("q") == 1

    async def test_a_twin_is_refused_in_a_loop(self, store: DataStore) -> None:
        """It would block it."""
        with pytest.raises(SyncInAsyncError, match=r"await QueueStore\.push"):
            store.queue.push_sync("q", 1)
