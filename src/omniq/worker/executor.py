"""Running a claimed task to its end. The end is a value, an `Outcome`; it is written elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from omniq import lifecycle
from omniq.clock import check_seconds, utcnow
from omniq.exceptions import (
    Cancel,
    Retry,
    SerializationError,
    Snooze,
    TaskSignal,
    UnknownTaskError,
    ValidationError,
)
from omniq.hooks import Hooks
from omniq.models.result import ErrorInfo
from omniq.models.task import Task
from omniq.serialization import has_unknown
from omniq.worker.context import TaskContext, enter
from omniq.worker.runs import Run, RunInterrupted, StopReason
from omniq.worker.slots import Slots
from omniq.worker.threads import ThreadPool

logger = logging.getLogger(__name__)


class Callee(msgspec.Struct, frozen=True):
    """A task function and how to call it."""

    function: Callable[..., Any]
    is_async: bool


Resolve = Callable[[str], Callee]


class Executor:
    """Runs tasks in this event loop: coroutine functions in it, all others in threads.

    Args:
        resolve: returns the function of a task name, or raises `UnknownTaskError`.
        worker_id: shown in the task's context.
        slots: how many tasks run at once.
        hooks: what is wrapped around each run.

    Attributes:
        state: what the application's lifespan yielded; shown in the task's context.
    """

    def __init__(self, resolve: Resolve, worker_id: str, slots: Slots, hooks: Hooks) -> None:
        self._resolve = resolve
        self._hooks = hooks
        self.state: Any = None
        self._worker_id = worker_id
        self._slots = slots
        self._callees: dict[str, Callee] = {}
        self.threads = ThreadPool()

    def verdict(self, task: Task) -> lifecycle.Outcome | None:
        """Return how a just claimed task ends without running, or None when it should run.

        Its function is looked up anew: a notebook may have defined it again meanwhile.
        """
        verdict = lifecycle.verdict_on_claim(task, task.started_at or utcnow())
        if verdict is not None:
            return verdict
        try:
            self._callees[task.func] = self._resolve(task.func)
        except UnknownTaskError as error:
            return lifecycle.Parked(str(error))
        unknown = has_unknown((task.args, task.kwargs)) if task.args or task.kwargs else None
        if unknown is not None:
            return lifecycle.Parked(f"{lifecycle.UNKNOWN_CLASS}{unknown.tag}")
        return None

    async def execute(self, run: Run) -> lifecycle.Outcome | None:
        """Wait for a slot and run the function to its end.

        None when the lease was lost, and nothing is to be said.
        """
        run.has_begun = True
        try:
            if run.is_stopping():
                raise asyncio.CancelledError
            entered_at = await self._slots.enter(run)
        except asyncio.CancelledError as error:
            run.executed = True
            return self._stopped(run, error)
        try:
            return await self._call(run)
        finally:
            self._slots.leave(entered_at)

    async def _call(self, run: Run) -> lifecycle.Outcome | None:
        task = run.task
        callee = self._callees[task.func]
        context, timer = self._enter(run)
        try:
            if self._hooks.wraps:
                value = await self._wrapped(run, callee, context)
            elif callee.is_async:
                value = await callee.function(*task.args, **task.kwargs)
            else:
                value = await self._in_thread(run, callee)
            outcome: lifecycle.Outcome | None = lifecycle.Completed(value)
        except asyncio.CancelledError as error:
            outcome = self._stopped(run, error)
        except TaskSignal as signal:
            outcome = signalled(signal)
        except Exception as error:  # noqa: BLE001 - the boundary around user code
            outcome = lifecycle.failure(_from_user_code(error))
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the task, not the worker
            outcome = lifecycle.failure(_from_user_code(error))
        finally:
            run.executed = True
            if timer is not None:
                timer.cancel()
        return outcome

    async def _in_thread(self, run: Run, callee: Callee) -> Any:
        call = partial(callee.function, *run.task.args, **run.task.kwargs)
        try:
            return await self.threads.run(run, call)
        except RunInterrupted as error:
            raise asyncio.CancelledError from error

    async def _wrapped(self, run: Run, callee: Callee, context: TaskContext) -> Any:
        """Return what the function returns; None if what is wrapped around it held its error."""
        value = None
        async with AsyncExitStack() as stack:
            await self._hooks.enter(stack, context)
            if callee.is_async:
                value = await callee.function(*run.task.args, **run.task.kwargs)
            else:
                value = await self._in_thread(run, callee)
        return value

    def _enter(self, run: Run) -> tuple[TaskContext, asyncio.TimerHandle | None]:
        """Set the context of the run and its alarm clock; return both."""
        task = run.task
        deadline, timer = None, None
        if task.timeout_seconds is not None:
            deadline = utcnow() + timedelta(seconds=task.timeout_seconds)
            loop = asyncio.get_running_loop()
            timer = loop.call_later(task.timeout_seconds, run.stop, StopReason.TIMEOUT)
        context = TaskContext(run, self._worker_id, deadline, self.state)
        enter(context)
        return context, timer

    def _stopped(self, run: Run, error: BaseException) -> lifecycle.Outcome | None:
        match run.stop_reason:
            case StopReason.TIMEOUT:
                text = f"the attempt took longer than {run.task.timeout_seconds:g} s"
                return lifecycle.failure(TimeoutError(text))
            case StopReason.CANCEL:
                return lifecycle.Cancelled()
            case StopReason.RELEASE:
                return lifecycle.Released()
            case StopReason.LOST:
                return None
            case None:
                return lifecycle.failure(error)


def signalled(signal: TaskSignal) -> lifecycle.Outcome:
    """Return the outcome a task asked for; a bad delay fails it. A reason may be anything."""
    try:
        match signal:
            case Retry():
                delay = None if signal.delay is None else check_seconds("delay", signal.delay)
                return lifecycle.Failed(
                    ErrorInfo("omniq.Retry", lifecycle.said(signal.reason)), delay_seconds=delay
                )
            case Snooze():
                seconds = check_seconds("delay", signal.delay)
                return lifecycle.Snoozed(seconds, lifecycle.said(signal.reason))
            case Cancel():
                return lifecycle.Cancelled(lifecycle.said(signal.reason))
            case _:
                return lifecycle.failure(signal)
    except ValidationError as error:
        return lifecycle.failure(error)


def _from_user_code(error: BaseException) -> BaseException:
    """Take this package's frames off the top of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    return error.with_traceback(trace)


def unstorable(error: SerializationError | ValidationError) -> lifecycle.Failed:
    """Return the end of a run whose value cannot be stored: no retry would change that."""
    return lifecycle.failure(error, final=True)
