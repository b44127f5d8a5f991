"""Four components, any mix of backends: the same application works on each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from omniq import (
    EventType,
    OmniQ,
    RetryPolicy,
    StorageUnavailableError,
    TaskCancelledError,
    TaskFailedError,
)
from omniq.backend.sqlite import SQLiteBackend
from omniq.clock import utcnow
from omniq.models.config import (
    FileConfig,
    MemoryConfig,
    NATSConfig,
    OmniQConfig,
    PostgreSQLConfig,
    RedisConfig,
    SQLiteConfig,
    StorageBackendConfig,
)
from omniq.storage.base import Component
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace as nats_namespace
from tests.servers.nats import nats_url
from tests.servers.objects import s3_place
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import namespace, redis_url

Place = Callable[[Path], Any]


def in_s3() -> StorageBackendConfig:
    """A new, empty folder in S3."""
    place = s3_place()
    options = {"storage_options": place.fs_kwargs}
    return StorageBackendConfig("s3", f"s3://{place.base_dir}", options)


PLACES: dict[str, Place] = {
    "memory": lambda folder: MemoryConfig(),
    "sqlite": lambda folder: SQLiteConfig(database_path=str(folder / "q.db"), durability="fast"),
    "file": lambda folder: FileConfig(base_dir=str(folder / "q"), durability="fast"),
    "redis": lambda folder: RedisConfig(url=redis_url(), namespace=namespace()),
    "postgres": lambda folder: PostgreSQLConfig(dsn=postgres_url(), schema=schema()),
    "nats": lambda folder: NATSConfig(servers=nats_url(), namespace=nats_namespace()),
    "s3": lambda folder: in_s3(),
}
"""By name. A prime number of them makes few mixes do."""
COMPONENTS = ("task_queue", "result_storage", "event_storage", "schedule_storage")


def covering() -> Iterator[tuple[str, str, str, str]]:
    """Yield mixes in which each two components meet on each two backends (an orthogonal array)."""
    names = list(PLACES)
    for i, j in product(range(len(names)), repeat=2):
        mix = (i, j, (i + j) % len(names), (i + 2 * j) % len(names))
        yield (names[mix[0]], names[mix[1]], names[mix[2]], names[mix[3]])


def length(text: str) -> int:
    return len(text)


def config_of(mix: tuple[str, ...], folder: Path) -> OmniQConfig:
    """Return a configuration; components of the same backend are in the same place."""
    places = {name: PLACES[name](folder) for name in sorted(set(mix))}
    given = {f"{kind}_backend": places[name] for kind, name in zip(COMPONENTS, mix, strict=True)}
    return OmniQConfig(**given)


def test_mixes_cover_all_pairs() -> None:
    """49 mixes stand for 2,401."""
    mixes = list(covering())

    for one, other in product(range(4), repeat=2):
        if one != other:
            assert len({(mix[one], mix[other]) for mix in mixes}) == len(PLACES) ** 2


@asynccontextmanager
async def application(mix: tuple[str, ...], folder: Path) -> AsyncGenerator[OmniQ]:
    async with OmniQ(config=config_of(mix, folder)) as q:
        yield q


async def work(q: OmniQ, finished: int) -> None:
    """Run a worker until so many tasks are final."""

    async def is_done() -> bool:
        return sum(task.is_final for task in await q.list_tasks()) == finished

    worker = q.worker(cleanup=False)
    running = asyncio.create_task(worker.run())
    try:
        await wait_until(is_done, description=f"{finished} tasks are final")
    finally:
        worker.stop()
        await running


@pytest.mark.parametrize("mix", list(covering()), ids="-".join)
async def test_the_same_application_works_on_any_mix(mix: tuple[str, ...], tmp_path: Path) -> None:
    """Enqueue, retry, fail, cancel, schedule; results and events of all."""
    async with application(mix, tmp_path) as q:
        tries: list[int] = []

        @q.task(retry=RetryPolicy(max_retries=1, delay_seconds=0))
        async def flaky(n: int) -> int:
            tries.append(n)
            if n == 7 and tries.count(7) == 1:
                raise OSError("the first try fails")
            return n * n

        @q.task
        async def broken() -> None:
            raise ValueError("always")

        retried = await flaky.enqueue(7)
        failing = await broken.enqueue()
        cancelled = await broken.options(delay=3600).enqueue()
        await q.cancel(cancelled.id)
        await q.schedule(flaky, at=utcnow() - timedelta(seconds=1), args=(3,), schedule_id="once")
        await work(q, 4)

        assert await retried.result(timeout=5) == 49
        assert sorted(tries) == [3, 7, 7]
        with pytest.raises(TaskFailedError, match="always"):
            await failing.result(timeout=5)
        with pytest.raises(TaskCancelledError):
            await cancelled.result(timeout=5)
        statuses = sorted(task.status for task in await q.list_tasks())
        assert statuses == ["cancelled", "completed", "completed", "failed"]
        kinds = [event.event_type for event in await q.get_events(retried.id)]
        assert kinds[0] is EventType.ENQUEUED
        assert kinds[-1] is EventType.COMPLETED
        assert EventType.RETRYING in kinds


def connection_of(component: Component) -> object:
    """What a component shares with its siblings."""
    held = vars(component)
    return next(held[name] for name in ("_db", "_store", "_server", "server") if name in held)


@pytest.mark.parametrize("name", ["sqlite", "redis", "postgres", "nats"])
def test_components_of_the_same_backend_share_one_connection(name: str, tmp_path: Path) -> None:
    """However the configuration spells it."""
    q = OmniQ(config=config_of((name,) * 4, tmp_path))

    parts = (q.task_queue, q.result_storage, q.event_storage, q.schedule_storage)
    assert len({id(connection_of(part)) for part in parts}) == 1


def test_two_spellings_of_one_file_are_one_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or two handles would wait for each other's lock."""
    monkeypatch.chdir(tmp_path)
    q = OmniQ(
        config={
            "task_queue_backend": "sqlite:///q.db",
            "result_storage_backend": {"backend_type": "sqlite", "url": str(tmp_path / "q.db")},
            "event_storage_backend": {
                "backend_type": "sqlite",
                "config": {"database_path": "./q.db"},
            },
        }
    )

    parts = (q.task_queue, q.result_storage, q.event_storage, q.schedule_storage)
    assert len({id(connection_of(part)) for part in parts}) == 1


def test_different_options_are_different_backends(tmp_path: Path) -> None:
    """Two namespaces in one file share nothing."""
    path = str(tmp_path / "q.db")
    q = OmniQ(
        config=OmniQConfig(
            url=f"sqlite:///{path}",
            result_storage_backend=SQLiteConfig(database_path=path, namespace="other"),
        )
    )

    assert connection_of(q.result_storage) is not connection_of(q.task_queue)


def test_backend_objects_still_work(tmp_path: Path) -> None:
    """`OmniQ(backend=…)`, as before there were configurations."""
    backend = SQLiteBackend(tmp_path / "q.db")
    q = OmniQ(backend=backend)

    assert q.task_queue is backend.get_task_queue()
    assert q.event_storage is backend.get_event_storage()


def test_results_in_files_outlive_the_queue(tmp_path: Path) -> None:
    """What is kept where can be looked at with `ls`."""
    config = config_of(("memory", "file", "memory", "memory"), tmp_path)
    with OmniQ(config=config) as q:
        handle = q.task(length).enqueue_sync("four")
        q.worker(burst=True).run_sync()
        assert handle.result_sync(timeout=5) == 4

    with OmniQ(config=config) as q:
        assert q.result_storage.get_result_sync(handle.id) == 4
        assert q.list_tasks_sync() == []
    assert any((tmp_path / "q").rglob("*"))


async def test_a_store_that_is_away_names_itself_and_leaves_nothing_open(tmp_path: Path) -> None:
    """Three fine components do not hide the fourth."""
    q = OmniQ(
        tasks=f"sqlite:///{tmp_path}/q.db",
        results=StorageBackendConfig("redis", "redis://127.0.0.1:1/0"),
    )

    with pytest.raises(StorageUnavailableError, match=r"127\.0\.0\.1:1"):
        await q.connect()


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def with_servers_of_this_test(text: str) -> str:
    """Return a deployment configuration, its servers replaced by those that run here."""
    if "s3://" in text:
        place = s3_place()
        options = f"config: {{storage_options: {json.dumps(place.fs_kwargs)}}}"
        text = text.replace("url: s3://my-bucket/jobs", f"url: s3://{place.base_dir}\n  {options}")
    return (
        text.replace("postgresql://omniq@localhost:5432/omniq", postgres_url())
        .replace("schema: omniq", f"schema: {schema()}")
        .replace("redis://localhost:6379/0", redis_url())
        .replace("namespace: jobs", f"namespace: {namespace()}")
        .replace("nats://nats-1:4222, nats://nats-2:4222, nats://nats-3:4222", nats_url())
        .replace("replicas: 3", f"namespace: {nats_namespace()}")
    )


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("deployment_configs/*.yaml")))
async def test_an_application_runs_on_each_deployment_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is in `examples/deployment_configs`, but for the addresses of servers."""
    monkeypatch.chdir(tmp_path)
    original = EXAMPLES / "deployment_configs" / name
    assert OmniQ(config=original).task_queue is not None
    (tmp_path / name).write_text(with_servers_of_this_test(original.read_text()))

    async with OmniQ(config=name) as q:
        q.task(name="length")(length)
        handle = await q.enqueue("length", "four")
        await q.worker(burst=True, cleanup=False).run()

        assert await handle.result(timeout=5) == 4
        assert await handle.events() != []


def test_the_example_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As people run it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).resolve().parents[1] / "examples/independent_storage_example.py"
    names: dict[str, Any] = {"__name__": "example", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), names)

    names["main"]()

    assert capsys.readouterr().out.count(": 49") == 4
