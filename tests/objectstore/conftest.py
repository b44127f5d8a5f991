"""The stores the drivers are tested on. A new one adds its entry to `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from omniq.storage.file.location import Location, locate
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ObjectDriver
from tests.servers.objects import PLACES


def memory() -> Location:
    return locate(f"memory://omniq-{uuid4().hex}/base")


def _of(store: str) -> Callable[[], Location]:
    return lambda: locate(*PLACES[store]())


STORES: dict[str, Callable[[], Location]] = {
    "memory": memory,
    **{store: _of(store) for store in PLACES},
}
"""By name: returns a new, empty place."""


@pytest.fixture(params=STORES)
def location(request: pytest.FixtureRequest) -> Location:
    """A new, empty place in each of the stores."""
    return STORES[request.param]()


@pytest.fixture
async def driver(location: Location) -> AsyncIterator[ObjectDriver]:
    """A driver on a new, empty place, its requests counted from here."""
    made = driver_of(location)
    await made.open()
    made.requests.clear()
    yield made
    await made.close()
