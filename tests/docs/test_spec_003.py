"""Specification 003, storage interfaces and SQLite: every name and every promise of it.

It has no example; what it asks for is a list of classes and what they do.
"""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from omniq.backend.base import BaseBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.clock import utcnow
from omniq.models import Task, TaskEvent, TaskResult, TaskStatus
from omniq.storage import base
from omniq.storage.base import BaseEventStorage, BaseQueue, BaseResultStorage
from omniq.storage.sqlite import (
    AsyncSQLiteEventStorage,
    AsyncSQLiteQueue,
    AsyncSQLiteResultStorage,
    SQLiteEventStorage,
    SQLiteQueue,
    SQLiteResultStorage,
)

BASES = [BaseQueue, BaseResultStorage, BaseEventStorage]
CLASSES = [
    (BaseQueue, AsyncSQLiteQueue, SQLiteQueue),
    (BaseResultStorage, AsyncSQLiteResultStorage, SQLiteResultStorage),
    (BaseEventStorage, AsyncSQLiteEventStorage, SQLiteEventStorage),
]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.mark.parametrize("kind", BASES)
def test_base_is_abstract_and_lives_in_storage_base(kind: type) -> None:
    """Three interfaces in one module."""
    assert getattr(base, kind.__name__) is kind
    assert inspect.isabstract(kind)


@pytest.mark.parametrize("kind", BASES)
def test_every_coroutine_of_a_base_has_a_blocking_twin(kind: type) -> None:
    """Both kinds of methods are asked for: here all have both, with the same parameters."""
    coroutines = {
        name: method
        for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert len(coroutines) >= 10

    for name, method in coroutines.items():
        twin = getattr(kind, f"{name}_sync")
        assert not inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(method), name


def test_queue_enqueues_dequeues_and_locks_in_both_faces() -> None:
    """The three operations the interface is asked to have."""
    for name in ("enqueue", "dequeue", "lock_task"):
        assert inspect.iscoroutinefunction(getattr(BaseQueue, name))
        assert callable(getattr(BaseQueue, f"{name}_sync"))


@pytest.mark.parametrize(("kind", "core", "wrapper"), CLASSES)
def test_sqlite_class_implements_its_base_under_both_names(
    kind: type, core: type, wrapper: type
) -> None:
    """One class has both faces, so the wrapper and the core are the same."""
    assert issubclass(core, kind)
    assert core is wrapper
    assert not inspect.isabstract(core)


def test_sqlite_storage_lives_where_it_is_specified() -> None:
    """`omniq.storage.sqlite` may be a package, but the names are there."""
    module = import_module("omniq.storage.sqlite")

    assert isinstance(module, ModuleType)
    assert {"AsyncSQLiteQueue", "SQLiteQueue"} <= set(dir(module))


def test_queue_works_without_an_event_loop(store: str) -> None:
    """The sync wrapper by itself: enqueue, dequeue, done."""
    with SQLiteQueue(store) as queue:
        queue.enqueue_sync(Task(func="job", id="one"))

        task = queue.dequeue_sync()

        assert task is not None
        assert task.id == "one"
        queue.complete_sync(task)
        assert queue.dequeue_sync() is None


async def test_queue_works_with_await(store: str) -> None:
    """The async core by itself."""
    async with AsyncSQLiteQueue(store) as queue:
        await queue.enqueue(Task(func="job", id="one"))

        task = await queue.dequeue()

        assert task is not None
        assert (await queue.complete(task)).status is TaskStatus.COMPLETED


async def test_queue_supports_several_named_queues(store: str) -> None:
    """By a column of one table; asked for in any order."""
    async with SQLiteQueue(store) as queue:
        await queue.enqueue(Task(func="job", id="low", queue_name="low"))
        await queue.enqueue(Task(func="job", id="high", queue_name="high"))

        found = [await queue.dequeue(["high", "low"]) for _ in range(3)]

        assert [task.id if task else None for task in found] == ["high", "low", None]


async def test_locking_lets_one_of_many_have_a_task(store: str) -> None:
    """Two handles on one file, many takers: "not processed by more than one worker"."""
    async with SQLiteQueue(store) as one, SQLiteQueue(store) as other:
        await one.enqueue(Task(func="job", id="one"))

        locks = await asyncio.gather(*(queue.lock_task("one") for queue in [one, other] * 10))

        assert sum(task is not None for task in locks) == 1
        assert await other.dequeue() is None
        stored = await other.get_task("one")
        assert stored is not None
        assert stored.status is TaskStatus("processing")


async def test_results_have_a_ttl_and_are_cleaned_up(store: str) -> None:
    """Expired is absent at once; cleaning up frees the space."""
    async with SQLiteResultStorage(store) as results:
        past = utcnow() - timedelta(seconds=1)
        await results.set(TaskResult(task_id="old", result=1, expires_at=past))
        await results.store_result("kept", {"value": 42}, ttl=3600)

        assert await results.get_result("old") is None
        assert await results.cleanup_expired_results() == 1
        assert await results.get_result("kept") == {"value": 42}


async def test_events_can_be_queried(store: str) -> None:
    """By task and by type, in the order of time."""
    async with SQLiteEventStorage(store) as events:
        for task_id, kind in (("a", "STARTED"), ("b", "STARTED"), ("a", "COMPLETED")):
            await events.log_event(TaskEvent(task_id=task_id, event_type=kind))

        found = await events.get_events("a")

        assert [event.event_type for event in found] == ["STARTED", "COMPLETED"]
        assert len(await events.get_events(event_type="started")) == 2


def test_backend_makes_all_components_from_one_configuration(store: str) -> None:
    """One path, one connection; the getters give what the specification names."""
    assert issubclass(SQLiteBackend, BaseBackend)
    assert inspect.isabstract(BaseBackend)

    with SQLiteBackend(store) as backend:
        assert isinstance(backend.get_task_queue(), SQLiteQueue)
        assert isinstance(backend.get_result_storage(), SQLiteResultStorage)
        assert isinstance(backend.get_event_storage(), SQLiteEventStorage)
        backend.get_task_queue().enqueue_sync(Task(func="job", id="one"))
        assert backend.get_task_queue().get_queue_size_sync() == 1
