"""The backends the contract is run on. A new one adds its entry to `BACKENDS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
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
from tests.servers.objects import azure_place, gcs_place, s3_place
from tests.servers.pgbouncer import pgbouncer_url
from tests.servers.postgres import postgres15_url, postgres_url, schema
from tests.servers.redis import cluster_url, namespace, redis7_url, redis_url

MakeBackend = Callable[[], BaseBackend]


def memory(folder: Path) -> MakeBackend:
    return MemoryBackend


def sqlite(folder: Path) -> MakeBackend:
    path = folder / f"{uuid4().hex}.db"
    return lambda: SQLiteBackend(path, durability="fast")


def redis(folder: Path) -> MakeBackend:
    return partial(RedisBackend, redis_url(), namespace=namespace())


def redis7(folder: Path) -> MakeBackend:
    return partial(RedisBackend, redis7_url(), namespace=namespace())


def redis_cluster(folder: Path) -> MakeBackend:
    return partial(RedisBackend, cluster_url(), namespace=namespace())


def file(folder: Path) -> MakeBackend:
    base_dir = folder / uuid4().hex
    return lambda: FileBackend(base_dir, durability="fast")


def postgres(folder: Path) -> MakeBackend:
    return partial(PostgresBackend, postgres_url(), schema=schema())


def postgres15(folder: Path) -> MakeBackend:
    return partial(PostgresBackend, postgres15_url(), schema=schema())


def pgbouncer(folder: Path) -> MakeBackend:
    options = {"statement_cache_size": 0, "direct_dsn": postgres_url(), "schema": schema()}
    return partial(PostgresBackend, pgbouncer_url(), **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - options of several types


def nats(folder: Path) -> MakeBackend:
    return partial(NATSBackend, nats_servers.nats_url(), namespace=nats_servers.namespace())


def nats_cluster(folder: Path) -> MakeBackend:
    return partial(
        NATSBackend,
        nats_servers.cluster_url(),
        namespace=nats_servers.namespace(),
        replicas=3,
        timeout_seconds=20,  # three servers elect a leader for each stream of each test
    )


def s3(folder: Path) -> MakeBackend:
    return partial(FileBackend, *s3_place(), tree=False)


def fsspec_memory(folder: Path) -> MakeBackend:
    return partial(FileBackend, f"memory://omniq-{uuid4().hex}/jobs")


def gcs(folder: Path) -> MakeBackend:
    return partial(FileBackend, *gcs_place())


def azure(folder: Path) -> MakeBackend:
    return partial(FileBackend, *azure_place(), tree=False)


BACKENDS: dict[str, Callable[[Path], MakeBackend]] = {
    "azure": azure,
    "file": file,
    "fsspec-memory": fsspec_memory,
    "gcs": gcs,
    "memory": memory,
    "sqlite": sqlite,
    "nats": nats,
    "nats-cluster": nats_cluster,
    "pgbouncer": pgbouncer,
    "postgres": postgres,
    "postgres15": postgres15,
    "redis": redis,
    "redis7": redis7,
    "redis-cluster": redis_cluster,
    "s3": s3,
}
"""By name: takes an empty folder, returns what makes backends on one new, empty store."""

LONG = {"azure", "fsspec-memory", "gcs", "nats-cluster", "pgbouncer", "s3"}
"""Each write goes to three servers, or takes both sides ten milliseconds of computing, or what is
behind is tested by itself already: minutes, so that a normal run takes the `SAMPLE` only."""
OBJECT_STORES = {"azure", "gcs", "s3"}
HEAVY = {
    "test_cleanup_deletes_all_that_expired",
    "test_get_many_answers_in_order",
    "test_list_results_goes_through_all_pages",
}
"""A thousand results are a thousand objects: minutes where the machine has other things to do."""
SAMPLE = {
    "test_a_child_cancelled_with_its_parent_frees_its_key",
    "test_a_diamond_completes",
    "test_a_key_lost_in_a_batch_does_not_stop_the_others",
    "test_a_life_in_blocking_calls",
    "test_a_result_expires_exactly_at_its_moment",
    "test_a_stale_swap_changes_nothing",
    "test_a_task_put_in_here_wakes_a_waiter_there",
    "test_an_abandoned_task_is_claimable_when_its_lease_ends",
    "test_an_earlier_claim_never_overwrites_a_later",
    "test_cancelling_goes_through_all_generations",
    "test_concurrent_logs_lose_nothing",
    "test_each_task_goes_to_one_of_two",
    "test_every_field_comes_back",
    "test_extend_returns_only_what_is_held",
    "test_fences_hold_across_objects",
    "test_fifty_concurrent_claimers_get_each_task_once",
    "test_finish_stores_results_and_ends_the_runs",
    "test_of_concurrent_inserts_one_gets_the_key",
    "test_of_concurrent_schedulers_one_fires",
    "test_one_of_many_concurrent_writers_wins",
    "test_order_holds_over_many_claims",
    "test_the_other_object_sees_everything",
    "test_the_twins_do_the_same",
    "test_two_objects_fire_once",
    "test_what_was_acknowledged_survives_closing",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=sorted(BACKENDS),
        help="run the contract on this backend only; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "new_store" in metafunc.fixturenames:
        chosen: list[str] = metafunc.config.getoption("--backend", default=None) or []
        test = metafunc.function.__name__
        legs = [_leg(name, test, asked_for=name in chosen) for name in chosen or BACKENDS]
        metafunc.parametrize("new_store", legs, indirect=True)


def _leg(name: str, test: str, *, asked_for: bool) -> object:
    """A parameter; what is long and not asked for is slow."""
    is_heavy = name in OBJECT_STORES and test in HEAVY
    is_long = is_heavy or (name in LONG and test not in SAMPLE)
    marks: list[pytest.MarkDecorator] = []
    if name in LONG:
        marks.append(pytest.mark.xdist_group(name))  # one cluster, not one for each process
    if is_heavy:
        marks.append(pytest.mark.timeout(600))
    if is_long and not asked_for:
        marks.append(pytest.mark.slow)
    return pytest.param(name, marks=marks)


@pytest.fixture
def new_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], MakeBackend]]:
    """Make a new, empty store, as what makes backends on it."""
    name: str = request.param
    yield lambda: BACKENDS[name](tmp_path)
    if name == "nats-cluster":
        asyncio.run(nats_servers.drop_all(nats_servers.cluster_url()))


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
