"""Applications follow a move without a restart, and believe no mark they should not."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq import ConfigError, OmniQ, Schedule, ScheduleType, Task, TaskStatus, ValidationError
from omniq.backend.sqlite import SQLiteBackend
from omniq.clock import utcnow
from omniq.migration import MigrationError, migrate, move
from omniq.models.config import OmniQConfig
from omniq.moving import times
from omniq.moving.marker import Marker, marker_task, read_marker
from omniq.moving.parking import MOVE
from omniq.moving.watch import Follower
from omniq.storage.base import BaseQueue, Inserted, Lease, TaskFilter
from omniq.testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("hurry")


async def target_tasks(url: str = "sqlite:///new.db") -> dict[str, TaskStatus]:
    async with OmniQ(url) as app:
        return {task.id: task.status for task in await app.list_tasks()}


async def test_a_handle_from_before_finds_its_result_after(q: OmniQ) -> None:
    """Wherever the task ran, and whoever asks."""
    done = await q.enqueue("f", 1)
    claimed = await q.task_queue.dequeue()
    assert claimed is not None
    await q.result_storage.store_result(done.id, "early")
    await q.task_queue.complete(claimed)

    moved = await move("old.db", "sqlite:///new.db?durability=fast", verify=True)

    assert moved.is_complete
    assert (await done.task()).status is TaskStatus.COMPLETED
    assert await q.result_storage.get_result(done.id) == "early"
    assert await q.get_events(done.id) != []
    late = await q.enqueue("f", 2)
    assert (await target_tasks())[late.id] is TaskStatus.PENDING


async def test_all_that_is_asked_of_a_moved_queue_is_answered_by_the_target(q: OmniQ) -> None:
    """A method that went to the source by itself would tell of a store nobody uses."""
    await q.enqueue("f")
    await move("old.db", "new.db")
    later = utcnow() + timedelta(hours=1)
    queue = q.task_queue
    async with SQLiteBackend("new.db") as target:
        there = target.get_task_queue()
        await there.enqueue(Task(func="f", id="new", queue_name="other", run_at=later))
        await there.set_paused("other", True)

    assert [task.id for task in await queue.find(TaskFilter(queues=frozenset({"other"})))] == [
        "new"
    ]
    assert (await queue.counts())["other"] == {TaskStatus.SCHEDULED: 1}
    assert await queue.paused() == {"other"}
    assert await queue.next_due(["other"]) == later
    await queue.set_paused("other", False)
    claimed = await queue.claim(["other"], worker_id="w", lease_token="t", now=later)
    lease = Lease("new", 1, "t")
    assert [task.id for task in await queue.extend([lease], lease_seconds=60)] == ["new"]
    await queue.complete(claimed[0])
    assert await queue.purge(utcnow() + timedelta(hours=2)) == 1
    await queue.wait(["other"], 0.01)
    await queue.wait_final(["new"], 0.01)


async def test_no_transaction_of_a_caller_puts_a_task_into_a_store_that_was_left(q: OmniQ) -> None:
    """Nobody would look for it there."""
    await q.enqueue("f")
    await move("old.db", "new.db")

    def enqueue() -> None:
        with closing(sqlite3.connect("old.db")) as connection:
            q.task_queue.insert_within_sync(connection, [Task(func="f", id="late")])

    with pytest.raises(ValidationError, match="connection"):
        await asyncio.to_thread(enqueue)


async def test_a_program_that_starts_later_follows_too(q: OmniQ) -> None:
    """Its configuration may be forgotten for long."""
    handle = await q.enqueue("f")
    await move("old.db", "new.db")

    async with OmniQ("sqlite:///old.db") as forgotten:
        assert await forgotten.get_task(handle.id) is not None
        await forgotten.enqueue("f")

    assert len(await target_tasks()) == 2


async def test_latecomers_are_taken_over_when_the_move_is_started_once_more(q: OmniQ) -> None:
    """Stored by somebody who does not follow: a script that uses the queue by itself, say."""
    await q.enqueue("f")
    await move("old.db", "new.db")
    async with SQLiteBackend("old.db") as bare:
        late = await bare.get_task_queue().enqueue(Task(func="f"))

    again = await move("old.db", "new.db")

    assert (again.was_done, again.transferred) == (True, 1)
    assert (await target_tasks())[late] is TaskStatus.PENDING


async def test_a_store_moves_on_from_where_it_moved_to(q: OmniQ) -> None:
    """Who still uses the first follows twice."""
    first = await q.enqueue("f")
    await move("old.db", "new.db")
    await move("new.db", "newer.db")

    second = await q.enqueue("f")

    assert set(await target_tasks("sqlite:///newer.db")) == {first.id, second.id}
    with pytest.raises(MigrationError, match="has been moved elsewhere itself"):
        await move("newer.db", "new.db")


@pytest.mark.parametrize("asked_meanwhile", [False, True])
@pytest.mark.parametrize("primitive", ["_insert", "_insert_logged"])
async def test_a_write_that_took_too_long_is_seen_to_by_who_made_it(
    primitive: str, asked_meanwhile: bool, q: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move may be over by the time the write arrives; nobody else would look."""
    first = await q.enqueue("f")
    queue = q.task_queue
    write = getattr(queue, primitive)

    async def slow(*arguments: Any) -> list[Inserted]:
        await move("old.db", "new.db")
        if asked_meanwhile:
            await q.get_task(first.id)
        inserted: list[Inserted] = await write(*arguments)
        return inserted

    monkeypatch.setattr(queue, primitive, slow)

    if primitive == "_insert":
        late_id = await queue.enqueue(Task(func="f"))
    else:
        late_id = (await q.enqueue("f")).id

    assert set(await target_tasks()) == {first.id, late_id}


@pytest.mark.parametrize(
    "url", ["new.db?serialization_format=pickle", "x.db?a=1&serialization_form%61t=pickle"]
)
async def test_nobody_follows_to_a_store_that_reads_pickle(q: OmniQ, url: str) -> None:
    """Who can write to the queue could run code in all who use it."""
    place: dict[str, Any] = {"backend_type": "sqlite", "url": f"sqlite:///{url}"}
    said = dict.fromkeys(["task_queue_backend"], place)
    async with SQLiteBackend("old.db") as raw:
        await raw.get_task_queue().insert([marker_task(said, {"tasks": "with tasks"})])

    async def is_refused() -> bool:
        try:
            await q.enqueue("f")
        except ConfigError as error:
            return "pickle" in str(error)
        return False

    await wait_until(is_refused, description="the mark is seen")
    with pytest.raises(ConfigError, match="pickle"):
        await move("old.db", f"sqlite:///{url}")


async def test_what_the_mover_knows_elsewhere_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Results in a place SOURCE does not name were not copied, so they are read where they are."""
    async with OmniQ("sqlite:///old.db", results="sqlite:///results.db") as q:
        handle = await q.enqueue("f")
        await q.result_storage.store_result(handle.id, 1)
        await move("old.db", "new.db")

        with caplog.at_level(logging.WARNING):
            assert (await handle.task()).status is TaskStatus.PENDING
        assert await q.result_storage.get_result(handle.id) == 1
        assert "results stay where they are" in caplog.text


async def test_what_both_configurations_name_stays(q: OmniQ, tmp_path: Path) -> None:
    """Events would be copied onto themselves."""
    handle = await q.enqueue("f")
    (tmp_path / "new.yaml").write_text(
        "url: sqlite:///new.db\nevent_storage_backend: sqlite:///old.db?durability=fast"
    )
    moved = await move(
        "sqlite:///old.db?durability=fast", OmniQConfig.from_yaml("new.yaml"), verify=True
    )

    assert moved.events == (0, 0)
    assert len(await q.get_events(handle.id)) == 1


async def test_held_wrong(q: OmniQ, tmp_path: Path) -> None:
    """Each refusal comes before anything is marked."""
    await q.enqueue("f")
    (tmp_path / "link.db").symlink_to(tmp_path / "old.db")
    with pytest.raises(MigrationError, match="same store"):
        await move("old.db", "link.db")
    with pytest.raises(MigrationError, match="in memory lives in one process"):
        await move("old.db", "memory://")
    with pytest.raises(MigrationError, match=r"there is no sqlite .*nosuch\.db"):
        await move("nosuch.db", "new.db")
    assert not (tmp_path / "nosuch.db").exists()
    assert not (tmp_path / "new.db").exists()
    assert await q.task_queue.get_task(MOVE) is None
    await move("old.db", "new.db")
    with pytest.raises(MigrationError, match="moves to another store already"):
        await move("old.db", "newer.db")
    with pytest.raises(MigrationError, match="is being moved, or has been"):
        await migrate("old.db", "newer.db")
    assert (await move("old.db", "new.db")).was_done


async def test_a_second_mover_waits_and_is_refused(q: OmniQ, tmp_path: Path) -> None:
    """While the first holds the mark."""
    await q.enqueue("f")
    place = {"backend_type": "sqlite", "config": {"database_path": str(tmp_path / "new.db")}}
    names = ("task_queue", "result_storage", "event_storage", "schedule_storage")
    target = {f"{name}_backend": {**place, "url": None} for name in names}
    async with SQLiteBackend("old.db") as raw:
        queue = raw.get_task_queue()
        await queue.insert([marker_task(target, {"tasks": "with tasks"})])
        await queue.claim([MOVE], worker_id="other", lease_token="t", lease_seconds=60)

    with pytest.raises(MigrationError, match="is being moved by another process"):
        await move("old.db", "new.db")


def test_a_mark_of_another_kind_is_told() -> None:
    """A later version may write it differently."""
    task = marker_task({}, {})
    assert read_marker(task) == Marker({}, {})
    task.metadata = {"elsewhere": 1}
    with pytest.raises(ConfigError, match="cannot be read"):
        read_marker(task)


def in_another_program(act: Callable[[], object]) -> None:
    """Do something while the mover stands still: in a thread, as its event loop is held."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(act).result()


async def test_a_schedule_saved_by_a_program_that_just_started_is_not_left(q: OmniQ) -> None:
    """It saves it where it was, as others may not know of the move yet; the mover looks again."""
    handle = await q.enqueue("f")
    await q.cancel(handle.id)
    saved: list[str] = []

    def save() -> None:
        with SQLiteBackend("old.db") as raw:
            schedule = Schedule(schedule_type=ScheduleType.INTERVAL, func="f", interval_seconds=60)
            saved.append(raw.get_schedule_storage().save_schedule_sync(schedule).id)

    def tell(kind: str, done: int, total: int | None) -> None:
        if kind == "finished tasks" and not saved:  # the schedules were taken along long before
            in_another_program(save)

    moved = await move("old.db", "new.db", progress=tell)

    assert moved.schedules == 1
    assert [item.id for item in await q.schedule_storage.list_schedules()] == saved


async def test_schedules_stay_in_use_until_everybody_knows(q: OmniQ) -> None:
    """Then they are taken along, wherever the mover is."""
    await q.enqueue("f")
    schedule = await q.schedule("f", every=60)
    seen: list[bool] = []

    def look() -> None:
        with OmniQ("sqlite:///old.db") as started, SQLiteBackend("old.db") as raw:
            assert started.schedule_storage.get_schedule_sync(schedule.id) is not None
            here = raw.get_schedule_storage().get_schedule_sync(schedule.id)
            seen.append(here is not None)

    def tell(kind: str, done: int, total: int | None) -> None:
        if kind == "settling" or (kind == "tasks" and len(seen) == 1):
            in_another_program(look)

    await move("old.db", "new.db", progress=tell)

    assert seen == [True, False]


async def test_an_application_reads_the_mark_once_in_a_while(
    q: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more question at each call would be felt."""
    monkeypatch.setattr(times, "VALID_SECONDS", 60.0)
    asked: list[list[str]] = []
    queue: BaseQueue = q.task_queue
    get = queue._get  # pyright: ignore[reportPrivateUsage] - what the store is asked

    async def counting(task_ids: list[str]) -> Any:
        asked.append(task_ids)
        return await get(task_ids)

    monkeypatch.setattr(queue, "_get", counting)
    for _ in range(50):
        await q.enqueue("f")

    assert isinstance(queue.watch, Follower)
    assert asked.count([MOVE]) <= 1
