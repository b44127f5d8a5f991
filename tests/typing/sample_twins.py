# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Checked by `test_types.py`: each abstract base has both faces, and both are typed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_type

from omniq import OmniQ, Schedule, Task, TaskEvent, TaskHandle, TaskResult, TaskStatus
from omniq.app.queues import QueueStatus
from omniq.backend.base import BaseBackend
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Change,
    Component,
    Counts,
    Inserted,
)


async def queue_awaited(queue: BaseQueue, task: Task, moment: datetime) -> None:
    assert_type(await queue.enqueue(task), str)
    assert_type(await queue.enqueue_many([task]), list[str])
    assert_type(await queue.dequeue(["a", "b"], timeout=1.0), Task | None)
    assert_type(await queue.complete(task), Task)
    assert_type(await queue.fail(task, "no"), Task)
    assert_type(await queue.lock_task(task.id), Task | None)
    assert_type(await queue.get_task(task.id), Task | None)
    assert_type(await queue.list_tasks("a", "pending"), list[Task])
    assert_type(await queue.get_queue_size(), int)
    assert_type(await queue.insert([task]), list[Inserted])
    assert_type(await queue.claim(["a"], worker_id="w", lease_token="t"), list[Task])
    assert_type(await queue.swap([Change(task, task)]), list[bool])
    assert_type(await queue.counts(), Counts)
    assert_type(await queue.purge(moment), int)


def queue_blocking(queue: BaseQueue, task: Task, moment: datetime) -> None:
    assert_type(queue.enqueue_sync(task), str)
    assert_type(queue.enqueue_many_sync([task]), list[str])
    assert_type(queue.dequeue_sync(["a", "b"], timeout=1.0), Task | None)
    assert_type(queue.complete_sync(task), Task)
    assert_type(queue.fail_sync(task, "no"), Task)
    assert_type(queue.lock_task_sync(task.id), Task | None)
    assert_type(queue.get_task_sync(task.id), Task | None)
    assert_type(queue.list_tasks_sync("a", "pending"), list[Task])
    assert_type(queue.get_queue_size_sync(), int)
    assert_type(queue.insert_sync([task]), list[Inserted])
    assert_type(queue.claim_sync(["a"], worker_id="w", lease_token="t"), list[Task])
    assert_type(queue.swap_sync([Change(task, task)]), list[bool])
    assert_type(queue.counts_sync(), Counts)
    assert_type(queue.purge_sync(moment), int)
    queue.enqueue_sync("task")  # pyright: ignore[reportArgumentType]
    queue.dequeue_sync(timeout="1")  # pyright: ignore[reportArgumentType]
    queue.claim_sync(["a"])  # pyright: ignore[reportCallIssue]


async def results_awaited(results: BaseResultStorage, result: TaskResult) -> None:
    assert_type(await results.set(result), bool)
    assert_type(await results.get("t"), TaskResult | None)
    assert_type(await results.list_results(), list[TaskResult])
    assert_type(await results.store_result("t", 5, ttl=60), None)
    assert_type(await results.get_result("t"), Any)
    assert_type(await results.delete_result("t"), None)


def results_blocking(results: BaseResultStorage, result: TaskResult) -> None:
    assert_type(results.set_sync(result), bool)
    assert_type(results.get_sync("t"), TaskResult | None)
    assert_type(results.list_results_sync(), list[TaskResult])
    assert_type(results.store_result_sync("t", 5, ttl=60), None)
    assert_type(results.get_result_sync("t"), Any)
    assert_type(results.delete_result_sync("t"), None)
    results.set_sync(5)  # pyright: ignore[reportArgumentType]


async def events_awaited(events: BaseEventStorage, event: TaskEvent) -> None:
    assert_type(await events.log_event(event), None)
    assert_type(await events.get_events("t", event_type="FAILED"), list[TaskEvent])
    assert_type(await events.get_all_events(), list[TaskEvent])


def events_blocking(events: BaseEventStorage, event: TaskEvent) -> None:
    assert_type(events.log_event_sync(event), None)
    assert_type(events.get_events_sync("t", event_type="FAILED"), list[TaskEvent])
    assert_type(events.get_all_events_sync(), list[TaskEvent])
    events.get_events_sync(5)  # pyright: ignore[reportArgumentType]


async def schedules_awaited(schedules: BaseScheduleStorage, schedule: Schedule) -> None:
    assert_type(await schedules.save_schedule(schedule), Schedule)
    assert_type(await schedules.get_schedule("s"), Schedule | None)
    assert_type(await schedules.list_schedules(), list[Schedule])
    assert_type(await schedules.get_ready_schedules(), list[Schedule])
    assert_type(await schedules.delete_schedule("s"), bool)
    assert_type(await schedules.pause_schedule("s"), Schedule)


def schedules_blocking(schedules: BaseScheduleStorage, schedule: Schedule) -> None:
    assert_type(schedules.save_schedule_sync(schedule), Schedule)
    assert_type(schedules.get_schedule_sync("s"), Schedule | None)
    assert_type(schedules.list_schedules_sync(), list[Schedule])
    assert_type(schedules.get_ready_schedules_sync(), list[Schedule])
    assert_type(schedules.delete_schedule_sync("s"), bool)
    assert_type(schedules.pause_schedule_sync("s"), Schedule)
    schedules.save_schedule_sync("s")  # pyright: ignore[reportArgumentType]


async def components(component: Component, backend: BaseBackend) -> None:
    assert_type(await component.connect(), None)
    assert_type(await component.disconnect(), None)
    assert_type(await backend.cleanup_expired(), dict[str, int])
    async with component as same, backend as store:
        assert_type(same, Component)
        assert_type(store.get_task_queue(), BaseQueue)
        assert_type(store.get_task_queue(async_mode=False), BaseQueue)
        assert_type(store.get_result_storage(), BaseResultStorage)


def components_blocking(component: Component, backend: BaseBackend) -> None:
    assert_type(component.connect_sync(), None)
    assert_type(backend.cleanup_expired_sync(), dict[str, int])
    with component as same:
        assert_type(same, Component)


def application(app: OmniQ, tasks: Sequence[Task]) -> None:
    with app as same:
        assert_type(same, OmniQ)
    assert_type(app.get_task_sync("t"), Task | None)
    assert_type(app.list_tasks_sync("q", TaskStatus.FAILED, limit=None), list[Task])
    assert_type(app.cancel_sync("t"), Task)
    assert_type(app.retry_sync("t"), Task)
    assert_type(app.get_events_sync("t"), list[TaskEvent])
    assert_type(app.counts_sync(), Counts)
    assert_type(app.status_sync(), dict[str, QueueStatus])
    assert_type(app.paused_queues_sync(), set[str])
    assert_type(app.purge_queue_sync("q"), int)
    assert_type(app.cleanup_sync(), dict[str, int])
    assert_type(app.schedule_sync("f", every=5), Schedule)
    assert_type(app.enqueue_tasks_sync(tasks), list[TaskHandle[Any]])
    app.cancel_sync(5)  # pyright: ignore[reportArgumentType]
