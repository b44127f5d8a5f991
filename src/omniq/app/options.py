"""The options of a task, checked once, and the making of tasks from them at full speed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec

from omniq.clock import check_moment, check_seconds
from omniq.exceptions import ValidationError
from omniq.ids import check_key, check_name, new_id
from omniq.models.checks import check_mapping, check_parents, check_priority, check_retry
from omniq.models.task import OnParentFailure, RetryPolicy, Task

if TYPE_CHECKING:
    from omniq.handle import TaskHandle

Duration = float | timedelta
"""Seconds, or a timedelta."""
ExceptionNames = type[BaseException] | str | tuple[type[BaseException] | str, ...]


class TaskOptions(TypedDict, total=False):
    """What a task function is declared with. An option that is None counts as not given.

    Attributes:
        queue: name of the queue.
        queue_name: the same.
        priority: higher runs first.
        timeout: longest run of an attempt; ``math.inf`` lifts the application's.
        max_retries: attempts after the first.
        retry: delays between attempts, and which errors are retried.
        retry_on: only these exceptions are retried.
        result_ttl: how long a result is kept; 0 keeps none. Default: the application's.
        expires: a task that has not started by then (counted from the enqueueing) never does.
        metadata: plain data carried along.
    """

    queue: str | None
    queue_name: str | None
    priority: int | None
    timeout: Duration | None
    max_retries: int | None
    retry: RetryPolicy | None
    retry_on: ExceptionNames | None
    result_ttl: Duration | None
    expires: Duration | datetime | None
    metadata: dict[str, Any] | None


class CallOptions(TaskOptions, total=False):
    """What can be said of a single call on top.

    Attributes:
        delay: run that long after the enqueueing at the earliest.
        run_at: run at this moment at the earliest.
        unique_key: while a live task of the queue holds this key, it stands for the new one.
        depends_on: ids or handles of tasks to wait for.
        on_parent_failure: when one of them does not complete, ``cancel`` or ``release`` this task.
        task_id: the id, instead of a fresh one.
    """

    delay: Duration | None
    run_at: datetime | None
    unique_key: str | None
    depends_on: str | TaskHandle[Any] | Iterable[str | TaskHandle[Any]] | None
    on_parent_failure: OnParentFailure | None
    task_id: str | None


class TaskTemplate:
    """All that is the same in each task of one function under the same options.

    Never changed: `with_options` returns another one.
    """

    def __init__(self, func: str) -> None:
        self._base = Task(func=func)
        self._delay: timedelta | None = None
        self._lifetime: timedelta | None = None
        self._is_fresh = True

    @property
    def task(self) -> Task:
        """A task without arguments, as the options make it."""
        return copy(self._base)

    @property
    def lifetime(self) -> timedelta | None:
        """How long after its enqueueing a task expires."""
        return self._lifetime

    @property
    def is_fresh(self) -> bool:
        """Whether each task gets an id of its own."""
        return self._is_fresh

    def make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        """Return a task for one call."""
        task = copy(self._base)
        task.args, task.kwargs = args, kwargs
        task.created_at = now = datetime.now(UTC)
        if self._is_fresh:
            task.id = new_id()
        if task.metadata:
            task.metadata = dict(task.metadata)
        if self._delay is not None:
            task.run_at = now + self._delay
        if self._lifetime is not None:
            task.expires_at = now + self._lifetime
        return task

    def with_options(self, options: CallOptions | TaskOptions) -> TaskTemplate:
        """Return a template with these options changed.

        Raises:
            ValidationError: an option is out of its range, or two contradict each other.
            TypeError: there is no option of that name.
        """
        after = copy(self)
        after._base = copy(self._base)
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            apply = _APPLY.get(name)
            if apply is None:
                raise TypeError(_unknown_option(name))
            apply(after, value)
        after._set_retry(given)
        after._check_moments(given)
        return after

    def _set_queue(self, name: Any) -> None:
        self._base.queue_name = check_name("queue", name)

    def _set_priority(self, priority: Any) -> None:
        self._base.priority = check_priority(priority)

    def _set_timeout(self, timeout: Any) -> None:
        if timeout == math.inf:
            self._base.timeout_seconds = None
        else:
            self._base.timeout_seconds = check_seconds("timeout", timeout, least=0.001)

    def _set_result_ttl(self, ttl: Any) -> None:
        self._base.result_ttl_seconds = check_seconds("result_ttl", ttl)

    def _set_metadata(self, metadata: Any) -> None:
        check_mapping("metadata", metadata)
        self._base.metadata = dict(metadata)

    def _set_delay(self, delay: Any) -> None:
        self._delay = timedelta(seconds=check_seconds("delay", delay))
        self._base.run_at = None

    def _set_run_at(self, run_at: Any) -> None:
        self._base.run_at = check_moment("run_at", run_at)
        self._delay = None

    def _set_expires(self, expires: Any) -> None:
        if isinstance(expires, datetime):
            self._base.expires_at, self._lifetime = check_moment("expires", expires), None
        else:
            self._lifetime = timedelta(seconds=check_seconds("expires", expires, least=0.001))

    def _set_unique_key(self, key: Any) -> None:
        self._base.unique_key = check_key("unique_key", key)

    def _set_depends_on(self, parents: Any) -> None:
        self._base.depends_on = _parent_ids(parents)
        check_parents(self._base)

    def _set_on_parent_failure(self, what: Any) -> None:
        if what not in {"cancel", "release"}:
            raise ValidationError("on_parent_failure", f"{what!r} is not 'cancel' or 'release'")
        self._base.on_parent_failure = what

    def _set_task_id(self, task_id: Any) -> None:
        self._base.id = check_name("task_id", task_id)
        self._is_fresh = False

    def _set_retry(self, given: dict[str, Any]) -> None:
        """A policy given replaces the one before; the other two options change their field of it."""
        policy = given.get("retry") or self._base.retry or RetryPolicy()
        changes: dict[str, Any] = {}
        if "max_retries" in given:
            changes["max_retries"] = given["max_retries"]
        if "retry_on" in given:
            changes["retry_on"] = _exceptions(given["retry_on"])
        if changes or "retry" in given:
            policy = check_retry(policy)
            self._base.retry = check_retry(msgspec.structs.replace(policy, **changes))

    def _check_moments(self, given: dict[str, Any]) -> None:
        if "delay" in given and "run_at" in given:
            raise ValidationError("delay", "give either delay or run_at, not both")
        if {"queue", "queue_name"} <= given.keys() and given["queue"] != given["queue_name"]:
            raise ValidationError("queue", "queue and queue_name are the same option")
        delay, lifetime = self._delay, self._lifetime
        if delay is not None and lifetime is not None and lifetime <= delay:
            raise ValidationError("expires", f"after {lifetime}, but the delay is {delay}")
        run_at, expires_at = self._base.run_at, self._base.expires_at
        if run_at is not None and expires_at is not None and expires_at <= run_at:
            raise ValidationError("expires", f"at {expires_at}, but the task is to run at {run_at}")


_APPLY: dict[str, Callable[[Any, Any], None]] = {
    "queue": TaskTemplate._set_queue,  # pyright: ignore[reportPrivateUsage] - of this module
}


def _exceptions(names: Any) -> tuple[Any, ...]:
    """The exceptions to retry on as a tuple, each of them a class or a name."""
    several = names if isinstance(names, tuple | list | set | frozenset) else (names,)
    for name in cast("Iterable[Any]", several):
        is_class = isinstance(name, type) and issubclass(name, BaseException)
        if not is_class and not isinstance(name, str):
            raise ValidationError("retry_on", f"{name!r} is neither an exception class nor a name")
    return tuple(cast("Iterable[Any]", several))


def _parent_ids(parents: Any) -> tuple[str, ...]:
    """The ids of one or several tasks given as ids or handles."""
    several = [parents] if isinstance(parents, str) or hasattr(parents, "id") else list(parents)
    return tuple(
        check_name("depends_on", getattr(parent, "id", parent))
        for parent in cast("list[Any]", several)
    )


def _unknown_option(name: str) -> str:
    close = difflib.get_close_matches(name, _APPLY, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; options are {', '.join(_APPLY)}"
    return f"there is no task option {name!r}{hint}"
