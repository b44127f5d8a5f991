"""The tree that people look into, on real stores: it follows, and is in nobody's way."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from omniq.backend.file import FileBackend
from omniq.exceptions import ConfigError, StorageError
from omniq.ids import new_token
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.location import Location
from omniq.storage.file.records import read_record
from omniq.storage.objectstore import publisher
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.queue import ObjectQueue
from omniq.storage.objectstore.tree import published
from omniq.testing.waiting import wait_until
from tests.objectstore.conftest import STORES
from tests.objectstore.shown import driver_of, expected, is_shown, shown
from tests.unit.object_doubles import DictDriver, DictStore

PLAN = Schedule(schedule_type=ScheduleType.INTERVAL, interval_seconds=60, func="f", id="often")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish at once."""
    for name in ("INTERVAL_SECONDS", "FOLLOWER_SECONDS", "READER_SECONDS"):
        monkeypatch.setattr(publisher, name, 0.02)


def backend_at(location: Location, **options: Any) -> FileBackend:
    return FileBackend(repr(location), fs_kwargs=location.options, **options)


async def test_the_tree_follows_each_transition(location: Location) -> None:
    """Of tasks and of schedules, while the program runs; nothing of it is left behind."""
    async with backend_at(location) as backend:
        queue, schedules = backend.get_task_queue(), backend.get_schedule_storage()
        await queue.enqueue_many([Task(func="f", id=one, args=(one,)) for one in "abc"])
        await is_shown(backend)
        (task,) = await queue.claim(["default"], worker_id="w", lease_token=new_token(), limit=1)
        await is_shown(backend)
        (running,) = [key for key in await shown(backend) if "/running/" in key]
        stored = await driver_of(backend).get(running)
        assert stored is not None
        codec = FileCodec(Task, ("args", "kwargs", "metadata"))
        assert read_record("a", stored.data).whole(codec) == await queue.get_task("a")
        await queue.complete(task)
        await is_shown(backend)
        await schedules.save_schedule(PLAN)
        await is_shown(backend)
        await schedules.pause_schedule("often")
        await is_shown(backend)
        assert "schedules/paused/often.json" in await shown(backend)


async def test_what_a_short_program_did_is_shown_when_it_ends(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not live until the next publication; the next program goes on at once."""
    monkeypatch.setattr(publisher, "INTERVAL_SECONDS", 1000.0)
    for name in "ab":
        async with backend_at(location) as backend:
            await backend.get_task_queue().enqueue(Task(func="f", id=name))

    async with backend_at(location) as backend:
        assert await shown(backend) == await expected(backend)
        assert len(await shown(backend)) == 2


async def test_folders_of_other_names_are_honoured() -> None:
    """`tasks_dir` and `schedules_dir`."""
    backend = backend_at(STORES["memory"](), tasks_dir="my/jobs", schedules_dir="plans")
    async with backend:
        await backend.get_task_queue().enqueue(Task(func="f", id="a", queue_name="mail"))
        await backend.get_schedule_storage().save_schedule(PLAN)
    (task,) = [key for key in await keys(driver_of(backend)) if key.startswith("my/jobs/mail/")]
    assert task.startswith("my/jobs/mail/pending/")
    assert "plans/active/often.json" in await keys(driver_of(backend))


async def keys(driver: ObjectDriver) -> list[str]:
    return [entry.key for entry in await driver.list("")]


@pytest.mark.parametrize("how", ["url", "argument"])
async def test_without_a_tree_none_is_written(how: str) -> None:
    """`?tree=false`: nothing but the log."""
    if how == "url":
        backend = FileBackend.from_url(f"{STORES['memory']()!r}?tree=false")
    else:
        backend = backend_at(STORES["memory"](), tree=False)
    async with backend:
        await backend.get_task_queue().enqueue(Task(func="f"))
        await backend.get_schedule_storage().save_schedule(PLAN)
    async with backend:
        assert await backend.get_task_queue().get_queue_size() == 1
        assert await shown(backend) == []
        assert not [key for key in await keys(driver_of(backend)) if key.endswith(".tree")]


def test_a_local_disk_has_nothing_but_the_tree() -> None:
    """Refused, rather than ignored."""
    with pytest.raises(ConfigError, match="tree=False is for object stores"):
        FileBackend("./jobs", tree=False)


async def test_an_idle_worker_neither_lists_nor_writes(location: Location) -> None:
    """Once the tree is published, waiting costs the small request it costs without one."""
    async with backend_at(location) as backend:
        queue, driver = backend.get_task_queue(), driver_of(backend)
        await queue.enqueue(Task(func="f", queue_name="other"))
        await is_shown(backend)
        waiting = asyncio.create_task(queue.wait(["default"], 60))

        async def is_marked() -> bool:
            return await published(driver, "tasks") == 1

        await wait_until(is_marked, description="all is published")
        driver.requests.clear()

        await wait_until(lambda: driver.requests["get"] >= 3, timeout=30, description="three looks")

        assert set(driver.requests) == {"get"}
        waiting.cancel()


async def test_a_tree_that_cannot_be_written_is_in_nobody_s_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Callers succeed, the log says what is wrong, and once it is right again all is shown."""
    store = DictStore()
    driver = DictDriver(store)
    is_broken = True

    async def refuse(what: str, key: str) -> None:
        if is_broken and what == "put" and key.startswith("tasks/default"):
            raise StorageError("no permission for tasks/default")

    driver.before = refuse
    with caplog.at_level(logging.WARNING):
        async with ObjectQueue(driver) as queue:
            for name in "abc":
                await queue.enqueue(Task(func="f", id=name))
            await wait_until(lambda: "no permission" in caplog.text, description="it is told")
            assert await queue.get_queue_size() == 3
            is_broken = False
            await wait_until(
                lambda: len(tree_of(store)) == 3, timeout=30, description="it is shown"
            )


def tree_of(store: DictStore) -> list[str]:
    return [key for key in store.objects if key.startswith("tasks/default/pending/")]


async def test_what_lies_in_the_tree_never_matters(location: Location) -> None:
    """Damage it, add to it, delete it: the queue goes on, and shows it again when asked to."""
    async with backend_at(location) as backend:
        await backend.get_task_queue().enqueue_many([Task(func="f", id=one) for one in "ab"])
    driver = driver_of(backend)
    first, second = await shown(backend)
    await driver.put(first, b"\xff damaged")
    await driver.put(second.replace("pending", "running"), b"{}")
    await driver.put("tasks/default/pending/mine.txt", b"foreign")
    await driver.delete([second])

    async with backend_at(location) as backend:
        queue = backend.get_task_queue()
        assert [task.id for task in await queue.list_tasks()] == ["a", "b"]
        await driver.delete(["tasks/.tree"])
        await queue.enqueue(Task(func="f", id="c"))
        await wait_until_healed(backend)
    await driver.close()


async def wait_until_healed(backend: FileBackend) -> None:
    async def is_healed() -> bool:
        foreign = "tasks/default/pending/mine.txt"
        return await shown(backend) == sorted([*await expected(backend), foreign])

    await wait_until(is_healed, timeout=30, description="the tree is right again")
