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
from omniq.models.checks import check_mapping, check_priority, check_retry, checked_parents
from omniq.models.task import OnParentFailure, RetryPolicy, Task, copied
from omniq.storage.joining import Caller

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
        connection: a database connection or session in whose transaction the task is stored: it
            exists if and only if that commits.
    """

    delay: Duration | None
    run_at: datetime | None
    unique_key: str | None
    depends_on: str | TaskHandle[Any] | Iterable[str | TaskHandle[Any]] | None
    on_parent_failure: OnParentFailure | None
    task_id: str | None
    connection: object


class TaskTemplate:
    """All that is the same in each task of one function under the same options.

    Never changed once made: `with_options` returns another one.

    Attributes:
        task: a task without arguments, with its options. Not to be changed.
        delay: how long after its enqueueing a task may run.
        lifetime: how long after its enqueueing a task expires.
        policy: the retry policy, also where it allows no retry.
        is_fresh: whether each task gets an id of its own.
        connection: in whose transaction tasks are stored; None for one of OmniQ's own.
    """

    def __init__(self, func: str) -> None:
        self.task = Task(func=func)
        self.delay: timedelta | None = None
        self.lifetime: timedelta | None = None
        self.policy = RetryPolicy()
        self.is_fresh = True
        self.connection: object = None

    def make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        """Return a task for one call."""
        task = copied(self.task)
        task.args, task.kwargs = args, kwargs
        task.created_at = now = datetime.now(UTC)
        if self.is_fresh:
            task.id = new_id()
        if task.metadata:
            task.metadata = dict(task.metadata)
        if self.delay is not None:
            task.run_at = now + self.delay
        if self.lifetime is not None:
            task.expires_at = now + self.lifetime
        return task

    def named(self, func: str) -> TaskTemplate:
        """Return the same template for the tasks of another function."""
        after = copy(self)
        after.task = copy(self.task)
        after.task.func = func
        return after

    def with_options(self, options: CallOptions | TaskOptions) -> TaskTemplate:
        """Return a template with these options changed.

        Raises:
            ValidationError: an option is out of its range, or two contradict each other.
            TypeError: there is no option of that name.
        """
        given = {name: value for name, value in options.items() if value is not None}
        _check_contradictions(given)
        after = copy(self)
        after.task = copy(self.task)
        for name, value in given.items():
            apply = _APPLY.get(name)
            if apply is None:
                raise TypeError(_unknown_option(name))
            apply(after, value)
        _set_retry(after, given)
        _check_expiry(after)
        return after


def _set_queue(template: TaskTemplate, name: Any) -> None:
    template.task.queue_name = check_name("queue", name)


def _set_priority(template: TaskTemplate, priority: Any) -> None:
    template.task.priority = check_priority(priority)


def _set_timeout(template: TaskTemplate, timeout: Any) -> None:
    endless = timeout == math.inf
    template.task.timeout_seconds = (
        None if endless else check_seconds("timeout", timeout, least=0.001)
    )


def _set_result_ttl(template: TaskTemplate, ttl: Any) -> None:
    template.task.result_ttl_seconds = check_seconds("result_ttl", ttl)


def _set_metadata(template: TaskTemplate, metadata: Any) -> None:
    check_mapping("metadata", metadata)
    template.task.metadata = dict(metadata)


def _set_delay(template: TaskTemplate, delay: Any) -> None:
    template.delay = timedelta(seconds=check_seconds("delay", delay))
    template.task.run_at = None


def _set_run_at(template: TaskTemplate, run_at: Any) -> None:
    template.delay = None
    template.task.run_at = check_moment("run_at", run_at)


def _set_expires(template: TaskTemplate, expires: Any) -> None:
    if isinstance(expires, datetime):
        template.task.expires_at = check_moment("expires", expires)
        template.lifetime = None
    else:
        template.task.expires_at = None
        template.lifetime = timedelta(seconds=check_seconds("expires", expires, least=0.001))


def _set_unique_key(template: TaskTemplate, key: Any) -> None:
    template.task.unique_key = check_key("unique_key", key)


def _set_depends_on(template: TaskTemplate, parents: Any) -> None:
    template.task.depends_on = _parent_ids(parents)
    template.task.depends_on = checked_parents(template.task)


def _set_on_parent_failure(template: TaskTemplate, what: Any) -> None:
    if what not in ("cancel", "release"):
        raise ValidationError("on_parent_failure", f"{what!r} is not 'cancel' or 'release'")
    template.task.on_parent_failure = what


def _set_task_id(template: TaskTemplate, task_id: Any) -> None:
    template.task.id = check_name("task_id", task_id)
    template.is_fresh = False


def _set_connection(template: TaskTemplate, connection: Any) -> None:
    template.connection = Caller(connection).given


def _set_later(template: TaskTemplate, value: Any) -> None:
    """For the three options of which `_set_retry` makes one policy."""


_APPLY: dict[str, Callable[[TaskTemplate, Any], None]] = {
    "queue": _set_queue,
    "queue_name": _set_queue,
    "priority": _set_priority,
    "timeout": _set_timeout,
    "max_retries": _set_later,
    "retry": _set_later,
    "retry_on": _set_later,
    "result_ttl": _set_result_ttl,
    "expires": _set_expires,
    "metadata": _set_metadata,
    "delay": _set_delay,
    "run_at": _set_run_at,
    "unique_key": _set_unique_key,
    "depends_on": _set_depends_on,
    "on_parent_failure": _set_on_parent_failure,
    "task_id": _set_task_id,
    "connection": _set_connection,
}


def _set_retry(template: TaskTemplate, given: dict[str, Any]) -> None:
    """Replace the policy before; `max_retries` and `retry_on` change one field of it."""
    policy = check_retry(given.get("retry", template.policy))
    changes = {name: given[name] for name in ("max_retries", "retry_on") if name in given}
    if changes:
        policy = check_retry(msgspec.structs.replace(policy, **changes))
    template.policy = policy
    template.task.retry = policy if policy.max_retries else None


def _check_contradictions(given: dict[str, Any]) -> None:
    if "delay" in given and "run_at" in given:
        raise ValidationError("delay", "give either delay or run_at, not both")
    if given.get("queue", given.get("queue_name")) != given.get("queue_name", given.get("queue")):
        raise ValidationError("queue", "queue and queue_name name two different queues")


def _check_expiry(template: TaskTemplate) -> None:
    """Refuse a task that could never run."""
    delay, lifetime = template.delay, template.lifetime
    if delay is not None and lifetime is not None and lifetime <= delay:
        raise ValidationError("expires", f"{lifetime} is no longer than the delay of {delay}")
    run_at, expires_at = template.task.run_at, template.task.expires_at
    if run_at is not None and expires_at is not None and expires_at <= run_at:
        raise ValidationError("expires", f"{expires_at} is not after run_at, {run_at}")


def _parent_ids(parents: Any) -> tuple[str, ...]:
    """Return the ids of one or several tasks given as ids or handles."""
    is_one = isinstance(parents, str) or hasattr(parents, "id")
    if not is_one and not isinstance(parents, Iterable):
        raise ValidationError("depends_on", f"expected ids or handles, got {parents!r}")
    several: list[Any] = [parents] if is_one else list(cast("Iterable[Any]", parents))
    return tuple(check_name("depends_on", getattr(parent, "id", parent)) for parent in several)


def _unknown_option(name: str) -> str:
    close = difflib.get_close_matches(name, _APPLY, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; options are {', '.join(_APPLY)}"
    return f"there is no task option {name!r}{hint}"
