"""The slots of a worker: who runs, who waits, and when to claim ahead."""

from __future__ import annotations

import asyncio

import pytest

from omniq import lifecycle
from omniq.hooks import Hooks
from omniq.models.task import Task
from omniq.worker.executor import Callee, Executor
from omniq.worker.runs import Run, StopReason
from omniq.worker.slots import SHORT_SECONDS, Slots


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run() -> Run:
    return Run(Task(func="app.work"), trusted_until=1e9)


async def execute(slots: Slots, clock: Clock, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        entered_at = await slots.enter(run())
        clock.now += seconds
        slots.leave(entered_at)


async def test_only_short_tasks_are_claimed_ahead() -> None:
    """At first nothing is known; a few long tasks end it again."""
    clock = Clock()
    slots = Slots(10, clock)
    assert slots.room == 10

    await execute(slots, clock, SHORT_SECONDS / 10, times=200)
    assert slots.room == 20

    await execute(slots, clock, 1.0)
    assert slots.room == 10


async def test_never_more_than_so_many_at_once_and_in_order() -> None:
    """A slot goes on to whoever has waited longest."""
    slots, order, inside = Slots(3), list[int](), 0

    async def work(number: int) -> None:
        nonlocal inside
        entered_at = await slots.enter(run())
        inside += 1
        assert inside <= 3
        order.append(number)
        await asyncio.sleep(0)
        inside -= 1
        slots.leave(entered_at)

    await asyncio.gather(*map(work, range(20)))

    assert order == list(range(20))


@pytest.mark.parametrize("given", [False, True], ids=["waiting", "just given"])
async def test_who_is_cancelled_takes_no_slot_along(given: bool) -> None:
    """Neither while it waits, nor when the slot was given in the same moment."""
    slots = Slots(1)
    entered_at = await slots.enter(run())
    first, second = (asyncio.create_task(slots.enter(run())) for _ in range(2))
    await asyncio.sleep(0)

    if given:
        slots.leave(entered_at)
    first.cancel()
    if not given:
        slots.leave(entered_at)

    slots.leave(await second)
    assert first.cancelled()
    again = await asyncio.wait_for(slots.enter(run()), 5)
    late = asyncio.create_task(slots.enter(run()))
    await asyncio.sleep(0)
    assert not late.done()
    slots.leave(again)
    await late


async def test_only_those_that_wait_are_given_back() -> None:
    """Neither who runs, nor who got its slot meanwhile; and nothing more is claimed ahead."""
    clock = Clock()
    slots = Slots(1, clock)
    await execute(slots, clock, 0.0, times=200)
    assert slots.room == 2
    runs = [run(), run(), run()]
    for item in runs:
        item.runner, item.has_begun = asyncio.create_task(slots.enter(item)), True
    await asyncio.sleep(0)
    assert [item.is_waiting for item in runs] == [False, True, True]
    slots.leave(await asyncio.wait_for(_ended(runs[0]), 5))
    await asyncio.sleep(0)

    slots.give_back_waiting(runs)

    assert slots.room == 1
    assert [item.stop_reason for item in runs] == [None, None, StopReason.RELEASE]


async def test_a_run_stopped_before_its_first_step_ends_all_the_same() -> None:
    """Its function is not called, its end is told, and it takes no slot."""
    called: list[str] = []

    async def work() -> None:
        called.append("work")

    slots = Slots(1)
    executor = Executor(lambda _name: Callee(work, is_async=True), "w", slots, Hooks())
    item = run()
    item.runner = asyncio.create_task(executor.execute(item))
    item.stop(StopReason.RELEASE)

    assert isinstance(await asyncio.wait_for(item.runner, 5), lifecycle.Released)

    assert called == []
    assert item.executed
    await asyncio.wait_for(slots.enter(run()), 5)


async def _ended(item: Run) -> float:
    assert item.runner is not None
    entered_at: float = await item.runner
    return entered_at
