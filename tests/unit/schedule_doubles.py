"""Schedules for the tests of the scheduler, and a store of them that can be held up or fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from omniq.ids import fire_id
from omniq.models.schedule import Schedule, ScheduleType
from omniq.storage.memory import MemoryQueue, MemoryScheduleStorage

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Schedules(MemoryScheduleStorage):
    """Schedules whose reads and swaps a test can hold up or let fail."""

    def __init__(self) -> None:
        super().__init__()
        self.after_read: Callable[[], Awaitable[object]] | None = None
        self.before_replace: Callable[[], Awaitable[object]] | None = None

    async def put(self, schedule: Schedule) -> None:
        """Store a schedule as another version might have, unchecked."""
        await self._save(schedule)

    async def state(self, schedule_id: str = "each-minute") -> Schedule:
        found = await self.get_schedule(schedule_id)
        assert found is not None
        return found

    async def _ready(self, now: datetime) -> list[Schedule]:
        ready = await super()._ready(now)
        if self.after_read is not None:
            await self.after_read()
        return ready

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        if self.before_replace is not None:
            await self.before_replace()
        return await super()._replace(before, after)


def failing(error: BaseException) -> Callable[[], Awaitable[object]]:
    async def fail() -> None:
        raise error

    return fail


def each_minute(**options: Any) -> Schedule:
    fields: dict[str, Any] = {
        "schedule_type": ScheduleType.CRON,
        "cron_expression": "* * * * *",
        "func": "job",
        "id": "each-minute",
        "created_at": T0,
    }
    return Schedule(**(fields | options))


def fire_ids(*numbers: int, schedule_id: str = "each-minute") -> list[str]:
    return [fire_id(schedule_id, T0 + number * MINUTE) for number in numbers]


async def ids_in(queue: MemoryQueue) -> list[str]:
    return sorted(task.id for task in await queue.list_tasks())
