"""Refusing bad tasks, results, events and schedules before anything is stored."""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar, cast

import msgspec

from omniq.clock import LONGEST_DELAY, check_moment, check_seconds, utcnow
from omniq.exceptions import ValidationError
from omniq.ids import check_func, check_key, check_name
from omniq.models.event import EventType, TaskEvent
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.models.task import RetryPolicy, Task, TaskStatus

E = TypeVar("E", bound=Enum)
PRIORITY_LIMIT = 1_000_000
MAX_PARENTS = 1_000
MAX_RETRIES = 10_000
_MOMENTS = ("run_at", "expires_at", "due_at", "started_at", "finished_at")
_NO_MOMENTS = (None,) * len(_MOMENTS)
_moments_of = attrgetter(*_MOMENTS)
_COUNTS = ("attempt", "claim_count", "lost_leases", "waiting_for")
_LARGEST_COUNT = 2**31 - 1
_STATE = (*_COUNTS, "lease_token", "worker_id", "cancel_requested", "progress", "error")
_FRESH = (0, 0, 0, 0, None, None, False, None, None)
_state_of = attrgetter(*_STATE)


def checked_task(task: Task) -> Task:
    """Return the task, or a copy fit to be stored: its moments in UTC, its sequences tuples.

    Raises:
        ValidationError: a field is out of its range; the error names it.
    """
    if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ValidationError("task", f"expected a Task, got {type(task).__name__}")
    check_name("id", task.id)
    check_name("queue_name", task.queue_name)
    check_func("func", task.func)
    check_priority(task.priority)
    changes = _changed_moments(task)
    if type(task.args) is not tuple:
        changes["args"] = _args_as_tuple(task.args)
    if task.kwargs or type(task.kwargs) is not dict:
        check_mapping("kwargs", task.kwargs)
    if task.metadata or type(task.metadata) is not dict:
        check_mapping("metadata", task.metadata)
    _check_options(task)
    if _state_of(task) != _FRESH:
        changes |= _checked_state(task)
    if task.depends_on:
        changes["depends_on"] = checked_parents(task)
    if type(task.status) is not TaskStatus:
        changes["status"] = read_choice("status", TaskStatus, task.status)
    return msgspec.structs.replace(task, **changes) if changes else task


def _changed_moments(task: Task) -> dict[str, Any]:
    """Check the moments of a task; return those that must be stored in another form."""
    changed: dict[str, Any] = {}
    created_at = check_moment("created_at", task.created_at)
    if created_at is not task.created_at:
        changed["created_at"] = created_at
    moments = _moments_of(task)
    if moments == _NO_MOMENTS:
        return changed
    for name, given in zip(_MOMENTS, moments, strict=True):
        if given is not None:
            moment = check_moment(name, given)
            if moment is not given:
                changed[name] = moment
    run_at = changed.get("run_at", task.run_at)
    if run_at is not None and run_at - utcnow() > LONGEST_DELAY:
        raise ValidationError("run_at", f"{run_at:%Y-%m-%d} is over ten years ahead")
    return changed


def _checked_state(task: Task) -> dict[str, Any]:
    """Check what changes of a task in its life; return what must be stored in another form.

    A state that a store takes and nobody can read would stand in the way of all others.
    """
    for name in _COUNTS:
        _check_count(name, getattr(task, name))
    for name in ("lease_token", "worker_id"):
        if getattr(task, name) is not None:
            check_name(name, getattr(task, name))
    if type(task.cancel_requested) is not bool:
        raise ValidationError("cancel_requested", f"{task.cancel_requested!r:.80} is no bool")
    if task.progress is not None and not _is_finite(task.progress):
        raise ValidationError("progress", f"{task.progress!r:.80} is no finite number")
    return {"error": _checked_text("error", task.error)}


def _check_count(field: str, number: object) -> None:
    if type(number) is not int or abs(number) > _LARGEST_COUNT:
        raise ValidationError(field, f"{number!r:.80} is no modest integer")


def storable_text(text: str) -> str:
    """Return a text every store can hold: NUL and half characters escaped.

    File names that are no Unicode carry lone surrogates into error messages.
    """
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _is_finite(number: object) -> bool:
    return type(number) in (int, float) and math.isfinite(cast("float", number))


def _args_as_tuple(args: object) -> tuple[Any, ...]:
    if not isinstance(args, list):
        raise ValidationError("args", f"expected a tuple, got {type(args).__name__}")
    return tuple(args)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - user input


def _check_options(task: Task) -> None:
    if task.timeout_seconds is not None:
        check_seconds("timeout_seconds", task.timeout_seconds, least=0.001)
    if task.result_ttl_seconds is not None:
        check_seconds("result_ttl_seconds", task.result_ttl_seconds)
    if task.unique_key is not None:
        check_key("unique_key", task.unique_key)
    if task.retry is not None:
        check_retry(task.retry)
    if task.schedule_id is not None:
        check_name("schedule_id", task.schedule_id)


def check_priority(priority: object) -> int:
    """Return a usable priority. Raises ValidationError for anything but a modest integer."""
    if type(priority) is int and -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        return priority
    raise ValidationError(
        "priority", f"{priority!r} is no integer between -{PRIORITY_LIMIT:,} and {PRIORITY_LIMIT:,}"
    )


def check_mapping(field: str, value: object) -> None:
    """Refuse anything but a dict with text keys. Raises ValidationError."""
    if type(value) is dict and all(type(key) is str for key in value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - user input
        return
    raise ValidationError(field, f"expected a dict with text keys, got {value!r:.80}")


def check_retry(policy: object) -> RetryPolicy:
    """Return a usable retry policy. Raises ValidationError naming the field that is not."""
    if not isinstance(policy, RetryPolicy):
        raise ValidationError("retry", f"expected a RetryPolicy, got {type(policy).__name__}")
    if type(policy.max_retries) is not int or not 0 <= policy.max_retries <= MAX_RETRIES:
        raise ValidationError(
            "retry.max_retries",
            f"{policy.max_retries!r} is no integer between 0 and {MAX_RETRIES:,}",
        )
    check_seconds("retry.delay_seconds", policy.delay_seconds)
    check_seconds("retry.max_delay_seconds", policy.max_delay_seconds)
    for name in policy.retry_on:
        if "." not in str(name):
            raise ValidationError(
                "retry.retry_on",
                f"{name!r} has no module; pass the class, or builtins.{name}",
            )
    if policy.backoff not in ("fixed", "linear", "exponential"):
        raise ValidationError(
            "retry.backoff", f"{policy.backoff!r} is not one of fixed, linear, exponential"
        )
    if type(policy.jitter) is not bool:
        raise ValidationError("retry.jitter", f"{policy.jitter!r} is not True or False")
    if type(policy.factor) not in (int, float) or not 1.0 <= policy.factor <= 1000.0:
        raise ValidationError("retry.factor", f"{policy.factor!r} is not between 1 and 1000")
    return policy


def checked_parents(task: Task) -> tuple[str, ...]:
    """Return the parent ids of a task without repeats.

    Raises:
        ValidationError: an id is bad, there are over a thousand, or the task waits for itself.
    """
    if isinstance(task.depends_on, str):
        raise ValidationError("depends_on", "expected a sequence of ids, got one str")
    parents = tuple(dict.fromkeys(task.depends_on))
    if len(parents) > MAX_PARENTS:
        raise ValidationError("depends_on", f"over {MAX_PARENTS:,} parents")
    for parent_id in parents:
        check_name("depends_on", parent_id)
    if task.id in parents:
        raise ValidationError("depends_on", f"task {task.id} cannot wait for itself")
    if task.on_parent_failure not in ("cancel", "release"):
        raise ValidationError(
            "on_parent_failure", f"{task.on_parent_failure!r} is not 'cancel' or 'release'"
        )
    return parents


def checked_result(result: TaskResult) -> TaskResult:
    """Return the result, or a copy fit to be stored. Raises ValidationError naming the field."""
    if not isinstance(result, TaskResult):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ValidationError("result", f"expected a TaskResult, got {type(result).__name__}")
    check_name("task_id", result.task_id)
    _check_count("claim_count", result.claim_count)
    _check_count("attempt", result.attempt)
    if result.worker_id is not None and type(result.worker_id) is not str:  # pyright: ignore[reportUnnecessaryComparison] - user input
        raise ValidationError(
            "worker_id", f"expected a text, got {type(result.worker_id).__name__}"
        )
    if result.error is not None:
        _check_error(result.error)
    if type(result.status) is not ResultStatus:
        status = read_choice("status", ResultStatus, result.status)
        result = msgspec.structs.replace(result, status=status)
    stored_at = check_moment("stored_at", result.stored_at)
    expires_at = moment_or_none("expires_at", result.expires_at)
    if stored_at is result.stored_at and expires_at is result.expires_at:
        return result
    return msgspec.structs.replace(result, stored_at=stored_at, expires_at=expires_at)


def _check_error(error: object) -> None:
    if not isinstance(error, ErrorInfo):
        raise ValidationError("error", f"expected an ErrorInfo, got {type(error).__name__}")
    for name in error.__struct_fields__:
        if type(getattr(error, name)) is not str:
            raise ValidationError(f"error.{name}", "expected a text")


def checked_event(event: TaskEvent) -> TaskEvent:
    """Return the event, or a copy fit to be stored. Raises ValidationError naming the field."""
    if not isinstance(event, TaskEvent):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ValidationError("event", f"expected a TaskEvent, got {type(event).__name__}")
    check_name("task_id", event.task_id)
    kind = event.event_type
    if type(kind) is not EventType and not _is_word(kind):
        raise ValidationError("event_type", "use 1 to 128 printable characters")
    if event.details:
        check_mapping("details", event.details)
    timestamp = check_moment("timestamp", event.timestamp)
    message = _checked_text("message", event.message)
    worker_id = _checked_text("worker_id", event.worker_id)
    kept = (event.timestamp, event.message, event.worker_id)
    if timestamp is kept[0] and message is kept[1] and worker_id is kept[2]:
        return event
    return msgspec.structs.replace(event, timestamp=timestamp, message=message, worker_id=worker_id)


def _is_word(kind: object) -> bool:
    return isinstance(kind, str) and 0 < len(kind) <= 128 and kind.isprintable()


def _checked_text(field: str, text: object) -> str | None:
    """Return a text that may be left out as every store can hold it. Raises ValidationError."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValidationError(field, f"expected a text, got {type(text).__name__}")
    return text if text.isascii() and "\0" not in text else storable_text(text)


def read_choice(field: str, kind: type[E], value: E | str) -> E:
    """Return the member of an enum that `value` is or names.

    Raises:
        ValidationError: it names none; the message lists them.
    """
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(str(member.value) for member in kind)
        raise ValidationError(field, f"{value!r} is not one of {names}") from None


def check_queues(queues: object) -> list[str]:
    """Return a list of queue names from one name or a sequence of them, without repeats.

    Raises:
        ValidationError: a name is bad, or there is none.
    """
    names: list[Any] = [queues] if isinstance(queues, str) else list(cast("Any", queues))
    if not names:
        raise ValidationError("queues", "name at least one queue")
    return list(dict.fromkeys(check_name("queue_name", name) for name in names))


def check_limit(field: str, limit: object, most: int = 10_000) -> int:
    """Return a usable positive count. Raises ValidationError."""
    if type(limit) is int and 1 <= limit <= most:
        return limit
    raise ValidationError(field, f"{limit!r} is no integer between 1 and {most:,}")


def moment_or_none(field: str, moment: datetime | None) -> datetime | None:
    """Check a moment that may be left out."""
    return None if moment is None else check_moment(field, moment)
