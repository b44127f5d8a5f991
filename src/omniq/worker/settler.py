"""Writing the ends of runs, in batches: result, then swap, then events (DESIGN: order of a finish).

A crash in between means one more run, never a lost result. A store that fails is tried again with
growing pauses until the lease of the run is no longer to be trusted; then the run is given up, and
whoever claims the task next runs it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from random import uniform

import msgspec

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import StorageError, ValidationError
from omniq.models.event import EventType, TaskEvent
from omniq.models.result import ResultStatus, TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue, BaseResultStorage, Change
from omniq.worker.eventlog import EventLog
from omniq.worker.executor import unstorable
from omniq.worker.runs import Run

logger = logging.getLogger(__name__)
BATCH = 500
REFUSED = "it was superseded, and its end refused"
PAUSES = (0.05, 2.0)
"""First and longest pause between two tries of a failing store, in seconds."""


class Ended(msgspec.Struct):
    """A run that ended, how, and the task as that leaves it."""

    run: Run
    outcome: lifecycle.Outcome
    after: Task


class Settler:
    """Gathers ended runs and writes them.

    Args:
        settled: called with each run that is done with.
        tell: called with each event, and its task as that leaves it.
    """

    def __init__(
        self,
        queue: BaseQueue,
        results: BaseResultStorage,
        log: EventLog,
        *,
        worker_id: str,
        result_ttl_seconds: float | None,
        settled: Callable[[Run, Task | None], None],
        tell: Callable[[TaskEvent, Task], None],
    ) -> None:
        self._queue = queue
        self._results = results
        self._log = log
        self._worker_id = worker_id
        self._result_ttl = result_ttl_seconds
        self._settled = settled
        self._tell = tell
        self._waiting: list[tuple[Run, lifecycle.Outcome]] = []
        self._flusher: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> int:
        """How many ended runs wait to be written."""
        return len(self._waiting)

    def add(self, run: Run, outcome: lifecycle.Outcome) -> None:
        """Take a run that ended."""
        self._waiting.append((run, outcome))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    def lose(self, run: Run, why: str) -> None:
        """Say of a run that its lease is lost. Nothing of it is stored."""
        event = self._lost_event(run, utcnow(), why)
        self._tell(event, run.task)
        _log(run.task, run.task.attempt, event, event.message)
        self._settled(run, None)
        self._log.add([event])

    async def drain(self) -> None:
        """Return when everything taken so far is written or given up."""
        while self._flusher is not None:
            await asyncio.shield(self._flusher)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:BATCH]
                del self._waiting[:BATCH]
                now = utcnow()
                ended = [_ended(run, outcome, now) for run, outcome in batch]
                try:
                    await self._write(ended, now)
                except Exception:
                    logger.exception("settling %d tasks failed; their leases run out", len(ended))
                    for item in ended:
                        self.lose(item.run, "its end could not be stored")
        finally:
            self._flusher = None

    async def _write(self, ended: list[Ended], now: datetime) -> None:
        """Write a batch, again and again while the store fails, as long as leases are trusted."""
        pause, longest = PAUSES
        retried = False
        while ended:
            try:
                won = await self._finish(ended, now, check=retried)
            except StorageError as error:
                logger.warning("settling %d tasks: %s; trying again", len(ended), error)
                await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - jitter
                pause, retried = min(pause * 2, longest), True
                ended = self._still_trusted(ended)
            else:
                self._report(ended, won, now)
                return

    async def _finish(self, ended: list[Ended], now: datetime, *, check: bool) -> list[bool]:
        """Finish all; after a failed try, a lost swap may be one of ours whose answer got lost."""
        results = [result for item in ended if (result := self._result(item, now)) is not None]
        try:
            won = await self._queue.finish(_changes(ended), results, self._results, now=now)
        except ValidationError:
            for item in ended:
                await self._store_alone(item, now)
            won = await self._queue.swap(_changes(ended), now=now)
        if check and not all(won):
            stored = await self._queue.get([item.after.id for item in ended])
            won = [
                ok or _is_ours(task, item)
                for ok, task, item in zip(won, stored, ended, strict=True)
            ]
        return won

    async def _store_alone(self, item: Ended, now: datetime) -> None:
        """Store one result; a value that cannot be stored fails its task and no other."""
        result = self._result(item, now)
        if result is None:
            return
        try:
            await self._results.set_many([result])
        except ValidationError as error:
            item.outcome = unstorable(error)
            item.after = lifecycle.settle(item.run.task, item.outcome, now)
            failed = self._result(item, now)
            if failed is not None:
                await self._results.set_many([failed])

    def _result(self, item: Ended, now: datetime) -> TaskResult | None:
        """Return the record of a run that ended its task with a value or error, if it is kept."""
        task, outcome = item.after, item.outcome
        ttl = task.result_ttl_seconds
        ttl = self._result_ttl if ttl is None else ttl
        status, value, error = ResultStatus.FAILED, None, None
        if type(outcome) is lifecycle.Completed:
            status, value = ResultStatus.SUCCESS, outcome.value
        elif type(outcome) is lifecycle.Failed and task.is_final:
            error = outcome.error
        else:
            return None
        if ttl == 0:
            return None
        return TaskResult(
            task_id=task.id,
            status=status,
            result=value,
            error=error,
            claim_count=task.claim_count,
            attempt=task.attempt,
            stored_at=now,
            expires_at=None if ttl is None else now + timedelta(seconds=ttl),
            worker_id=self._worker_id,
        )

    def _still_trusted(self, ended: list[Ended]) -> list[Ended]:
        moment = time.monotonic()
        for item in ended:
            if item.run.trusted_until <= moment:
                self.lose(item.run, "its lease ran out while its end could not be stored")
        return [item for item in ended if item.run.trusted_until > moment]

    def _report(self, ended: list[Ended], won: list[bool], now: datetime) -> None:
        events: list[TaskEvent] = []
        for item, ok in zip(ended, won, strict=True):
            event = self._event(item, now) if ok else self._lost_event(item.run, now, REFUSED)
            events.append(event)
            self._tell(event, item.after if ok else item.run.task)
            if event.event_type is not EventType.COMPLETED:
                _log_end(item, event)
            self._settled(item.run, item.after if ok else None)
        self._log.add(events)

    def _event(self, item: Ended, now: datetime) -> TaskEvent:
        task = item.after
        return TaskEvent(
            task_id=task.id,
            event_type=_EVENTS[type(item.outcome)]
            if task.status is not TaskStatus.SCHEDULED
            or not isinstance(item.outcome, lifecycle.Failed)
            else EventType.RETRYING,
            timestamp=now,
            message=task.error,
            details=_details(task) if task.status is not TaskStatus.COMPLETED else {},
            worker_id=self._worker_id,
        )

    def _lost_event(self, run: Run, now: datetime, why: str) -> TaskEvent:
        return TaskEvent(
            task_id=run.task.id,
            event_type=EventType.LEASE_LOST,
            timestamp=now,
            message=f"claim {run.task.claim_count}: {why}",
            worker_id=self._worker_id,
        )


_EVENTS: dict[type[lifecycle.Outcome], EventType] = {
    lifecycle.Completed: EventType.COMPLETED,
    lifecycle.Failed: EventType.FAILED,
    lifecycle.Snoozed: EventType.SNOOZED,
    lifecycle.Released: EventType.RELEASED,
    lifecycle.Parked: EventType.PARKED,
    lifecycle.Cancelled: EventType.CANCELLED,
    lifecycle.Expired: EventType.EXPIRED,
}


_LEVELS: dict[EventType | str, int] = {
    EventType.FAILED: logging.ERROR,
    EventType.RETRYING: logging.WARNING,
    EventType.PARKED: logging.WARNING,
    EventType.LEASE_LOST: logging.WARNING,
}


def _ended(run: Run, outcome: lifecycle.Outcome, now: datetime) -> Ended:
    """Return how a run ended; an end that makes no sense fails its task and no other."""
    try:
        return Ended(run, outcome, lifecycle.settle(run.task, outcome, now))
    except Exception as error:
        logger.exception("task %s: its end makes no sense", run.task.id)
        failed = lifecycle.failure(error, final=True)
        return Ended(run, failed, lifecycle.settle(run.task, failed, now))


def _changes(ended: list[Ended]) -> list[Change]:
    return [Change(item.run.task, item.after) for item in ended]


def _details(task: Task) -> dict[str, object]:
    details: dict[str, object] = {"attempt": task.attempt}
    if task.due_at is not None:
        details["due_at"] = task.due_at.isoformat()
    return details


def _log_end(item: Ended, event: TaskEvent) -> None:
    """Tell the operator of an end that is no success, with the traceback of a failed attempt.

    Arguments are never logged. Of an attempt that is tried again, nothing else keeps the traceback.
    """
    task, outcome = item.after, item.outcome
    is_failure = event.event_type in (EventType.FAILED, EventType.RETRYING)
    told = outcome.error.traceback if is_failure and type(outcome) is lifecycle.Failed else None
    text = event.message or getattr(outcome, "reason", "")
    _log(task, item.run.task.attempt, event, f"{text}\n{told.rstrip()}" if told else text)


def _log(task: Task, attempt: int, event: TaskEvent, text: str | None) -> None:
    level = _LEVELS.get(event.event_type, logging.INFO)
    extra = {"task_id": task.id, "attempt": attempt, "queue_name": task.queue_name}
    logger.log(level, "%s (%s): %s: %s", task.func, task.id, event.event_type, text, extra=extra)


def _is_ours(stored: Task | None, item: Ended) -> bool:
    """Whether the stored task shows our swap: it cannot be another's, who would have claimed it."""
    return (
        stored is not None
        and stored.claim_count == item.after.claim_count
        and stored.lease_token is None
        and stored.status in (item.after.status, TaskStatus.PENDING)
    )
