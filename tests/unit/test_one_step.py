"""Who decides whether two writes are one step: the base classes; a backend only offers to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from omniq import Task, TaskEvent, TaskResult, TaskStatus, lifecycle
from omniq.clock import utcnow
from omniq.models import EventType
from omniq.storage.base import (
    BaseEventStorage,
    BaseResultStorage,
    Change,
    Inserted,
    JointFinish,
    LoggedInsert,
)
from omniq.storage.memory import MemoryEventStorage, MemoryQueue, MemoryResultStorage


class OfferingQueue(MemoryQueue):
    """Offers to write with `partner` in one step, and answers `done` where it is taken at it."""

    def __init__(self, partner: object, *, able: bool = True) -> None:
        super().__init__()
        self.partner = partner
        self.able = able
        self.steps: list[str] = []

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:
        return self._insert_telling if events is self.partner else None

    async def _insert_telling(
        self, tasks: list[Task], events: list[TaskEvent]
    ) -> list[Inserted] | None:
        self.steps.append(f"{len(tasks)} tasks, {len(events)} events")
        return [Inserted(task.id, stored=True) for task in tasks] if self.able else None

    def _joint_finish(self, results: BaseResultStorage) -> JointFinish | None:
        return self._set_and_swap if results is self.partner else None

    async def _set_and_swap(
        self, changes: Sequence[Change], results: list[TaskResult], now: datetime | None
    ) -> list[bool] | None:
        self.steps.append(f"{len(results)} results, {len(changes)} changes")
        return [True] * len(changes) if self.able else None


async def finish(queue: OfferingQueue, results: MemoryResultStorage, *values: int) -> list[bool]:
    """Claim a task and end it, with these results."""
    await queue.enqueue(Task(func="f"))
    run = await queue.dequeue()
    assert run is not None
    after = lifecycle.settle(run, lifecycle.Completed(1), utcnow())
    kept = [TaskResult(task_id=run.id, result=value, claim_count=1) for value in values]
    return await queue.finish([Change(run, after)], kept, results)


@pytest.mark.parametrize("able", [True, False])
async def test_tasks_and_events_are_one_step_where_that_is_offered_and_done(able: bool) -> None:
    """A store that cannot these after all is asked for two steps, which do the same."""
    events = MemoryEventStorage()
    queue = OfferingQueue(events, able=able)
    task = Task(func="f")
    event = TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED)

    assert await queue.insert_logged([task], [event], events) == [(task.id, True)]

    assert queue.steps == ["1 tasks, 1 events"]
    assert await events.get_all_events() == ([] if able else [event])
    assert (await queue.get_task(task.id) is None) is able


@pytest.mark.parametrize("able", [True, False])
async def test_results_and_swaps_are_one_step_where_that_is_offered_and_done(able: bool) -> None:
    """As with tasks and events."""
    results = MemoryResultStorage()
    queue = OfferingQueue(results, able=able)

    assert await finish(queue, results, 7) == [True]

    assert queue.steps == ["1 results, 1 changes"]
    assert len(await results.list_results()) == (0 if able else 1)
    assert await queue.counts() == {
        "default": {TaskStatus.RUNNING if able else TaskStatus.COMPLETED: 1}
    }


async def test_with_another_storage_or_no_result_it_is_two_steps() -> None:
    """Nothing of it goes to the partner."""
    events, results = MemoryEventStorage(), MemoryResultStorage()
    queue = OfferingQueue(results)
    task = Task(func="f", queue_name="other")
    event = TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED)

    assert await queue.insert_logged([task], [event], events) == [(task.id, True)]
    assert await finish(queue, results) == [True]
    assert await finish(queue, MemoryResultStorage(), 7) == [True]

    assert queue.steps == []
    assert await events.get_all_events() == [event]
    assert (await queue.counts())["default"] == {TaskStatus.COMPLETED: 2}
