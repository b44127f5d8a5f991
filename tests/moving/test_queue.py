"""Two queues as one: who has an id or a key, and who waits for whom, over both."""

from __future__ import annotations

from datetime import timedelta

import pytest

from omniq import DuplicateTaskError, StorageError, TaskExistsError
from omniq.clock import utcnow
from omniq.models import Task, TaskStatus
from omniq.moving.parking import FAR, is_mark, parked, restored, stub, token
from omniq.moving.queue import MovingQueue
from omniq.moving.transfer import Transfer
from omniq.storage.base import BaseQueue, Change
from tests.moving.dying import status_of


async def test_new_tasks_go_to_the_target(both: MovingQueue, there: BaseQueue) -> None:
    """What they leave in the source is no task to anybody."""
    await both.enqueue(Task(func="f", id="a"))

    assert await status_of(there, "a") is TaskStatus.PENDING
    assert [task.id for task in await both.list_tasks()] == ["a"]
    assert await both.counts() == {"default": {TaskStatus.PENDING: 1}}


async def test_an_id_of_the_source_is_taken(both: MovingQueue, here: BaseQueue) -> None:
    """Running, finished or waiting."""
    await here.enqueue(Task(func="f", id="a"))

    with pytest.raises(TaskExistsError):
        await both.enqueue(Task(func="g", id="a"))


async def test_a_key_is_held_over_both(both: MovingQueue, here: BaseQueue) -> None:
    """Whoever holds it wherever stands for the new task, until it ends."""
    await here.enqueue(Task(func="f", id="old", unique_key="k"))

    assert await both.enqueue(Task(func="f", id="new", unique_key="k")) == "old"
    claimed = await both.dequeue()
    assert claimed is not None
    await both.complete(claimed)
    assert await both.enqueue(Task(func="f", id="newer", unique_key="k")) == "newer"
    assert await both.enqueue(Task(func="f", id="newest", unique_key="k")) == "newer"


async def test_somebody_who_has_not_heard_of_the_move_meets_the_same_key(
    both: MovingQueue, here: BaseQueue, there: BaseQueue
) -> None:
    """It asks the source alone; and between token and task, a token stands there."""
    task = Task(func="f", id="new", unique_key="k")
    await here.insert([token(task)])

    assert await here.enqueue(Task(func="f", id="stale", unique_key="k")) == "new"
    assert await both.enqueue(Task(func="f", id="newer", unique_key="k")) == "newer"
    assert await there.enqueue(task) == "newer"


async def test_what_is_stored_is_acknowledged_though_its_token_stays(
    both: MovingQueue, here: BaseQueue, there: BaseQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told that it failed, a program would store the task once more."""

    async def fail(*_: object) -> list[bool]:
        raise StorageError("the store is away")

    monkeypatch.setattr(here, "_swap", fail)

    await both.enqueue(Task(func="f", id="a", unique_key="k"))

    assert await status_of(there, "a") is TaskStatus.PENDING
    assert await both.enqueue(Task(func="f", id="b", unique_key="k")) == "a"


async def test_a_child_of_a_running_parent_waits_in_the_target(
    both: MovingQueue, here: BaseQueue, there: BaseQueue
) -> None:
    """The end of the parent in the source releases it there, without the mover."""
    await here.enqueue(Task(func="f", id="parent"))
    parent = await both.dequeue()
    assert parent is not None
    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))

    assert await status_of(there, "child") is TaskStatus.WAITING
    assert await status_of(both, "parent") is TaskStatus.RUNNING
    assert (await both.counts())["default"][TaskStatus.RUNNING] == 1
    await both.complete(parent)
    assert await status_of(there, "child") is TaskStatus.PENDING
    assert await status_of(both, "parent") is TaskStatus.COMPLETED


async def test_a_child_of_a_finished_parent_runs(both: MovingQueue, here: BaseQueue) -> None:
    """The target is told of the parent first, or it would cancel the child."""
    await here.enqueue(Task(func="f", id="parent"))
    claimed = await here.dequeue()
    assert claimed is not None
    await here.complete(claimed)

    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))

    assert await status_of(both, "child") is TaskStatus.PENDING


async def test_a_child_of_a_waiting_parent_takes_the_family_along(
    both: MovingQueue, here: BaseQueue, there: BaseQueue
) -> None:
    """A waiting task has no parked copy that could stand in for it."""
    await here.enqueue(Task(func="f", id="root"))
    await here.enqueue(Task(func="f", id="parent", depends_on=("root",)))

    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))

    assert await status_of(there, "parent") is TaskStatus.WAITING
    for task_id in ("root", "parent", "child"):
        claimed = await both.dequeue()
        assert claimed is not None
        assert claimed.id == task_id
        await both.complete(claimed)


async def test_what_is_finished_in_the_source_is_retried_in_the_target(
    both: MovingQueue, here: BaseQueue, there: BaseQueue
) -> None:
    """Finished tasks of the source never change, so that they can be copied at any time."""
    await here.enqueue(Task(func="f", id="a", unique_key="k"))
    await here.cancel("a")

    await both.retry_task("a")

    assert await status_of(here, "a") is TaskStatus.CANCELLED
    assert await status_of(there, "a") is TaskStatus.PENDING
    assert await status_of(both, "a") is TaskStatus.PENDING
    await both.cancel("a")
    await here.enqueue(Task(func="f", id="b", unique_key="k"))
    await there.enqueue(Task(func="f", id="c", unique_key="k"))
    with pytest.raises(DuplicateTaskError):
        await both.retry_task("a")


async def test_changes_meant_for_a_task_never_match_its_marks(
    both: MovingQueue, here: BaseQueue, there: BaseQueue
) -> None:
    """A parked copy that was cancelled would be a lost task, a stub that was retried a double."""
    await here.enqueue(Task(func="f", id="a", run_at=utcnow() + timedelta(hours=1)))
    before = (await here.get(["a"]))[0]
    assert before is not None
    await there.insert([parked(before)])

    cancelled = await both.cancel("a")

    assert cancelled.status is TaskStatus.CANCELLED
    assert await status_of(here, "a") is TaskStatus.CANCELLED
    copy_there = await there.get_task("a")
    assert copy_there is not None
    assert copy_there.status is TaskStatus.CANCELLED  # told, as one that waits would want to know
    assert not is_mark(copy_there)


async def test_a_worker_that_comes_first_keeps_the_task(here: BaseQueue, there: BaseQueue) -> None:
    """The parked copy waits for the next attempt of the mover, and is brought up to date then."""
    await here.enqueue(Task(func="f", id="a"))
    before = (await here.get(["a"]))[0]
    assert before is not None
    claimed = await here.dequeue()
    assert claimed is not None

    assert await Transfer(here, there).claimable([before]) == 0
    assert await there.claim(["default"], worker_id="w", lease_token="t") == []
    await here.snooze(claimed, 3600)
    assert await Transfer(here, there).pass_over() == 0
    moved = await there.get_task("a")
    assert moved is not None
    assert (moved.status, moved.claim_count, moved.error) == (TaskStatus.SCHEDULED, 1, "snoozed")


async def test_a_task_whose_id_or_key_the_target_has_runs_in_the_source(
    here: BaseQueue, there: BaseQueue
) -> None:
    """It is named, and moves as soon as it can."""
    await here.enqueue(Task(func="f", id="a", unique_key="k"))
    await here.enqueue(Task(func="f", id="b"))
    await there.enqueue(Task(func="f", id="other", unique_key="k"))
    await there.enqueue(Task(func="g", id="b"))
    mover = Transfer(here, there)

    assert await mover.pass_over() == 2

    assert mover.stuck == {
        "a": "task other of the target holds its unique key",
        "b": "the target has another task of this id",
    }
    await there.cancel("other")
    assert await mover.pass_over() == 1
    assert await status_of(there, "a") is TaskStatus.PENDING
    assert await status_of(here, "b") is TaskStatus.PENDING


async def test_two_movers_at_once_do_no_harm(here: BaseQueue, there: BaseQueue) -> None:
    """One may have lost its lease without knowing."""
    await here.enqueue(Task(func="f", id="a"))
    before = (await here.get(["a"]))[0]
    assert before is not None
    first, second = Transfer(here, there), Transfer(here, there)
    await first.claimable([before])
    claimed = await there.dequeue()
    assert claimed is not None

    assert await second.claimable([before]) == 0
    await second.recover()

    assert await status_of(there, "a") is TaskStatus.RUNNING


def test_what_a_stub_remembers_is_the_task() -> None:
    """All but the lease of somebody who was lost."""
    later = utcnow() + timedelta(hours=1)
    plain = Task(func="f", id="a", args=(1,), priority=3)
    delayed = Task(func="f", id="b", status=TaskStatus.SCHEDULED, due_at=later, attempt=2)
    lost = Task(func="f", id="c", status=TaskStatus.RUNNING, due_at=later, lease_token="t")

    assert restored(stub(plain, later)) == plain
    assert restored(stub(delayed, later)) == delayed
    assert restored(stub(lost, later)).lost_leases == 1
    assert parked(delayed).due_at == FAR
    assert Change(plain, stub(plain, later)).after.is_final
