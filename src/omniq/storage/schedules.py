"""`BaseScheduleStorage`: rules that make tasks by the clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from datetime import datetime

from omniq import cron
from omniq.blocking import blocking
from omniq.clock import utcnow
from omniq.exceptions import NotFoundError, StaleTaskError
from omniq.ids import check_name, new_token
from omniq.models.checks import moment_or_none, read_choice
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.storage.component import Component

_CAS_ATTEMPTS = 100


def fence(schedule: Schedule) -> tuple[object, ...]:
    """Return what a compare-and-swap of schedules compares."""
    return schedule.revision, schedule.status, schedule.next_run_at, schedule.run_count


class BaseScheduleStorage(Component, ABC):
    """Schedules by id. A backend provides the underscored primitives."""

    async def save_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> Schedule:
        """Store a schedule, replacing one of the same id, state and all; return it.

        A `next_run_at` that is given is kept; None means the first fire time from now on. To change
        a stored one, set it to None, or the old time fires once more.

        Raises:
            ValidationError: a field is bad (cron expression, time zone, interval …).
        """
        after = _ready_to_store(schedule, new_token(), now)
        store = await self._serving()
        await store._save(after)
        return after

    async def add_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> bool:
        """Store a schedule as `save_schedule` does, unless one of its id is there already.

        Returns whether it was stored. A revision it brings is kept.
        """
        after = _ready_to_store(schedule, schedule.revision or new_token(), now)
        store = await self._serving()
        return await store._add(after)

    async def get_schedule(self, schedule_id: str) -> Schedule | None:
        """Return the schedule of this id, or None."""
        check_name("schedule_id", schedule_id)
        store = await self._serving()
        return await store._get(schedule_id)

    async def list_schedules(self, status: ScheduleStatus | str | None = None) -> list[Schedule]:
        """Return all schedules (of this status), by id."""
        wanted = read_choice("status", ScheduleStatus, status) if status else None
        store = await self._serving()
        return [item for item in await store._list() if wanted is None or item.status is wanted]

    async def delete_schedule(self, schedule_id: str) -> bool:
        """Delete a schedule; return whether there was one. Tasks it made stay."""
        check_name("schedule_id", schedule_id)
        store = await self._serving()
        return await store._delete(schedule_id)

    async def get_ready_schedules(self, *, now: datetime | None = None) -> list[Schedule]:
        """Return the ACTIVE schedules whose next fire time has come, earliest first."""
        moment = moment_or_none("now", now) or utcnow()
        store = await self._serving()
        return await store._ready(moment)

    async def replace(self, before: Schedule, after: Schedule) -> bool:
        """Store `after` if nobody changed `before` in between, state or definition.

        `after` gets a revision of its own unless it brings one.
        """
        if after.revision in {"", before.revision}:
            after = copy(after)
            after.revision = new_token()
        store = await self._serving()
        return await store._replace(before, after)

    async def advance(self, schedule_id: str, was: datetime, next_run: datetime | None) -> bool:
        """Move on from fire time `was` to `next_run` (None: COMPLETED); count one fire.

        False when somebody else moved it already, or it is not ACTIVE: nothing is changed.
        """
        before = await self.get_schedule(schedule_id)
        if before is None or before.status is not ScheduleStatus.ACTIVE:
            return False
        if before.next_run_at != was:
            return False
        return await self.replace(before, cron.advanced(before, next_run))

    async def pause_schedule(self, schedule_id: str) -> Schedule:
        """Let an ACTIVE schedule fire no more until resumed. Raises NotFoundError."""
        return await self._turn(schedule_id, ScheduleStatus.ACTIVE, ScheduleStatus.PAUSED, None)

    async def resume_schedule(self, schedule_id: str, *, now: datetime | None = None) -> Schedule:
        """Let a PAUSED schedule fire again, from its next fire time after now on.

        Fire times that passed meanwhile are not made up for, but for a ONCE schedule that never
        ran: that fires by its misfire rule. Raises NotFoundError.
        """
        moment = moment_or_none("now", now) or utcnow()
        return await self._turn(schedule_id, ScheduleStatus.PAUSED, ScheduleStatus.ACTIVE, moment)

    async def next_due(self) -> datetime | None:
        """Return the earliest next fire time of the ACTIVE schedules, if any."""
        store = await self._serving()
        return await store._next_due()

    async def cleanup_expired_schedules(self, *, now: datetime | None = None) -> int:
        """Delete COMPLETED schedules and PAUSED ones whose `end_at` passed; return how many.

        An ACTIVE one past its end may have fire times to make up for: it completes by itself.
        """
        moment = moment_or_none("now", now) or utcnow()
        deleted = 0
        for item in await self.list_schedules():
            over = item.end_at is not None and item.end_at <= moment
            if item.status is ScheduleStatus.COMPLETED or (
                over and item.status is ScheduleStatus.PAUSED
            ):
                deleted += await self.delete_schedule(item.id)
        return deleted

    save_schedule_sync = blocking(save_schedule)
    add_schedule_sync = blocking(add_schedule)
    get_schedule_sync = blocking(get_schedule)
    list_schedules_sync = blocking(list_schedules)
    delete_schedule_sync = blocking(delete_schedule)
    get_ready_schedules_sync = blocking(get_ready_schedules)
    replace_sync = blocking(replace)
    advance_sync = blocking(advance)
    pause_schedule_sync = blocking(pause_schedule)
    resume_schedule_sync = blocking(resume_schedule)
    next_due_sync = blocking(next_due)
    cleanup_expired_schedules_sync = blocking(cleanup_expired_schedules)

    async def _turn(
        self,
        schedule_id: str,
        was: ScheduleStatus,
        to: ScheduleStatus,
        restart_at: datetime | None,
    ) -> Schedule:
        for _ in range(_CAS_ATTEMPTS):
            before = await self.get_schedule(schedule_id)
            if before is None:
                raise NotFoundError(f"there is no schedule {schedule_id}")
            if before.status is not was:
                return before
            after = copy(before)
            after.status, after.revision = to, new_token()
            if restart_at is not None:
                after = cron.started(after, restart_at)
            if await self.replace(before, after):
                return after
        raise StaleTaskError(f"schedule {schedule_id} kept changing; try again")

    async def _ready(self, now: datetime) -> list[Schedule]:
        ready = [
            (item.next_run_at, item)
            for item in await self._list()
            if item.status is ScheduleStatus.ACTIVE and item.next_run_at and item.next_run_at <= now
        ]
        return [item for _, item in sorted(ready, key=lambda pair: pair[0])]

    async def _next_due(self) -> datetime | None:
        active = (item for item in await self._list() if item.status is ScheduleStatus.ACTIVE)
        return min((item.next_run_at for item in active if item.next_run_at), default=None)

    @abstractmethod
    async def _save(self, schedule: Schedule) -> None: ...

    @abstractmethod
    async def _add(self, schedule: Schedule) -> bool:
        """Store a schedule unless its id is known, in one atomic step; whether it was stored."""

    @abstractmethod
    async def _get(self, schedule_id: str) -> Schedule | None: ...

    @abstractmethod
    async def _list(self) -> list[Schedule]:
        """All schedules, by id."""

    @abstractmethod
    async def _delete(self, schedule_id: str) -> bool: ...

    @abstractmethod
    async def _replace(self, before: Schedule, after: Schedule) -> bool: ...


def _ready_to_store(schedule: Schedule, revision: str, now: datetime | None) -> Schedule:
    moment = moment_or_none("now", now) or utcnow()
    after = cron.checked_schedule(schedule)
    after.revision = revision
    if after.next_run_at is None and after.status is ScheduleStatus.ACTIVE:
        after = cron.started(after, moment)
    return after
