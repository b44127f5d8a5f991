"""Queues of two processes on each object store; `tests/contract` runs all the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omniq.storage.base import BaseQueue
from omniq.storage.file.location import Location
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.queue import ObjectQueue
from omniq.testing.contract.queue_waiting import SharedContract, WaitContract
from tests.objectstore.conftest import STORES

SHARED = [store for store in STORES if store != "memory"]


@pytest.fixture(params=SHARED)
def location(request: pytest.FixtureRequest) -> Location:
    """A new, empty place in each of the stores that several processes may use."""
    return STORES[request.param]()


@pytest.mark.asyncio
class TestQueue(SharedContract, WaitContract):
    """Each with connections and a memory of its own."""

    @pytest.fixture
    async def queue(self, location: Location) -> AsyncIterator[BaseQueue]:
        async with ObjectQueue(driver_of(location)) as opened:
            yield opened

    @pytest.fixture
    async def second(self, queue: BaseQueue, location: Location) -> AsyncIterator[BaseQueue]:
        async with ObjectQueue(driver_of(location)) as opened:
            yield opened
