"""Items on approval, on every store: none is lost with its consumer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from omniq.datastore import DataStore, Delivery
from omniq.exceptions import ValidationError
from tests.datastore.conftest import settled


async def _receive(store: DataStore, **options: Any) -> Delivery:
    delivery = await store.queue.receive("q", timeout=10, **options)
    assert delivery is not None
    return delivery


async def test_an_acknowledged_item_is_gone(store: DataStore) -> None:
    """And was out of the queue before."""
    await store.queue.push_many("q", [{"n": 1}, {"n": 2}])

    delivery = await _receive(store)

    assert (delivery.data, delivery.queue_name) == ({"n": 1}, "q")
    assert await store.queue.length("q") == 1
    assert await delivery.acknowledge()
    assert not await delivery.acknowledge()
    assert not await delivery.release()
    assert await store.queue.pop_nowait("q") == {"n": 2}


async def test_a_released_item_goes_back_to_the_front(store: DataStore) -> None:
    """Its turn had come."""
    await store.queue.push_many("q", [1, 2])

    assert await (await _receive(store)).release()

    assert [await store.queue.pop_nowait("q") for _ in range(2)] == [1, 2]


async def test_items_of_a_consumer_that_vanished_come_back_in_order(store: DataStore) -> None:
    """Their leases end; who waits is given them without a push."""
    await store.queue.push_many("q", [1, 2, 3])
    lost = [await _receive(store, lease_seconds=0.2) for _ in range(2)]

    found = [await _receive(store)]  # 3 waits still
    found += [await _receive(store) for _ in range(2)]

    assert [one.data for one in found] == [3, 1, 2]
    assert not await lost[0].acknowledge()
    assert await asyncio.gather(*(one.acknowledge() for one in found)) == [True] * 3


async def test_a_lease_can_be_extended(store: DataStore) -> None:
    """By a consumer that needs longer than it thought."""
    await store.queue.push("q", 1)
    delivery = await _receive(store, lease_seconds=timedelta(seconds=0.2))

    assert await delivery.extend(60)

    assert await store.queue.receive("q", timeout=0.4) is None
    assert await delivery.acknowledge()
    assert not await delivery.extend(60)


async def test_a_block_acknowledges_or_releases(store: DataStore) -> None:
    """By how it ends."""
    await store.queue.push("q", 1)

    with pytest.raises(ZeroDivisionError):
        async with await _receive(store) as delivery:
            raise ZeroDivisionError
    async with await _receive(store) as delivery:
        assert delivery.data == 1

    assert await store.queue.receive("q", timeout=0.01) is None


async def test_a_waiting_consumer_is_woken_by_a_push(store: DataStore) -> None:
    """And by a release."""
    waiting = asyncio.create_task(_receive(store))
    await settled(store)
    await store.queue.push("q", 1)
    first = await waiting
    waiting = asyncio.create_task(_receive(store))
    await settled(store)

    await first.release()

    assert (await waiting).data == 1


async def test_clearing_takes_received_items_along(store: DataStore) -> None:
    """Nothing comes back from an emptied queue."""
    await store.queue.push_many("q", [1, 2, 3])
    delivery = await _receive(store)

    assert await store.queue.clear("q") == 2

    assert not await delivery.release()
    assert await store.queue.length("q") == 0


@pytest.mark.parametrize("lease", [0, -1, "1"])
async def test_bad_leases_are_refused(store: DataStore, lease: Any) -> None:
    """Before anything is taken."""
    await store.queue.push("q", 1)

    with pytest.raises(ValidationError, match="lease_seconds"):
        await store.queue.receive("q", lease_seconds=lease)

    assert await store.queue.length("q") == 1
