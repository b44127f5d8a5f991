"""Before everybody knows of a move, and after its mover is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq import EventType, NotFoundError, OmniQ, Task, TaskEvent, TaskStatus
from omniq.backend.memory import MemoryBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.clock import utcnow
from omniq.migration import MigrationError, move
from omniq.migration.places import address
from omniq.models.finding import Finding, Level
from omniq.moving import times
from omniq.moving.marker import marker_task, read_marker, settled
from omniq.moving.parking import MOVE, parked, stub
from omniq.moving.queue import MovingQueue
from omniq.moving.watch import Follower
from omniq.storage.base import BaseQueue, Change, Inserted
from omniq.testing.waiting import wait_until
from tests.integration.test_migration import PAIRS
from tests.integration.test_migration import backend as store

pytestmark = pytest.mark.usefixtures("hurry")
PLACES: dict[str, str] = dict.fromkeys(("tasks", "results", "events", "schedules"), "with tasks")


@pytest.fixture
async def unaware() -> AsyncIterator[SQLiteBackend]:
    """The source, used by somebody who has not heard of the move."""
    async with SQLiteBackend("old.db", durability="fast") as backend:
        yield backend


@pytest.fixture
async def target() -> AsyncIterator[SQLiteBackend]:
    async with SQLiteBackend("new.db", durability="fast") as backend:
        yield backend


async def mark(queue: BaseQueue) -> None:
    """Mark the source as a mover does that is then heard of no more."""
    await queue.insert([marker_task(address("sqlite:///new.db?durability=fast"), PLACES)])


async def settle(queue: BaseQueue) -> None:
    """Say that everybody knows, and die."""
    claimed = await queue.claim([MOVE], worker_id="mover", lease_token="t", lease_seconds=0.001)
    assert await queue.swap([Change(claimed[0], settled(claimed[0]))]) == [True]


async def knows(q: OmniQ) -> None:
    """Wait until an application has seen the mark, or what has changed of it."""
    watch = q.task_queue.watch
    assert isinstance(watch, Follower)

    async def has_seen() -> bool:
        await q.counts()
        return watch._marker is not None  # pyright: ignore[reportPrivateUsage]

    await wait_until(has_seen, description="the mark is seen")


async def test_who_does_not_know_of_the_move_finds_what_is_new(
    q: OmniQ, unaware: SQLiteBackend
) -> None:
    """A new task would look cancelled to it, its child would be, and its key would be free."""
    queue = unaware.get_task_queue()
    await mark(queue)
    await knows(q)

    await q.task_queue.enqueue(Task(func="f", id="new", unique_key="k"))

    seen = await queue.get_task("new")
    assert seen is not None
    assert seen.status is TaskStatus.PENDING
    assert await queue.enqueue(Task(func="f", unique_key="k")) == "new"
    await queue.enqueue(Task(func="f", id="child", depends_on=("new",)))
    child = await queue.get_task("child")
    assert child is not None
    assert child.status is TaskStatus.WAITING


async def test_who_does_not_know_of_the_move_finds_results_and_events(
    q: OmniQ, unaware: SQLiteBackend
) -> None:
    """Its handle would say that a result is gone which is only elsewhere."""
    queue = unaware.get_task_queue()
    handle = await q.enqueue("f")
    await mark(queue)
    await knows(q)

    claimed = await q.task_queue.dequeue()
    assert claimed is not None
    await q.result_storage.store_result(handle.id, "done")
    await q.task_queue.complete(claimed)
    await q.event_storage.append([TaskEvent(task_id=handle.id, event_type="NOTED")])

    assert await unaware.get_result_storage().get_result(handle.id) == "done"
    events = await unaware.get_event_storage().get_events(handle.id)
    assert [event.event_type for event in events] == [EventType.ENQUEUED, "NOTED"]


async def test_a_retry_stays_in_the_source_until_everybody_knows(
    q: OmniQ, unaware: SQLiteBackend, target: SQLiteBackend
) -> None:
    """Who does not know could retry it there as well: it would run twice."""
    queue = unaware.get_task_queue()
    handle = await q.enqueue("f")
    await q.cancel(handle.id)
    await mark(queue)
    await knows(q)

    await q.retry(handle.id)

    seen = await queue.get_task(handle.id)
    assert seen is not None
    assert seen.status is TaskStatus.PENDING
    assert await target.get_task_queue().get_task(handle.id) is None


async def test_new_tasks_go_to_the_target_once_everybody_knows(
    q: OmniQ, unaware: SQLiteBackend, target: SQLiteBackend
) -> None:
    """At once, whatever an application knew a moment before."""
    queue = unaware.get_task_queue()
    await mark(queue)
    await knows(q)
    await settle(queue)

    new = await q.enqueue("f")

    seen = await target.get_task_queue().get_task(new.id)
    assert seen is not None
    assert seen.status is TaskStatus.PENDING


async def test_what_is_stored_while_the_move_settles_is_taken_over_by_who_stored_it(
    q: OmniQ, unaware: SQLiteBackend, target: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mover may have looked for new tasks just before."""
    queue = unaware.get_task_queue()
    await mark(queue)
    await knows(q)
    write = q.task_queue._insert  # pyright: ignore[reportPrivateUsage] - what is slow is the store

    async def slow(*arguments: Any) -> list[Inserted]:
        await settle(queue)
        return await write(*arguments)

    monkeypatch.setattr(q.task_queue, "_insert", slow)

    new = await q.enqueue("f")

    seen = await target.get_task_queue().get_task(new.id)
    assert seen is not None
    assert seen.status is TaskStatus.PENDING


@pytest.mark.parametrize("here", sorted({pair[0] for pair in PAIRS}))
async def test_that_everybody_knows_outlives_the_mover(here: str, tmp_path: Path) -> None:
    """Who starts while the next mover does would use what the others have left."""
    source = store(here, tmp_path)
    async with source:
        queue = source.get_task_queue()
        await mark(queue)
        await settle(queue)
        seen = read_marker(await queue.get_task(MOVE))
        assert seen is not None
        assert seen.is_settled
        assert seen.held_until is not None

        async def is_taken_over() -> bool:
            claimed = await queue.claim([MOVE], worker_id="next", lease_token="u")
            return bool(claimed)

        await wait_until(is_taken_over, description="the lease of the dead mover is over")

        seen = read_marker(await queue.get_task(MOVE))
        assert seen is not None
        assert seen.is_settled


async def leave_in_transit(here: BaseQueue, there: BaseQueue, task_id: str) -> None:
    """Die between the second step and the third."""
    task = await here.get_task(task_id)
    assert task is not None
    await there.insert([parked(task)])
    assert await here.swap([Change(task, stub(task, utcnow()))]) == [True]


async def test_an_idle_worker_lets_go_of_what_a_dead_mover_left(
    q: OmniQ, unaware: SQLiteBackend, target: SQLiteBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Such tasks were out of reach of all, till somebody started the move again."""
    here, there = unaware.get_task_queue(), target.get_task_queue()
    first = await q.enqueue("f")
    await mark(here)
    await settle(here)
    await leave_in_transit(here, there, first.id)

    async def is_free() -> bool:
        await q.task_queue.wait(["default"], 0.01)
        task = await there.get_task(first.id)
        return task is not None and task.status is TaskStatus.PENDING

    with caplog.at_level(logging.WARNING):
        await wait_until(is_free, description="the task is let go")
    assert "is gone; what it left in transit goes on" in caplog.text
    seen = read_marker(await here.get_task(MOVE))
    assert seen is not None
    assert seen.is_settled
    assert seen.claim == 1  # a mover that was only slow goes on


async def test_whoever_looks_for_a_task_in_transit_lets_go_of_it() -> None:
    """A cancel would otherwise find no task to change, a handle wait for a dead mover."""
    here, there = MemoryBackend().get_task_queue(), MemoryBackend().get_task_queue()
    both = MovingQueue(here, there)
    await here.enqueue(Task(func="f", id="a"))
    await leave_in_transit(here, there, "a")

    cancelled = await both.cancel("a")

    assert cancelled.status is TaskStatus.CANCELLED
    task = await there.get_task("a")
    assert task == cancelled


async def test_a_waiting_task_in_transit_is_shown_as_one_that_waits() -> None:
    """It is in neither store, but not gone."""
    here, there = MemoryBackend().get_task_queue(), MemoryBackend().get_task_queue()
    await here.enqueue_many([Task(func="f", id="a"), Task(func="f", id="b", depends_on=("a",))])
    task = await here.get_task("b")
    assert task is not None
    await here.swap([Change(task, stub(task, utcnow()))])

    assert await MovingQueue(here, there).get_task("b") == task


async def test_a_task_that_was_deleted_after_it_moved_is_gone() -> None:
    """What is left of it in the source looked like a task that waits for a worker, for ever."""
    here, there = MemoryBackend().get_task_queue(), MemoryBackend().get_task_queue()
    both = MovingQueue(here, there)
    await here.enqueue(Task(func="f", id="a"))
    task = await here.get_task("a")
    assert task is not None
    await both._transfer.claimable([task])  # pyright: ignore[reportPrivateUsage]
    claimed = await both.dequeue()
    assert claimed is not None
    await both.complete(claimed)

    assert await both.cleanup_expired_tasks(utcnow() + timedelta(seconds=1)) == 1

    assert await both.get_task("a") is None
    with pytest.raises(NotFoundError):
        await both.cancel("a")


async def test_a_queue_resumed_while_the_mover_copies_that_it_is_paused_runs(
    q: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be paused again, by nobody."""
    await q.enqueue("f")
    await q.pause_queue("held")
    set_paused, seen = BaseQueue.set_paused, list[bool]()

    async def meanwhile(queue: BaseQueue, name: str, paused: bool) -> None:
        if paused and not seen:
            seen.append(paused)
            await q.resume_queue("held")
        await set_paused(queue, name, paused)

    monkeypatch.setattr(BaseQueue, "set_paused", meanwhile)

    await move("old.db", "new.db")

    assert seen == [True]
    assert await q.paused_queues() == set()


async def moving_findings(q: OmniQ) -> list[Finding]:
    return [item for item in await q.findings() if "new.db" in item.text or "half way" in item.text]


async def test_the_doctor_tells_how_far_a_move_is(
    q: OmniQ, unaware: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At work, gone, given up, or over with an old configuration left."""
    queue = unaware.get_task_queue()
    await q.enqueue("f")
    assert await moving_findings(q) == []
    await mark(queue)
    assert [item.level for item in await moving_findings(q)] == [Level.RISK]
    claimed = await queue.claim([MOVE], worker_id="mover", lease_token="t", lease_seconds=60)
    assert [item.level for item in await moving_findings(q)] == [Level.FINE]
    await queue.heartbeat(claimed[0], lease_seconds=0.0)

    async def is_told() -> bool:
        found = await moving_findings(q)
        return [item.level for item in found] == [Level.BROKEN] and "move" in found[0].hint

    await wait_until(is_told, description="the doctor tells that the mover is gone")
    await move("old.db", "sqlite:///new.db?durability=fast")

    assert [(item.level, "has moved to" in item.text) for item in await moving_findings(q)] == [
        (Level.RISK, True)
    ]


async def test_a_mover_that_is_interrupted_leaves_the_mark_to_the_next_at_once(
    q: OmniQ, unaware: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And to the workers: tasks may be in transit, as with one that was killed."""
    monkeypatch.setattr(times, "LEASE_SECONDS", 60.0)
    await q.enqueue("f")

    def interrupt(kind: str, done: int, total: int | None) -> None:
        if kind == "tasks":
            raise MigrationError("enough")

    with pytest.raises(MigrationError, match="enough"):
        await move("old.db", "sqlite:///new.db?durability=fast", progress=interrupt)

    seen = read_marker(await unaware.get_task_queue().get_task(MOVE))
    assert seen is not None
    assert seen.held_until is not None
    assert seen.held_until <= utcnow()
    async with asyncio.timeout(20):
        assert not (await move("old.db", "sqlite:///new.db?durability=fast")).was_done
