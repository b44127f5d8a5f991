"""What OmniQ knows of a task, as a `TaskResult` of Django."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, ParamSpec, TypeVar

from django.conf import settings
from django.utils import timezone

from omniq.integrations.django.api import Task, TaskError, TaskResult, TaskResultStatus
from omniq.models.event import TaskEvent
from omniq.models.result import ErrorInfo
from omniq.models.result import TaskResult as StoredResult
from omniq.models.task import Task as StoredTask
from omniq.models.task import TaskStatus
from omniq.worker.context import TaskContext

P = ParamSpec("P")
R = TypeVar("R")

STATUSES = {
    TaskStatus.PENDING: TaskResultStatus.READY,
    TaskStatus.SCHEDULED: TaskResultStatus.READY,
    TaskStatus.WAITING: TaskResultStatus.READY,
    TaskStatus.RUNNING: TaskResultStatus.RUNNING,
    TaskStatus.COMPLETED: TaskResultStatus.SUCCESSFUL,
    TaskStatus.FAILED: TaskResultStatus.FAILED,
    TaskStatus.CANCELLED: TaskResultStatus.FAILED,
    TaskStatus.EXPIRED: TaskResultStatus.FAILED,
}
_ERRORS = {
    TaskStatus.CANCELLED: "omniq.exceptions.TaskCancelledError",
    TaskStatus.EXPIRED: "omniq.exceptions.TaskExpiredError",
}
_FAILED = "omniq.exceptions.TaskFailedError"
MARK = "django_backend"
"""Key in the metadata of tasks that came by way of Django: the entry of TASKS."""


class Known(NamedTuple):
    """What the stores know of a task."""

    task: StoredTask
    result: StoredResult | None
    started: Sequence[TaskEvent]


def result_of(known: Known, task: Task[P, R], alias: str) -> TaskResult[P, R]:
    """Return the state of a stored task; `task` is the function, as declared."""
    stored, kept, started = known
    status = STATUSES[stored.status]
    first = started[0].timestamp if started else stored.started_at
    result = TaskResult(
        task=_as_enqueued(task, stored, alias),
        id=stored.id,
        status=status,
        enqueued_at=_local(stored.created_at),
        started_at=_local(first),
        last_attempted_at=_local(stored.started_at),
        finished_at=_local(stored.finished_at),
        args=list(stored.args),
        kwargs=dict(stored.kwargs),
        backend=alias,
        errors=[_error(stored, kept)] if status is TaskResultStatus.FAILED else [],
        worker_ids=_workers(stored, started),
    )
    if status is TaskResultStatus.SUCCESSFUL and kept is not None:
        object.__setattr__(result, "_return_value", kept.result)
    return result


def running_result(context: TaskContext, task: Task[P, R], alias: str) -> TaskResult[P, R]:
    """Return the state of the task that runs here, without asking any store."""
    return result_of(Known(context.task, None, ()), task, alias)


def _as_enqueued(task: Task[P, R], stored: StoredTask, alias: str) -> Task[P, R]:
    return task.using(
        priority=stored.priority,
        queue_name=stored.queue_name,
        run_after=_local(stored.run_at),
        backend=alias,
    )


def _workers(stored: StoredTask, started: Sequence[TaskEvent]) -> list[str]:
    """One name for each attempt; without a history, the last is all that is known."""
    if started:
        return [event.worker_id or "" for event in started]
    return [stored.worker_id or ""] * max(0, stored.attempt)


def _error(stored: StoredTask, kept: StoredResult | None) -> TaskError:
    info = kept.error if kept is not None and kept.error else None
    if info is None:
        info = ErrorInfo(_ERRORS.get(stored.status, _FAILED), "", stored.error or "")
    path = _FAILED if info.type.startswith("omniq.") and info.type.count(".") == 1 else info.type
    return TaskError(exception_class_path=path, traceback=info.traceback or str(info))


def _local(moment: datetime | None) -> datetime | None:
    """Return a moment as this project writes them: aware, or naive in its time zone."""
    if moment is None or settings.USE_TZ:
        return moment
    return timezone.make_naive(moment)
