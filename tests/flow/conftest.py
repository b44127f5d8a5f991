"""A data store for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omniq.datastore import DataStore
from tests.servers.redis import namespace, redis_url


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[DataStore]:
    """An empty store."""
    url = "memory://" if request.param == "memory" else redis_url()
    async with DataStore(url=url, prefix=f"{namespace()}:") as store:
        yield store
