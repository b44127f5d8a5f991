# ruff: noqa: S101 - tests assert; a lease token is no password
"""What a backend must do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from omniq.backend.base import BaseBackend
from omniq.clock import utcnow
from omniq.exceptions import SyncInAsyncError, ValidationError
from omniq.models.event import EventType, TaskEvent
from omniq.models.finding import Level
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Inserted,
)
from omniq.testing.contract.samples import make_task

NOTHING = dict.fromkeys(
    ("expired_tasks", "expired_results", "expired_events", "expired_schedules"), 0
)


def enqueued(task: Task) -> TaskEvent:
    """Return the event that tells of a new task."""
    return TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED)


async def put_one_old_thing_everywhere(backend: BaseBackend) -> None:
    """Store a task, a result, an event and a schedule that are due for deletion, and new ones."""
    now, old = utcnow(), utcnow() - timedelta(days=60)
    for name, moment in (("old", old), ("new", now)):
        task = make_task(name, status=TaskStatus.COMPLETED, finished_at=moment)
        await backend.get_task_queue().enqueue(task)
        result = TaskResult(task_id=name, expires_at=moment + timedelta(days=1))
        await backend.get_result_storage().set(result)
        event = TaskEvent(task_id=name, event_type=EventType.COMPLETED, timestamp=moment)
        await backend.get_event_storage().log_event(event)
        schedule = Schedule(
            schedule_type=ScheduleType.INTERVAL,
            interval_seconds=60,
            func="job",
            id=name,
            status=ScheduleStatus.COMPLETED if name == "old" else ScheduleStatus.ACTIVE,
        )
        await backend.get_schedule_storage().save_schedule(schedule)


@pytest.mark.asyncio
class BackendContract:
    """Subclass this. `backend` is open, on a new and empty store."""

    async def test_getters_return_the_same_object_each_time(self, backend: BaseBackend) -> None:
        """Whatever mode is asked for: one object has both faces."""
        getters = [
            (backend.get_task_queue, BaseQueue),
            (backend.get_result_storage, BaseResultStorage),
            (backend.get_event_storage, BaseEventStorage),
            (backend.get_schedule_storage, BaseScheduleStorage),
        ]

        for getter, kind in getters:
            assert isinstance(getter(), kind)
            assert getter() is getter(async_mode=False)

    async def test_cleanup_counts_what_it_deleted(self, backend: BaseBackend) -> None:
        """In all four components, under keys that are always there."""
        await put_one_old_thing_everywhere(backend)

        assert await backend.cleanup_expired() == dict.fromkeys(NOTHING, 1)
        assert await backend.cleanup_expired() == NOTHING

        assert [task.id for task in await backend.get_task_queue().list_tasks()] == ["new"]

    async def test_tasks_are_stored_with_their_events(self, backend: BaseBackend) -> None:
        """One or many, with events that say more than their type; a taken id harms no other."""
        queue, events = backend.get_task_queue(), backend.get_event_storage()
        tasks = [Task(func="job") for _ in range(5)]
        logged = [TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED) for task in tasks]
        logged[4].message = "by hand"

        for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
            stored = await queue.insert_logged(tasks[part], logged[part], events)
            assert stored == [Inserted(task.id, stored=True) for task in tasks[part]]
        fresh = Task(func="job")
        told = [logged[0], TaskEvent(task_id=fresh.id, event_type=EventType.ENQUEUED)]
        again = await queue.insert_logged([tasks[0], fresh], told, events)

        assert [item.stored for item in again] == [False, True]
        assert await queue.counts() == {"default": {TaskStatus.PENDING: 6}}
        for event in (*logged[1:], told[1]):
            assert await events.get_events(event.task_id) == [event]

    async def test_of_a_task_whose_id_is_taken_nothing_is_told(self, backend: BaseBackend) -> None:
        """Whether the one that stands has a history or none."""
        queue, events = backend.get_task_queue(), backend.get_event_storage()
        told, untold, fresh = (Task(func="job") for _ in range(3))
        await queue.insert_logged([told], [enqueued(told)], events)
        await queue.insert([untold])
        history = await events.get_all_events()

        last = enqueued(fresh)
        again = await queue.insert_logged(
            [told, untold, fresh], [enqueued(told), enqueued(untold), last], events
        )

        assert [item.stored for item in again] == [False, False, True]
        assert await events.get_all_events() == [*history, last]

    async def test_an_id_used_again_goes_on_with_its_history(self, backend: BaseBackend) -> None:
        """Tasks are deleted sooner than what is told of them."""
        queue, events = backend.get_task_queue(), backend.get_event_storage()
        task = Task(func="job")
        first, second = enqueued(task), enqueued(task)
        await queue.insert_logged([task], [first], events)
        await queue.cancel(task.id)
        await queue.cleanup_expired_tasks(utcnow() + timedelta(seconds=1))

        assert await queue.insert_logged([task], [second], events) == [(task.id, True)]

        assert await events.get_events(task.id) == [first, second]

    async def test_a_bad_task_keeps_the_others_and_all_events_out(
        self, backend: BaseBackend
    ) -> None:
        """Nothing of the call is stored."""
        tasks = [Task(func="job"), Task(func="job", queue_name="a/b\0")]
        logged = [TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED) for task in tasks]
        queue, events = backend.get_task_queue(), backend.get_event_storage()

        with pytest.raises(ValidationError, match="queue_name"):
            await queue.insert_logged(tasks, logged, events)

        assert await queue.list_tasks() == []
        assert await events.get_all_events() == []

    async def test_components_tell_the_capabilities_of_the_backend(
        self, backend: BaseBackend
    ) -> None:
        """Who looks at one need not look at the others."""
        for component in (
            backend.get_task_queue(),
            backend.get_result_storage(),
            backend.get_event_storage(),
            backend.get_schedule_storage(),
        ):
            assert component.capabilities.durable == backend.capabilities.durable
            assert component.capabilities.shared == backend.capabilities.shared

    async def test_a_new_store_is_not_broken(self, backend: BaseBackend) -> None:
        """What `omniq doctor` prints: each finding says what to do, and looking changes nothing."""
        found = await backend.findings()

        assert [item for item in found if item.level is Level.BROKEN] == []
        assert all(item.hint for item in found if item.level is not Level.FINE)
        assert len(found) == len(set(found))
        assert await backend.get_task_queue().counts() == {}

    async def test_closing_twice_and_using_again_is_fine(self, backend: BaseBackend) -> None:
        """What was stored is still there."""
        await backend.get_task_queue().enqueue(make_task("a"))

        await backend.disconnect()
        await backend.close()
        async with backend:
            assert await backend.get_task_queue().get_queue_size() == 1

    async def test_blocking_calls_do_the_same(self, backend: BaseBackend) -> None:
        """From a thread without a loop; in a loop they refuse."""
        await put_one_old_thing_everywhere(backend)

        assert await asyncio.to_thread(backend.cleanup_expired_sync) == dict.fromkeys(NOTHING, 1)
        with pytest.raises(SyncInAsyncError):
            backend.cleanup_expired_sync()
