"""Waiting on each object store, where nobody wakes: looks must be often enough."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omniq.storage.base import BaseQueue
from omniq.storage.file.location import Location
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.queue import ObjectQueue
from omniq.testing.contract.queue_waiting import WaitContract
from tests.objectstore.conftest import STORES

SHARED = [store for store in STORES if store != "memory"]


@pytest.fixture(params=SHARED)
def location(request: pytest.FixtureRequest) -> Location:
    """A new, empty place in each of the stores that several processes may use."""
    return STORES[request.param]()


@pytest.mark.asyncio
class TestWaiting(WaitContract):
    """Here in a normal run as well; `tests/contract` runs all the rest when asked for."""

    @pytest.fixture
    async def queue(self, location: Location) -> AsyncIterator[BaseQueue]:
        async with ObjectQueue(driver_of(location)) as opened:
            yield opened
