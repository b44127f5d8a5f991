"""Running a Django task in a worker: its context, its signals, its database connections."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, reset_queries

from omniq.exceptions import TaskSignal
from omniq.integrations.django.api import (
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from omniq.integrations.django.results import running_result
from omniq.lifecycle import error_info
from omniq.retry import NO_RETRY, allows_retry, names_of
from omniq.worker.context import TaskContext as Context
from omniq.worker.context import current_task


def runner_of(task: Task[..., Any], alias: str) -> Callable[..., Any]:
    """Return what a worker calls to run this task."""
    return _async_runner(task, alias) if iscoroutinefunction(task.func) else _runner(task, alias)


def _runner(task: Task[..., Any], alias: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        context = current_task()
        result = running_result(context, task, alias)
        sender = type(task_backends[alias])
        _fresh_connections()
        try:
            task_started.send(sender=sender, task_result=result)
            value = normalize_json(task.func(*_with_context(task, result, args), **kwargs))
        except BaseException as error:
            if _has_failed(context, error, result):
                task_finished.send(sender=sender, task_result=result)
            raise
        else:
            _succeed(result, value)
            task_finished.send(sender=sender, task_result=result)
            return value
        finally:
            close_old_connections()

    return run


def _async_runner(task: Task[..., Any], alias: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        context = current_task()
        result = running_result(context, task, alias)
        sender = type(task_backends[alias])
        await sync_to_async(_fresh_connections)()
        try:
            await task_started.asend(sender=sender, task_result=result)
            value = normalize_json(await task.func(*_with_context(task, result, args), **kwargs))
        except BaseException as error:
            if _has_failed(context, error, result):
                await task_finished.asend(sender=sender, task_result=result)
            raise
        else:
            _succeed(result, value)
            await task_finished.asend(sender=sender, task_result=result)
            return value
        finally:
            await sync_to_async(close_old_connections)()

    return run


def _with_context(
    task: Task[..., Any], result: TaskResult[..., Any], args: tuple[Any, ...]
) -> tuple[Any, ...]:
    return (TaskContext(task_result=result), *args) if task.takes_context else args


def _fresh_connections() -> None:
    """Begin as a request does: no dead connection, no log of queries that grows for ever."""
    reset_queries()
    close_old_connections()


def _has_failed(context: Context, error: BaseException, result: TaskResult[..., Any]) -> bool:
    """Note a failure nobody will retry in `result`; False for a run that is not the last."""
    if isinstance(error, TaskSignal) or context.should_stop or not isinstance(error, Exception):
        return False
    if allows_retry(context.task.retry or NO_RETRY, context.attempt, names_of(error)):
        return False
    info = error_info(error)
    _set(result, status=TaskResultStatus.FAILED, finished_at=_now())
    result.errors.append(TaskError(exception_class_path=info.type, traceback=info.traceback))
    return True


def _succeed(result: TaskResult[..., Any], value: Any) -> None:
    _set(result, status=TaskResultStatus.SUCCESSFUL, finished_at=_now(), _return_value=value)


def _set(result: TaskResult[..., Any], **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()
