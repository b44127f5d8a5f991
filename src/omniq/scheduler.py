"""`Scheduler`: makes tasks of the schedules whose fire times have come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from omniq import cron
from omniq.clock import check_moment, utcnow
from omniq.exceptions import OmniQError, StorageError
from omniq.models.event import EventType, TaskEvent
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.models.task import RetryPolicy, Task
from omniq.retry import delay_before_retry
from omniq.storage.base import BaseEventStorage, BaseQueue, BaseScheduleStorage

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""How long `run` sleeps at most: a new or changed schedule is noticed within that time."""
LEAST_PAUSE_SECONDS = 0.02
"""How long `run` sleeps at least, whatever a store answers."""
BACKOFF = RetryPolicy(delay_seconds=1.0, max_delay_seconds=60.0, jitter=True)
"""How long a schedule that failed, or a store that did, is left alone."""
STALLED_SECONDS = 300.0
"""A store that has not answered `run` for so long is asked anew."""
FIRED_TOGETHER = 32
READ_VALID_SECONDS = 10.0
"""A schedule read longer ago is not fired but read again. See `Scheduler`."""


class _Setback(NamedTuple):
    """How often in a row a schedule failed, and when (monotonic) it is tried again."""

    failures: int
    until: float


class Scheduler:
    """Turns fire times into tasks, each into exactly one, however many schedulers run.

    Nobody leads. A task's id is derived from schedule and fire time, so inserting it twice stores
    it once; then the schedule moves on by compare-and-swap, which one scheduler wins. A crash in
    between leaves the fire time due, and the next to fire it finds the task there. The queue and
    the schedules may live in different stores, of different kinds.

    One thing is assumed: no finished task is purged while a scheduler still acts on what it read
    before that task was made. `READ_VALID_SECONDS` bounds that time.

    `run_count` of a schedule counts the fire times tasks were made for; those passed over by its
    misfire rule do not count.
    """

    def __init__(
        self,
        queue: BaseQueue,
        schedules: BaseScheduleStorage,
        events: BaseEventStorage | None = None,
    ) -> None:
        self._queue = queue
        self._schedules = schedules
        self._events = events
        self._setbacks: dict[str, _Setback] = {}

    async def fire_due(self, *, now: datetime | None = None) -> list[str]:
        """Make the tasks of all fire times that have come; return the ids of those newly stored.

        `omniq.cron.plan` says what becomes of missed fire times, and how many are made up for in
        one call. A schedule that fails is logged, stays due and does not hinder the others.

        Raises:
            StorageError: the schedules cannot be read.
        """
        moment = None if now is None else check_moment("now", now)
        return await self._fire_all(await self._schedules.get_ready_schedules(now=moment), moment)

    async def run(self, stop: asyncio.Event) -> None:
        """Fire schedules when they come due, until `stop` is set.

        Goes on whatever fails: a store out of reach and a broken schedule are logged and tried
        again after growing pauses, a minute at most; the other schedules keep their times.
        """
        failures = 0
        while not stop.is_set():
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    pause = await self._step(utcnow())
                failures = 0
            except Exception as error:  # noqa: BLE001 - a loop boundary: nothing may end it
                failures += 1
                pause = delay_before_retry(BACKOFF, failures)
                _warn(error, f"schedules cannot be read; trying again in {pause:.1f} s")
            await _sleep(stop, max(pause, LEAST_PAUSE_SECONDS))

    async def _step(self, now: datetime) -> float:
        """Fire what is due; return how many seconds nothing is to be done."""
        due_at = await self._next_due()
        if due_at is None or due_at > now:
            idle = max(IDLE_SECONDS, self._schedules.capabilities.poll_seconds)
            return pause_before(due_at, now, idle)
        ready = await self._schedules.get_ready_schedules(now=now)
        self._forget_setbacks_except({schedule.id for schedule in ready})
        held = self._held()
        await self._fire_all([schedule for schedule in ready if schedule.id not in held], None)
        return 0.0

    async def _next_due(self) -> datetime | None:
        """Return the next fire time of all schedules but those held, which lie in the past."""
        held = self._held()
        if not held:
            return await self._schedules.next_due()
        active = await self._schedules.list_schedules(ScheduleStatus.ACTIVE)
        moments = (schedule.next_run_at for schedule in active if schedule.id not in held)
        return min((moment for moment in moments if moment is not None), default=None)

    async def _fire_all(self, ready: Sequence[Schedule], now: datetime | None) -> list[str]:
        read_at = time.monotonic()
        stored: list[Task] = []
        for start in range(0, len(ready), FIRED_TOGETHER):
            if time.monotonic() - read_at > READ_VALID_SECONDS:
                break
            together = ready[start : start + FIRED_TOGETHER]
            for tasks in await asyncio.gather(*(self._fire(item, now) for item in together)):
                stored += tasks
        await self._log_enqueued(stored, now)
        return [task.id for task in stored]

    async def _fire(self, schedule: Schedule, now: datetime | None) -> list[Task]:
        """Make the tasks of one schedule, then move it on; return the tasks newly stored."""
        stored: list[Task] = []
        try:
            plan = cron.plan(schedule, now or utcnow())
            stored = await self._insert(schedule, plan, now)
            after = cron.advanced(schedule, plan.next_run, plan.fires)
            await self._schedules.replace(schedule, after)
            self._setbacks.pop(schedule.id, None)
        except Exception as error:  # noqa: BLE001 - the boundary between one schedule and the next
            self._set_back(schedule, error)
        return stored

    async def _insert(
        self, schedule: Schedule, plan: cron.Plan, now: datetime | None
    ) -> list[Task]:
        if schedule.next_run_at not in plan.fires:
            logger.warning(
                "schedule %s: fire times from %s on were missed; making up for %d (misfire=%s)",
                schedule.id,
                schedule.next_run_at,
                len(plan.fires),
                schedule.misfire,
                extra={"schedule_id": schedule.id},
            )
        tasks = [cron.task_for(schedule, fire_at) for fire_at in plan.fires]
        inserted = await self._queue.insert(tasks, now=now)
        return [task for task, item in zip(tasks, inserted, strict=True) if item.stored]

    async def _log_enqueued(self, tasks: list[Task], now: datetime | None) -> None:
        """Log the events of new tasks. The tasks are there already: a failure only costs events."""
        if self._events is None or not tasks:
            return
        moment = now or utcnow()
        events = [
            TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED, timestamp=moment)
            for task in tasks
        ]
        try:
            await self._events.append(events)
        except StorageError as error:
            _warn(error, f"cannot log that {len(tasks)} tasks of schedules were enqueued")

    def _set_back(self, schedule: Schedule, error: Exception) -> None:
        known = self._setbacks.get(schedule.id)
        failures = 1 if known is None else known.failures + 1
        pause = delay_before_retry(BACKOFF, failures)
        self._setbacks[schedule.id] = _Setback(failures, time.monotonic() + pause)
        _warn(error, f"schedule {schedule.id} cannot fire", schedule_id=schedule.id)

    def _held(self) -> set[str]:
        """Return the ids of the schedules that failed and are to be left alone for now."""
        now = time.monotonic()
        return {key for key, setback in self._setbacks.items() if setback.until > now}

    def _forget_setbacks_except(self, ready: set[str]) -> None:
        """Forget schedules that were deleted, paused or fired by others meanwhile."""
        self._setbacks = {key: item for key, item in self._setbacks.items() if key in ready}


def pause_before(
    due_at: datetime | None, now: datetime, idle_seconds: float = IDLE_SECONDS
) -> float:
    """Return the seconds to sleep until `due_at`; a bounded time, as schedules may be added."""
    if due_at is None:
        return idle_seconds
    return min(idle_seconds, max(0.0, (due_at - now).total_seconds()))


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _warn(error: Exception, what: str, **extra: str) -> None:
    """Log a failure; with its traceback unless it is one of ours, which say it all."""
    known = isinstance(error, OmniQError)
    logger.warning("%s: %s", what, error, extra=extra, exc_info=None if known else error)
