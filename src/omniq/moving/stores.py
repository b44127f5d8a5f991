"""Results, events and schedules while they move: what is new goes to the target.

But results and events only once everybody knows of the move, see `knowledge`; before that, nobody
is asked for schedules here.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from datetime import datetime
from typing import Any

from omniq.blocking import blocking
from omniq.ids import new_token
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.moving.knowledge import EVERYBODY_KNOWS, Knowledge
from omniq.moving.paging import merged
from omniq.moving.parking import MOVE
from omniq.storage.base import (
    BaseEventStorage,
    BaseResultStorage,
    BaseScheduleStorage,
    EventFilter,
)


class MovingResults(BaseResultStorage):
    """Results that move: written to `target`, read there first, then in `source`."""

    def __init__(
        self,
        source: BaseResultStorage,
        target: BaseResultStorage,
        known: Knowledge = EVERYBODY_KNOWS,
    ) -> None:
        super().__init__()
        self._known = known
        self._source = source
        self._target = target

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        if not self._known.is_settled:
            return await self._source._set(results)
        return await self._target.set_many(results)

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        found = await self._target.get_many(task_ids, now=now)
        absent = [key for key, item in zip(task_ids, found, strict=True) if item is None]
        here = await self._source._get(absent, now) if absent else []
        known = dict(zip(absent, here, strict=True))
        return [
            known.get(k) if item is None else item for k, item in zip(task_ids, found, strict=True)
        ]

    async def _delete(self, task_ids: list[str]) -> int:
        here = await self._source._delete(task_ids)
        return max(here, await self._target.delete_many(task_ids))

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        async def here(start: str | None) -> tuple[dict[str, TaskResult], str | None]:
            page = await self._source._find(start, limit, now)
            return _by_task(page), page[-1].task_id if len(page) == limit else None

        async def there(start: str | None) -> tuple[dict[str, TaskResult], str | None]:
            page = await self._target.find(after=start, limit=limit, now=now)
            return _by_task(page), page[-1].task_id if len(page) == limit else None

        return await merged(here, there, after, limit)

    async def _purge(self, now: datetime | None, limit: int) -> int:
        here = await self._source._purge(now, limit)
        return max(here, await self._target.purge(now=now, limit=limit))


class MovingEvents(BaseEventStorage):
    """Events that move: appended to `target`, read in both, each once."""

    def __init__(
        self,
        source: BaseEventStorage,
        target: BaseEventStorage,
        known: Knowledge = EVERYBODY_KNOWS,
    ) -> None:
        super().__init__()
        self._known = known
        self._source = source
        self._target = target

    async def _append(self, events: list[TaskEvent]) -> None:
        if not self._known.is_settled:
            return await self._source._append(events)
        return await self._target.append(events)

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        there = await self._target.query(where, limit=limit, newest=newest)
        here = await self._source._query(where, limit, newest)
        both = [*without(here, there), *there]
        both.sort(key=lambda event: event.timestamp)
        return both[-limit:] if newest else both[:limit]

    async def _purge(self, before: datetime, limit: int) -> int:
        here = await self._source._purge(before, limit)
        return max(here, await self._target.purge(before, limit=limit))


class MovingSchedules(BaseScheduleStorage):
    """Schedules that move: whoever needs them first takes them along."""

    def __init__(self, source: BaseScheduleStorage, target: BaseScheduleStorage) -> None:
        self._source = source
        self._target = target

    async def _save(self, schedule: Schedule) -> None:
        serving = await (await self._carried())._serving()
        await serving._save(schedule)  # as it is: it has its revision

    async def _add(self, schedule: Schedule) -> bool:
        serving = await (await self._carried())._serving()
        return await serving._add(schedule)

    async def _get(self, schedule_id: str) -> Schedule | None:
        found = await (await self._carried()).get_schedule(schedule_id)
        return None if found is None or MOVE in found.metadata else found

    async def _list(self) -> list[Schedule]:
        found = await (await self._carried()).list_schedules()
        return [schedule for schedule in found if MOVE not in schedule.metadata]

    async def _delete(self, schedule_id: str) -> bool:
        return await (await self._carried()).delete_schedule(schedule_id)

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        return await (await self._carried()).replace(before, after)

    async def _ready(self, now: datetime) -> list[Schedule]:
        return await (await self._carried()).get_ready_schedules(now=now)

    async def _next_due(self) -> datetime | None:
        return await (await self._carried()).next_due()

    async def carry(self) -> int:
        """Take all schedules to the target; return how many were new there.

        Each is frozen in the source first, so that nobody fires, pauses or changes it there any
        more. A frozen one remembers how it stood: after a crash somebody else takes it along.

        The target gets it frozen, too, unless it has one of that id. Only once the source says that
        it has been handed over it is thawed there, which happens once. So whoever carries what he
        read long ago brings back nothing that was changed or deleted since.
        """
        return sum([await self._carry(schedule) for schedule in await self._source._list()])

    carry_sync = blocking(carry)

    async def _carry(self, schedule: Schedule) -> bool:
        """Take one schedule to the target; return whether it was new there."""
        left = schedule if MOVE in schedule.metadata else frozen(schedule)
        if left is not schedule and not await self._source._replace(schedule, left):
            return False  # somebody fired or changed it just now: the next call takes it
        if not is_handed_over(left):
            await self._target.add_schedule(left)
            after = handed_over(left)
            if not await self._source._replace(left, after):
                return await self._come_late(left)
            left = after
        is_new = await self._target.replace(parked(left), thawed(left))
        await self._source._delete(left.id)
        return is_new

    async def _come_late(self, left: Schedule) -> bool:
        """Another one handed it over: help to thaw it, or take back what came after that."""
        now = await self._source._get(left.id)
        if now is not None and MOVE in now.metadata:
            return await self._carry(now)
        if now is None:
            await self._target.replace(left, dropped(left))
        return False

    async def _carried(self) -> BaseScheduleStorage:
        await self.carry()
        return self._target


def frozen(schedule: Schedule) -> Schedule:
    """Return a schedule that never fires, is never cleaned up, and matches no change."""
    after = copy(schedule)
    state = {"status": schedule.status.value, "next_run_at": schedule.next_run_at}
    state |= {"end_at": schedule.end_at}
    after.metadata = {**schedule.metadata, MOVE: state}
    after.status, after.next_run_at, after.end_at = ScheduleStatus.PAUSED, None, None
    after.revision = new_token()
    return after


def handed_over(left: Schedule) -> Schedule:
    """Return a frozen schedule once the target has a frozen copy, or one of its own."""
    after = copy(left)
    after.metadata = {**left.metadata, MOVE: {**left.metadata[MOVE], "parked": left.revision}}
    after.revision = new_token()
    return after


def is_handed_over(left: Schedule) -> bool:
    """Whether a frozen schedule says that the target has it."""
    return "parked" in left.metadata[MOVE]


def parked(left: Schedule) -> Schedule:
    """Return the frozen copy of a schedule that was handed over, as the target got it."""
    after = copy(left)
    after.revision = left.metadata[MOVE]["parked"]
    return after


def dropped(copied: Schedule) -> Schedule:
    """Return a frozen copy that came too late: cleaned up with what is over."""
    after = copy(copied)
    after.status, after.revision = ScheduleStatus.COMPLETED, new_token()
    return after


def thawed(left: Schedule) -> Schedule:
    """Return the schedule that was frozen."""
    after = copy(left)
    after.metadata = dict(left.metadata)
    state: dict[str, Any] = after.metadata.pop(MOVE)
    after.status = ScheduleStatus(state["status"])
    after.next_run_at, after.end_at = state["next_run_at"], state["end_at"]
    return after


def without(events: list[TaskEvent], known: list[TaskEvent]) -> list[TaskEvent]:
    """Return the events that are not among those known; events have no ids, so all is compared."""
    present = Counter(map(_key, known))
    missing: list[TaskEvent] = []
    for event in events:
        key = _key(event)
        if present[key]:
            present[key] -= 1
        else:
            missing.append(event)
    return missing


def _key(event: TaskEvent) -> tuple[str, ...]:
    return (
        event.task_id,
        str(event.event_type),
        event.timestamp.isoformat(),
        str(event.message),
        str(event.worker_id),
        repr(sorted(event.details.items())),
    )


def _by_task(results: list[TaskResult]) -> dict[str, TaskResult]:
    return {item.task_id: item for item in results}
