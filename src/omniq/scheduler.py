"""`Scheduler`: makes tasks of the schedules whose fire times have come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from omniq import cron
from omniq.clock import check_moment, utcnow
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
FIRED_TOGETHER = 32
READ_VALID_SECONDS = 10.0
"""A schedule read longer ago is not fired but read again. See `Scheduler`."""


class _Setback(NamedTuple):
    """How often in a row a schedule failed, and when it is tried again."""

    failures: int
    until: datetime


class Scheduler:
    """Turns fire times into tasks, each into exactly one, however many schedulers run.

    Nobody leads. A task's id is derived from schedule and fire time, so inserting it twice stores
    it once; then the schedule moves on by compare-and-swap, which one scheduler wins. A crash in
    between leaves the fire time due, and the next to fire it finds the task there. The queue and
    the schedules may live in different stores, of different kinds.

    One thing is assumed: no finished task is purged while a scheduler still acts on what it read
    before that task was made. `READ_VALID_SECONDS` bounds that time.
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

        What missed fire times become, and how many are made up for at a time, is said by
        `omniq.cron.plan`. A schedule that fails is logged and does not hinder the others; it stays
        due.

        Raises:
            StorageError: the schedules cannot be read.
        """
        moment = utcnow() if now is None else check_moment("now", now)
        return await self._fire_all(await self._schedules.get_ready_schedules(now=moment), moment)

    async def run(self, stop: asyncio.Event) -> None:
        """Fire schedules when they come due, until `stop` is set.

        Goes on whatever fails: an unreachable store and a broken schedule are logged and tried
        again later and later, a minute apart at most; the other schedules keep their times.
        """
        failures = 0
        while not stop.is_set():
            try:
                pause = await self._step(utcnow())
                failures = 0
            except Exception as error:  # noqa: BLE001 - a loop boundary: schedules must go on
                failures += 1
                pause = delay_before_retry(BACKOFF, failures)
                logger.warning("cannot read schedules: %s; trying again in %.1f s", error, pause)
            await _sleep(stop, max(pause, LEAST_PAUSE_SECONDS))

    async def _step(self, now: datetime) -> float:
        """Fire what is due, or else return how many seconds there are until something may be."""
        due_at = await self._next_due(now)
        if due_at is None or due_at > now:
            return pause_before(due_at, now)
        ready = await self._schedules.get_ready_schedules(now=now)
        await self._fire_all([item for item in ready if not self._is_held(item.id, now)], now)
        return 0.0

    async def _next_due(self, now: datetime) -> datetime | None:
        """Return the next moment to look; a schedule that failed hides none of the others'."""
        self._setbacks = {key: item for key, item in self._setbacks.items() if self._is_recent(item, now)}
        held = {key for key in self._setbacks if self._is_held(key, now)}
        if not held:
            return await self._schedules.next_due()
        active = await self._schedules.list_schedules(ScheduleStatus.ACTIVE)
        moments = (item.next_run_at for item in active if item.id not in held)
        return min((moment for moment in moments if moment is not None), default=None)
