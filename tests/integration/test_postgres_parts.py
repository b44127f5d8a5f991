"""Batches larger than one message to the server may be, which is a gigabyte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from omniq import lifecycle
from omniq.backend.postgres import PostgresBackend
from omniq.clock import utcnow
from omniq.exceptions import StorageError
from omniq.ids import new_token
from omniq.models.event import EventType, TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.storage import parts
from omniq.storage.base import Change
from omniq.storage.values import Inserted
from tests.servers.postgres import postgres_url, schema

LARGEST = 30_000
TEXT = "x" * 9_000


@pytest.fixture
async def backend() -> AsyncIterator[PostgresBackend]:
    async with PostgresBackend(postgres_url(), schema=schema()) as opened:
        yield opened


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make parts small; return the bytes of data that each statement carries."""
    monkeypatch.setattr(parts, "BYTES_PER_CALL", LARGEST)
    sizes: list[int] = []
    fetch = asyncpg.Connection.fetch

    async def noting(self: Any, query: str, *values: Any, **options: Any) -> Any:
        sizes.append(sum(map(data_bytes, values)))
        return await fetch(self, query, *values, **options)

    monkeypatch.setattr(asyncpg.Connection, "fetch", noting)
    return sizes


def data_bytes(value: Any) -> int:
    """How many bytes of data there are in an argument: a value or a column of them."""
    if isinstance(value, (list, tuple)):
        return sum(map(data_bytes, value))  # pyright: ignore[reportUnknownArgumentType]
    return len(value) if isinstance(value, bytes) else 0


def large_tasks() -> list[Task]:
    return [Task(func="f", id=f"t{n}", args=(f"{n}{TEXT}",)) for n in range(10)]


def assert_in_parts(sent: list[int]) -> None:
    assert sum(sent) > 9 * len(TEXT)
    assert LARGEST / 2 < max(sent) <= LARGEST


@pytest.mark.parametrize("key", [None, "k"])
async def test_tasks_are_inserted_in_parts(
    backend: PostgresBackend, sent: list[int], key: str | None
) -> None:
    """In order; also a child after its parent, and one whose key is taken by an earlier part."""
    queue = backend.get_task_queue()
    tasks = large_tasks()
    tasks[0].unique_key = tasks[9].unique_key = key
    tasks[8].depends_on = ("t1",)

    inserted = await queue.insert(tasks)

    last = Inserted("t9", stored=True) if key is None else Inserted("t0", stored=False)
    assert inserted == [*(Inserted(f"t{n}", stored=True) for n in range(9)), last]
    child = await queue.get_task("t8")
    assert child is not None
    assert child.status is TaskStatus.WAITING
    assert_in_parts(sent)


async def test_tasks_and_their_events_are_stored_in_parts(
    backend: PostgresBackend, sent: list[int]
) -> None:
    """One statement for both would be too large."""
    queue, events = backend.get_task_queue(), backend.get_event_storage()
    tasks = [Task(func="f", args=(f"{n}{TEXT}",)) for n in range(10)]
    told = [TaskEvent(task_id=one.id, event_type=EventType.ENQUEUED) for one in tasks]

    inserted = await queue.insert_logged(tasks, told, events)

    assert inserted == [Inserted(one.id, stored=True) for one in tasks]
    assert await events.get_all_events() == told
    assert_in_parts(sent)


async def test_tasks_are_stored_in_parts_of_a_callers_transaction(
    backend: PostgresBackend, sent: list[int]
) -> None:
    """All of them or none."""
    queue = backend.get_task_queue()
    connection = await asyncpg.connect(postgres_url())
    transaction = connection.transaction()
    await transaction.start()

    inserted = await queue.insert_within(connection, large_tasks())
    assert await queue.counts() == {}
    await transaction.commit()

    assert inserted == [Inserted(f"t{n}", stored=True) for n in range(10)]
    assert await queue.counts() == {"default": {TaskStatus.PENDING: 10}}
    assert_in_parts(sent)
    await connection.close()


async def test_results_are_stored_in_parts(backend: PostgresBackend, sent: list[int]) -> None:
    """Those of a claim that is too old do not stand, in whatever part they come."""
    results = backend.get_result_storage()
    await results.set(TaskResult(task_id="t7", result="newer", claim_count=2))
    values = [TaskResult(task_id=f"t{n}", result=f"{n}{TEXT}", claim_count=1) for n in range(10)]

    assert await results.set_many(values) == [n != 7 for n in range(10)]
    assert_in_parts(sent)


async def test_a_finish_with_large_results_is_made_in_steps(
    backend: PostgresBackend, sent: list[int]
) -> None:
    """First all results, then the states."""
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    await queue.insert([Task(func="f", id=f"t{n}") for n in range(10)])
    claimed = await queue.claim(["default"], worker_id="w", lease_token=new_token(), limit=10)
    now = utcnow()
    changes = [
        Change(task, lifecycle.settle(task, lifecycle.Completed(TEXT), now)) for task in claimed
    ]
    values = [
        TaskResult(task_id=task.id, result=f"{task.id}{TEXT}", claim_count=1) for task in claimed
    ]

    assert await queue.finish(changes, values, results) == [True] * 10

    assert await results.get_result("t9") == f"t9{TEXT}"
    assert_in_parts(sent)


async def test_a_large_batch_is_stored_all_or_none(
    backend: PostgresBackend, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails with the last part."""
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    values = [TaskResult(task_id=f"t{n}", result=f"{n}{TEXT}", claim_count=1) for n in range(10)]
    noting = asyncpg.Connection.fetch

    async def failing(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        if sum(sent) > 6 * len(TEXT):
            raise asyncpg.exceptions.DiskFullError("no space left on device")
        return await noting(self, query, *arguments, **options)

    for store in (lambda: queue.insert(large_tasks()), lambda: results.set_many(values)):
        sent.clear()
        with monkeypatch.context() as broken:
            broken.setattr(asyncpg.Connection, "fetch", failing)
            with pytest.raises(StorageError, match="no space"):
                await store()
        assert sum(sent) > 6 * len(TEXT)

    assert await queue.counts() == {}
    assert await results.list_results() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_more_than_a_gigabyte_is_stored(backend: PostgresBackend) -> None:
    """A server closes the connection of whoever sends that in one message."""
    results = backend.get_result_storage()
    text = "x" * ((8 << 20) - 1_000)
    values = [TaskResult(task_id=f"t{n}", result=text, claim_count=1) for n in range(140)]

    assert await results.set_many(values) == [True] * 140
