"""Families that move: nobody runs before the parents it waits for, whatever comes in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from omniq import StorageError, lifecycle
from omniq.clock import utcnow
from omniq.models import Task, TaskStatus
from omniq.moving.queue import MovingQueue
from omniq.moving.transfer import Transfer
from omniq.storage.base import BaseQueue, Change
from tests.moving.dying import DiedError, die_at, live_again, status_of

Step = Callable[[], Awaitable[object]]


def chain(*names: str) -> list[Task]:
    """Tasks each of which waits for the one before."""
    parents = ((), *((name,) for name in names))
    return [Task(func="f", id=n, depends_on=p) for n, p in zip(names, parents, strict=False)]


def before(queue: BaseQueue, write: str, number: int, step: Step) -> None:
    """Let something happen just before the n-th call of a primitive."""
    plain = getattr(queue, write)
    left = [number]

    async def call(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            await step()
        return await plain(*arguments)

    setattr(queue, write, call)


async def run_in_order(queue: BaseQueue) -> list[str]:
    """Run all there is, one by one; return the ids in the order they ran."""
    ran: list[str] = []
    while claimed := await queue.dequeue():
        ran.append(claimed.id)
        await queue.complete(claimed)
    return ran


@pytest.mark.parametrize("swap", [1, 2, 3])
async def test_a_parent_that_is_let_go_meanwhile_is_waited_for(
    swap: int, here: BaseQueue, there: BaseQueue
) -> None:
    """Its child may have crossed already, as children cross first."""
    await here.enqueue_many(chain("a", "b", "c", "d"))
    running = await here.dequeue()
    assert running is not None
    before(here, "_swap", swap, lambda: here.complete(running))

    mover = Transfer(here, there)
    await mover.waiting()

    both = MovingQueue(here, there)
    if await status_of(here, "a") is TaskStatus.RUNNING:
        await both.complete(running)
    first = await both.dequeue()
    assert first is not None
    assert first.id == "b"
    assert await both.dequeue() is None
    await both.complete(first)
    await mover.pass_over()
    assert await run_in_order(both) == ["c", "d"]


async def running_parent(here: BaseQueue, both: MovingQueue) -> Task:
    """Return a parent that runs in the source; its child waits in the target."""
    await here.enqueue(Task(func="f", id="parent"))
    parent = await both.dequeue()
    assert parent is not None
    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))
    return parent


async def claimed_since(here: BaseQueue) -> tuple[Task, Task]:
    """Return a task with a key as a mover read it, and as a worker has claimed it since."""
    await here.enqueue(Task(func="f", id="old", unique_key="k"))
    read = (await here.get(["old"]))[0]
    claimed = await here.dequeue()
    assert read is not None
    assert claimed is not None
    return read, claimed


async def test_a_child_waits_for_a_parent_the_target_will_not_take(
    here: BaseQueue, there: BaseQueue
) -> None:
    """Its key is held there: parent and child cross when it is free."""
    await there.enqueue(Task(func="f", id="other", queue_name="q", unique_key="k"))
    await here.enqueue(Task(func="f", id="root"))
    await here.enqueue(
        Task(func="f", id="parent", queue_name="q", unique_key="k", depends_on=("root",))
    )
    await here.enqueue(Task(func="f", id="child", depends_on=("parent",)))
    mover = Transfer(here, there)

    assert await mover.pass_over() == 2

    assert await run_in_order(there) == ["root"]
    assert set(mover.stuck) == {"parent", "child"}
    await there.cancel("other")
    assert await mover.pass_over() == 0
    assert await status_of(there, "child") is TaskStatus.WAITING
    assert not mover.stuck


@pytest.mark.parametrize("step", range(1, 7))
async def test_a_new_child_finds_a_family_whose_mover_died(
    step: int, here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """Its parent's parents may be on their way as well."""
    await here.enqueue_many(chain("a", "b", "c"))
    die_at(step, ("_insert", "_swap"), here, there, after=True)
    with pytest.raises(DiedError):
        await Transfer(here, there).waiting()
    live_again(("_insert", "_swap"), here, there)

    await both.enqueue(Task(func="f", id="d", depends_on=("c",)))

    second = Transfer(here, there)
    await second.recover()
    await second.pass_over()
    assert await run_in_order(both) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("number", range(1, 5))
async def test_a_parent_that_ends_while_its_new_child_is_stored_releases_it(
    number: int, here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """It may end before there is a copy of it that could be told."""
    await here.enqueue(Task(func="f", id="parent"))
    parent = await both.dequeue()
    assert parent is not None
    before(here, "_get", number, lambda: both.complete(parent))

    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))

    if await status_of(both, "parent") is TaskStatus.RUNNING:
        await both.complete(parent)
    assert await status_of(there, "child") is TaskStatus.PENDING


async def test_a_child_of_a_parent_that_cannot_cross_is_refused(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """Stored without it, it would be cancelled at once."""
    await there.enqueue(Task(func="f", id="other", unique_key="k"))
    await here.enqueue(Task(func="f", id="parent", unique_key="k"))

    with pytest.raises(StorageError, match="holds its unique key; try again"):
        await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))

    assert await both.get_task("child") is None
    await there.cancel("other")
    await both.enqueue(Task(func="f", id="child", depends_on=("parent",)))
    assert await run_in_order(both) == ["parent", "child"]


async def test_a_child_keeps_the_names_of_the_parents_that_ended(
    here: BaseQueue, there: BaseQueue
) -> None:
    """What it waited for is part of the request."""
    await here.enqueue_many(
        [Task(func="f", id=name) for name in ("first", "second")]
        + [Task(func="f", id="child", depends_on=("first", "second"))]
    )
    claimed = await here.lock_task("first")
    assert claimed is not None
    await here.complete(claimed)

    assert await Transfer(here, there).pass_over() == 0

    child = await there.get_task("child")
    assert child is not None
    assert child.depends_on == ("first", "second")
    assert await run_in_order(there) == ["second", "child"]


async def test_the_end_of_a_parent_is_told_by_whoever_hears_of_it_again(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """The reply to its end got lost, and so did telling the target; the worker asks once more."""
    parent = await running_parent(here, both)
    end = Change(parent, lifecycle.settle(parent, lifecycle.Completed(), utcnow()))
    die_at(1, ("_swap",), here, after=True)
    with pytest.raises(DiedError):
        await both.swap([end])
    live_again(("_swap",), here)

    assert await both.swap([end]) == [False]

    assert await status_of(there, "child") is TaskStatus.PENDING


async def test_a_new_child_of_a_parent_nobody_told_of_runs(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """It would wait for a copy that nobody changes any more."""
    parent = await running_parent(here, both)
    await here.complete(parent)

    await both.enqueue(Task(func="f", id="late", depends_on=("parent",)))

    assert await status_of(there, "late") is TaskStatus.PENDING
    assert await status_of(there, "child") is TaskStatus.PENDING


async def test_another_mover_tells_of_the_ends_nobody_told(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """The worker died between the end in the source and the word to the target."""
    parent = await running_parent(here, both)
    await here.complete(parent)

    await Transfer(here, there).recover()

    assert await status_of(there, "child") is TaskStatus.PENDING


async def test_a_mover_tells_of_tasks_it_came_too_late_for(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """A worker came first and died at the end: the copy would hold the key till all is moved."""
    read, claimed = await claimed_since(here)
    mover = Transfer(here, there)
    assert await mover.claimable([read]) == 0
    await here.complete(claimed)

    assert await mover.pass_over() == 0

    assert await status_of(there, "old") is TaskStatus.COMPLETED


async def test_a_key_is_not_held_by_the_copy_of_a_task_that_ended(
    here: BaseQueue, there: BaseQueue, both: MovingQueue
) -> None:
    """A new task would be taken for one that is over, and never run."""
    read, claimed = await claimed_since(here)
    await Transfer(here, there).claimable([read])
    await here.complete(claimed)

    assert await both.enqueue(Task(func="f", id="new", unique_key="k")) == "new"
    assert await both.enqueue(Task(func="f", id="newer", unique_key="k")) == "new"
