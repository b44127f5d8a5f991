"""The backends the contract is run on. A new one adds its entry to `BACKENDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from omniq.backend.base import BaseBackend
from omniq.backend.file import FileBackend
from omniq.backend.memory import MemoryBackend
from omniq.backend.nats import NATSBackend
from omniq.backend.postgres import PostgresBackend
from omniq.backend.redis import RedisBackend
from omniq.backend.sqlite import SQLiteBackend
from tests.servers import nats as nats_servers
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import cluster_url, namespace, redis_url

MakeBackend = Callable[[], BaseBackend]


def memory(folder: Path) -> MakeBackend:
    return MemoryBackend


def sqlite(folder: Path) -> MakeBackend:
    path = folder / f"{uuid4().hex}.db"
    return lambda: SQLiteBackend(path, durability="fast")


def redis(folder: Path) -> MakeBackend:
    return partial(RedisBackend, redis_url(), namespace=namespace())


def redis_cluster(folder: Path) -> MakeBackend:
    return partial(RedisBackend, cluster_url(), namespace=namespace())


def file(folder: Path) -> MakeBackend:
    base_dir = folder / uuid4().hex
    return lambda: FileBackend(base_dir, durability="fast")


def postgres(folder: Path) -> MakeBackend:
    return partial(PostgresBackend, postgres_url(), schema=schema())


def nats(folder: Path) -> MakeBackend:
    return partial(NATSBackend, nats_servers.nats_url(), namespace=nats_servers.namespace())


BACKENDS: dict[str, Callable[[Path], MakeBackend]] = {
    "file": file,
    "memory": memory,
    "sqlite": sqlite,
    "nats": nats,
    "postgres": postgres,
    "redis": redis,
    "redis-cluster": redis_cluster,
}
"""By name: takes an empty folder, returns what makes backends on one new, empty store."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=sorted(BACKENDS),
        help="run the contract on this backend only; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "new_store" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend", default=None) or list(BACKENDS)
        metafunc.parametrize("new_store", chosen, indirect=True)


@pytest.fixture
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], MakeBackend]:
    """Make a new, empty store, as what makes backends on it."""
    name: str = request.param
    return lambda: BACKENDS[name](tmp_path)


@pytest.fixture
def make_backend(new_store: Callable[[], MakeBackend]) -> MakeBackend:
    """Make backends on the store of this test."""
    return new_store()


@pytest.fixture
async def backend(make_backend: MakeBackend) -> AsyncIterator[BaseBackend]:
    async with make_backend() as opened:
        yield opened


@pytest.fixture
async def second_backend(
    backend: BaseBackend, make_backend: MakeBackend
) -> AsyncIterator[BaseBackend]:
    if not backend.capabilities.shared:
        pytest.skip("its stores are not shared between objects")
    async with make_backend() as opened:
        yield opened
