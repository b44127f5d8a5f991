"""Tasks go from one queue to another, whatever dies on the way, and each runs exactly once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from omniq import RetryPolicy
from omniq.backend.memory import MemoryBackend
from omniq.clock import utcnow
from omniq.models import Task, TaskStatus
from omniq.moving.parking import is_mark
from omniq.moving.queue import MovingQueue
from omniq.moving.transfer import Transfer
from omniq.storage.base import BaseQueue
from tests.integration.test_migration import PAIRS
from tests.integration.test_migration import backend as store
from tests.moving.dying import DiedError, die_at, live_again

LATER = utcnow() + timedelta(hours=1)
WRITES = ("_insert", "_swap")


async def fill(queue: BaseQueue) -> set[str]:
    """Store tasks in every state, and families of several generations; return their ids."""
    retry = RetryPolicy(max_retries=3, delay_seconds=1800)
    tasks = [
        Task(func="f", id="parent", unique_key="one"),
        Task(func="f", id="late-parent", run_at=LATER, args=(1, LATER)),
        Task(func="f", id="runs", retry=RetryPolicy(max_retries=1)),
        Task(func="f", id="retrying", retry=retry),
        Task(func="f", id="paused", queue_name="paused", priority=7),
        Task(func="f", id="child", depends_on=("parent", "runs")),
        Task(func="f", id="late-child", depends_on=("late-parent",), unique_key="two"),
        Task(func="f", id="grandchild", depends_on=("child", "late-child", "parent")),
        Task(func="f", id="freed", depends_on=("parent",), on_parent_failure="release"),
        *[Task(func="f", id=f"plain-{n}", created_at=utcnow()) for n in range(5)],
    ]
    await queue.enqueue_many(tasks)
    await queue.set_paused("paused", True)
    claimed = await queue.lock_task("retrying")
    assert claimed is not None
    await queue.fail(claimed, "once")
    return {task.id for task in tasks}


async def run_all(queue: BaseQueue, runs: Counter[str]) -> None:
    """Run all that is claimable, an hour from now, until nothing is."""
    while claimed := await queue.claim(
        ["default", "paused"],
        worker_id="w",
        lease_token="t",
        limit=3,
        lease_seconds=7200,
        now=LATER + timedelta(minutes=1),
    ):
        for task in claimed:
            runs[task.id] += 1
            await queue.complete(task)


async def claimable(queue: BaseQueue) -> set[str]:
    """The ids of what a worker could take now or later."""
    free = {TaskStatus.PENDING, TaskStatus.SCHEDULED}
    return {t.id for t in await queue.list_tasks() if t.status in free and not is_mark(t)}


async def die_and_go_on(step: int, *, after: bool) -> bool:
    """Let the mover die at this write, if there is one; all must be as if it had not."""
    here, there = MemoryBackend().get_task_queue(), MemoryBackend().get_task_queue()
    ids = await fill(here)
    running = await here.lock_task("runs", lease_seconds=9000)
    assert running is not None
    has_died = die_at(step, WRITES, here, there, after=after)
    with suppress(DiedError):
        mover = Transfer(here, there)
        await mover.recover()
        await mover.pass_over()
    live_again(WRITES, here, there)

    assert not await claimable(here) & await claimable(there)
    both, runs = MovingQueue(here, there), Counter({"runs": 1})
    await run_all(both, runs)
    await both.complete(running)
    await both.set_paused("paused", False)
    second = Transfer(here, there)
    await second.recover()
    while await second.pass_over():
        await run_all(both, runs)
    await second.all_final(lambda seen, total: None)
    await run_all(there, runs)
    assert runs == Counter(ids), f"died {'after' if after else 'before'} write {step}"
    statuses = {task.id: task.status for task in await there.list_tasks()}
    assert statuses == dict.fromkeys(ids, TaskStatus.COMPLETED)
    assert await claimable(here) == set()
    return has_died()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_mover_that_dies_at_any_write_loses_and_doubles_nothing(after: bool) -> None:
    """Workers go on over both stores; another mover takes up where it was."""
    step = 1
    while await die_and_go_on(step, after=after):
        step += 1

    assert step > 8


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def test_every_store_can_be_left_and_moved_to(here: str, there: str, tmp_path: Path) -> None:
    """Moments, attempts, families and keys are what they were."""
    source, target = store(here, tmp_path), store(there, tmp_path)
    old, new = source.get_task_queue(), target.get_task_queue()
    ids = await fill(old)
    before = {task.id: task for task in await old.list_tasks()}
    mover = Transfer(old, new)

    assert await mover.pass_over() == 0

    assert not mover.stuck
    assert mover.moved == len(ids)
    after = {task.id: task for task in await new.list_tasks()}
    for task_id, task in before.items():
        assert after[task_id] == task, task_id
    assert await claimable(old) == set()
    runs: Counter[str] = Counter()
    await run_all(new, runs)
    assert runs == Counter(ids)
    assert await mover.pass_over() == 0
    await source.disconnect()
    await target.disconnect()
