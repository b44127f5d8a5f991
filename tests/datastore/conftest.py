"""The stores the suite runs on: two handles on one new store, as two programs would have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omniq.datastore import DataStore
from tests.servers.redis import namespace, redis_url

KINDS = ("redis", "sqlite", "memory")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    match kind:
        case "redis":
            return redis_url()
        case "sqlite":
            return f"sqlite:///{tmp_path}/store.db?durability=fast"
        case _:
            return "memory://"


@pytest.fixture
async def store(url: str) -> AsyncIterator[DataStore]:
    """An empty store; it must be left without keys that the test's own prefix does not explain."""
    async with DataStore(url=url, prefix=f"{namespace()}:") as store:
        yield store


async def settled(store: DataStore) -> None:
    """Let what was started reach the store: these calls come after it."""
    for _ in range(5):
        await asyncio.sleep(0)
        await store.queue.length("anything")
