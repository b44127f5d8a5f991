"""A data store for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omniq.datastore import DataStore
from tests.servers.redis import namespace, redis_url


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataStore]:
    """An empty store."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/flow.db"}
    url = urls.get(request.param) or redis_url()
    async with DataStore(url=url, prefix=f"{namespace()}:") as store:
        yield store
