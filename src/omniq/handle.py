"""`TaskHandle`: what `enqueue` returns: a task's id, and all that can be asked of it."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from omniq.blocking import blocking
from omniq.clock import check_seconds
from omniq.exceptions import (
    NotFoundError,
    ResultExpiredError,
    ResultTimeoutError,
    SerializationError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
)
from omniq.models.event import TaskEvent
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.serialization import has_unknown

if TYPE_CHECKING:
    from omniq.app.options import Duration
    from omniq.core import OmniQ

R = TypeVar("R")

LONGEST_WAIT_SECONDS = 30.0
"""How long a waiting handle relies on the store's signal before it looks again."""
LONGEST_REST_SECONDS = 0.1
NEW_SECONDS = 0.005
"""So long after it was stored a task is taken to be unfinished: its handle waits, then looks."""
_REST_PER_LOOK_SECONDS = 0.001


class TaskHandle(Generic[R]):
    """One task of an application; `R` is what its function returns.

    Every method asks the store anew. Handles of the same task are equal.

    Attributes:
        id: the task's id; `OmniQ.handle(id)` makes a handle of it again, anywhere.
    """

    __slots__ = ("_app", "_new_until", "id")

    def __init__(self, app: OmniQ, task_id: str, *, is_new: bool = False) -> None:
        self._app = app
        self.id = task_id
        self._new_until = time.monotonic() + NEW_SECONDS if is_new else 0.0

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        return self.id == other.id  # pyright: ignore[reportUnknownMemberType] - of any R

    def __hash__(self) -> int:
        return hash(self.id)

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the task to finish and return what its function returned.

        Args:
            timeout: how long to wait; None waits as long as it takes, 0 looks once.

        Raises:
            TaskFailedError: it failed for good; `error` holds type, message and traceback.
            TaskCancelledError: it was cancelled.
            TaskExpiredError: its `expires` passed before it could run.
            ResultTimeoutError: it has not finished in time; it goes on regardless.
            ResultExpiredError: it completed, but its result was not kept or is gone.
            NotFoundError: there is no such task, or it was deleted meanwhile.
            ValidationError: the timeout is neither a number of seconds nor a timedelta.
        """
        ends_at = _end_of(timeout)
        while True:
            task, found = await self._finished(ends_at, with_result=True)
            if found is None or found.claim_count < task.claim_count:  # read too early
                found = await self._app.lookups.result(self.id)
            if found is None or found.claim_count <= task.claim_count:
                return cast("R", value_of(task, found))
            if (await self.task()).claim_count == task.claim_count:
                return cast("R", value_of(task, None))
            # Somebody retried it since: what counts is how the newer run ends.

    async def wait(self, timeout: Duration | None = None) -> Task:
        """Wait for the task to finish, however it ends; return it.

        Raises:
            ResultTimeoutError: it has not finished in time.
            NotFoundError: there is no such task, or it was deleted meanwhile.
        """
        task, _ = await self._finished(_end_of(timeout))
        return task

    async def task(self) -> Task:
        """Return the task as it is now. Raises NotFoundError."""
        task = await self._app.lookups.task(self.id)
        if task is None:
            raise NotFoundError(
                f"there is no task {self.id}; it was never stored, or finished and was deleted "
                "since (7 days later by default)"
            )
        return task

    async def status(self) -> TaskStatus:
        """Return where the task stands. Raises NotFoundError."""
        return (await self.task()).status

    async def progress(self) -> float | None:
        """Return how far the present run says it is, from 0 to 1. Raises NotFoundError."""
        return (await self.task()).progress

    async def events(self) -> list[TaskEvent]:
        """Return what happened to the task, oldest first."""
        return await self._app.get_events(self.id)

    async def cancel(self) -> Task:
        """Cancel the task, or ask its worker to stop it when it runs; see `OmniQ.cancel`."""
        return await self._app.cancel(self.id)

    async def retry(self) -> Task:
        """Run a finished task once more; see `OmniQ.retry`."""
        return await self._app.retry(self.id)

    result_sync = blocking(result)
    wait_sync = blocking(wait)
    task_sync = blocking(task)
    status_sync = blocking(status)
    progress_sync = blocking(progress)
    events_sync = blocking(events)
    cancel_sync = blocking(cancel)
    retry_sync = blocking(retry)

    async def _finished(
        self, ends_at: float, *, with_result: bool = False
    ) -> tuple[Task, TaskResult | None]:
        """Return the task once it is final, looking only when the store says it may be.

        Where the store cannot say, or says so in vain, the looks become rarer. With `with_result`,
        the result is read at the same time as the task, where the store said so: it may be missing,
        or one of an earlier claim, although the task has one.
        """
        queue, fruitless = self._app.task_queue, 0
        looks = not (self._is_new() and queue.capabilities.wakes and ends_at > time.monotonic())
        while True:
            if looks:
                was_woken = fruitless == 1 and queue.capabilities.wakes
                task, found = await self._look(with_result=with_result and was_woken)
                if task.is_final:
                    return task, found
                if ends_at <= time.monotonic():
                    raise ResultTimeoutError(self.id, _why_not_yet(task))
                if fruitless:
                    rest = min(fruitless * _REST_PER_LOOK_SECONDS, LONGEST_REST_SECONDS)
                    await asyncio.sleep(min(ends_at - time.monotonic(), rest))
            looks = True
            longest = min(2.0 ** min(fruitless, 10), LONGEST_WAIT_SECONDS)
            await queue.wait_final([self.id], min(ends_at - time.monotonic(), longest))
            fruitless += 1

    async def _look(self, *, with_result: bool) -> tuple[Task, TaskResult | None]:
        if not with_result:
            return await self.task(), None
        found = self._app.lookups.begin_result(self.id)
        try:
            return await self.task(), await found
        finally:
            found.cancel()  # should it have failed already, asyncio will not complain of that

    def _is_new(self) -> bool:
        """Whether the task was stored just now, so that it is hardly final; true once at most."""
        new_until, self._new_until = self._new_until, 0.0
        return time.monotonic() < new_until


def _end_of(timeout: Duration | None) -> float:
    if timeout is None or timeout == math.inf:
        return math.inf
    if isinstance(timeout, int | float) and timeout < 0:  # what is left of another deadline
        timeout = 0
    return time.monotonic() + check_seconds("timeout", timeout)


def value_of(task: Task, found: TaskResult | None) -> Any:
    """Return the value a final task left, or raise why there is none (pure).

    Only a result of the very claim the task's final state names is believed.
    """
    own = found if found is not None and found.claim_count == task.claim_count else None
    match task.status:
        case TaskStatus.COMPLETED if own is not None and own.status is ResultStatus.SUCCESS:
            return _readable(task.id, own.result)
        case TaskStatus.COMPLETED:
            raise ResultExpiredError(task.id, _why_gone(task))
        case TaskStatus.FAILED:
            error = own.error if own is not None else None
            error = error or ErrorInfo("omniq.TaskError", task.error or "no reason was recorded")
            raise TaskFailedError(task.id, _how_failed(task, error), error)
        case TaskStatus.CANCELLED:
            why = "" if task.error in (None, "cancelled") else f": {task.error}"
            raise TaskCancelledError(task.id, f"task {task.id} was cancelled{why}")
        case _:
            raise TaskExpiredError(task.id, f"task {task.id} never ran: {task.error}")


def _readable(task_id: str, value: Any) -> Any:
    unknown = has_unknown(value)
    if unknown is None:
        return value
    raise SerializationError(
        "result",
        f"task {task_id} returned a value of type {unknown.tag}, which this process does not know; "
        "import its module, or register the class with omniq.serializable",
    )


def _why_not_yet(task: Task) -> str:
    said = f"task {task.id} ({task.func}) is still {task.status}"
    if task.status is TaskStatus.RUNNING:
        return f"{said} (attempt {task.attempt}); it goes on"
    if task.error is not None:
        return f"{said}: {task.error}"
    if task.status is TaskStatus.PENDING:
        return f"{said}; is a worker of queue {task.queue_name!r} running?"
    return said


def _why_gone(task: Task) -> str:
    if task.result_ttl_seconds == 0:
        return f"task {task.id} completed, but keeps no result (result_ttl=0)"
    return (
        f"task {task.id} completed, but its result has expired, or is not where this program looks "
        "for results; give it a longer result_ttl, or see where the worker keeps them"
    )


def _how_failed(task: Task, error: ErrorInfo) -> str:
    attempts = f" after {task.attempt} attempts" if task.attempt > 1 else ""
    return f"task {task.id} ({task.func}) failed{attempts}: {error}"
