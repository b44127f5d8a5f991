# ruff: noqa: S101 - tests assert; a lease token is no password
"""What a backend must do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from omniq.backend.base import BaseBackend
from omniq.clock import utcnow
from omniq.exceptions import SyncInAsyncError
from omniq.models.event import EventType, TaskEvent
from omniq.models.finding import Level
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import TaskStatus
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
)
from omniq.testing.contract.samples import make_task

NOTHING = dict.fromkeys(
    ("expired_tasks", "expired_results", "expired_events", "expired_schedules"), 0
)


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
