"""OpenTelemetry: traces that go from whoever enqueues a task to the worker that runs it.

instrument(q)   # in the module that makes q: both sides import it

Spans carry names, ids and numbers, and the errors tasks raise; never arguments or results.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import omniq
from omniq.core import OmniQ
from omniq.exceptions import Cancel, ConfigError, Retry, Snooze
from omniq.integrations import check_kind
from omniq.lifecycle import error_info, said
from omniq.worker.runs import StopReason

try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    if error.name != "opentelemetry":
        raise
    raise ConfigError(
        "traces need opentelemetry-api; install it with: pip install 'omniq-tasks[opentelemetry]'"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from omniq.models.result import ErrorInfo
    from omniq.models.task import Task
    from omniq.worker.context import TaskContext

__all__ = ["instrument"]

OUTCOME = "omniq.task.outcome"
_STOPS = {
    StopReason.CANCEL: "cancelled",
    StopReason.LOST: "lost",
    StopReason.RELEASE: "released",
}


def instrument(q: OmniQ, *, tracer_provider: TracerProvider | None = None) -> None:
    """Trace the tasks of `q`: a span where each is enqueued, and below it one for each attempt.

    The context travels in the task's metadata, in the form of the global propagator (by default
    ``traceparent`` of W3C). A task without one, as schedules make them, begins a trace of its own.
    Done again, it does nothing.

    Args:
        q: the application, here and in its workers.
        tracer_provider: by default the global one, also if that is set later.

    Raises:
        ConfigError: `q` is traced with another provider already, or one of the two is none.
    """
    check_kind("q", q, OmniQ)
    if tracer_provider is not None:
        check_kind("tracer_provider", tracer_provider, TracerProvider)
    if q in _providers:
        if _providers[q] is not tracer_provider:
            raise ConfigError("this application is traced already, with another tracer_provider")
        return
    _hook_in(q, trace.get_tracer("omniq", omniq.__version__, tracer_provider))
    _providers[q] = tracer_provider


def _hook_in(q: OmniQ, tracer: Tracer) -> None:
    @q.before_enqueue
    def inject(task: Task) -> Mapping[str, str] | None:
        span = tracer.start_span(
            f"create {task.func}",
            kind=SpanKind.PRODUCER,
            attributes=_attributes(task, "create"),
        )
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        span.end()
        return carrier or None

    @q.around
    async def trace_attempt(attempt: TaskContext) -> AsyncIterator[None]:
        around = _carried(attempt.task)
        span = tracer.start_span(
            f"process {attempt.task.func}",
            around,
            SpanKind.CONSUMER,
            {
                **_attributes(attempt.task, "process"),
                "omniq.task.attempt": attempt.attempt,
                "messaging.client.id": attempt.worker_id,
            },
        )
        token = contexts.attach(trace.set_span_in_context(span, around))
        try:
            yield
            span.set_attribute(OUTCOME, "completed")
        except BaseException as error:
            _tell_end(span, attempt, error)
            raise
        finally:
            contexts.detach(token)
            span.end()


def _carried(task: Task) -> contexts.Context:
    """Return the context a task came with, and nothing of where its worker was started.

    Of the metadata, which may hold anything, propagators only read what could be a header.
    """
    if not task.metadata:
        return contexts.Context()
    carrier = {key: value for key, value in task.metadata.items() if isinstance(value, str)}
    return propagate.extract(carrier, contexts.Context())


def _attributes(task: Task, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": "omniq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": task.queue_name,
        "messaging.message.id": task.id,
        "omniq.task.name": task.func,
    }


def _tell_end(span: Span, attempt: TaskContext, error: BaseException) -> None:
    """Say how an attempt ended that did not return."""
    if not span.is_recording():
        return
    if isinstance(error, Retry | Snooze | Cancel):
        name, outcome = _signal(error)
        span.add_event(f"omniq.{name}", {"omniq.reason": said(error)})
        span.set_attribute(OUTCOME, outcome)
        return
    stop = attempt.stop_reason if isinstance(error, asyncio.CancelledError) else None
    if stop is None:
        info = error_info(error)
        span.add_event("exception", _exception(info))
        _fail(span, "failed", _type(info), info.message)
    elif stop is StopReason.TIMEOUT:
        _fail(span, "timeout", "timeout", f"longer than {attempt.task.timeout_seconds:g} s")
    else:
        span.set_attribute(OUTCOME, _STOPS[stop])


def _signal(signal: Retry | Snooze | Cancel) -> tuple[str, str]:
    """Return the names of what a task asked for, and of the end that is."""
    match signal:
        case Snooze():
            return "snooze", "snoozed"
        case Cancel():
            return "cancel", "cancelled"
        case Retry():
            return "retry", "retried"


def _exception(info: ErrorInfo) -> dict[str, str]:
    """Return what `Span.record_exception` records; that raises where `str(error)` does."""
    return {
        "exception.type": _type(info),
        "exception.message": info.message,
        "exception.stacktrace": info.traceback,
    }


def _type(info: ErrorInfo) -> str:
    return info.type.removeprefix("builtins.")


def _fail(span: Span, outcome: str, kind: str, text: str) -> None:
    span.set_attribute(OUTCOME, outcome)
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, text))


_providers: WeakKeyDictionary[OmniQ, TracerProvider | None] = WeakKeyDictionary()
