"""Traces from those who enqueue tasks to those who run them, as the SDK of OpenTelemetry sees."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from omniq import Cancel, OmniQ, Retry, RetryPolicy, Snooze, TaskStatus, current_task
from omniq.exceptions import ConfigError
from omniq.integrations.opentelemetry import instrument
from omniq.testing.waiting import wait_until
from tests.integration.conftest import burst, working_on
from tests.integrations.declaring import declare

BOTH = pytest.mark.parametrize("is_async", [True, False])


class Traced:
    """An application whose spans are seen."""

    def __init__(self, provider: TracerProvider) -> None:
        self.q = OmniQ("memory://")
        self.provider = provider
        self.tracer = provider.get_tracer("test")
        self._seen = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._seen))
        instrument(self.q, tracer_provider=provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended."""
        return list(self._seen.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of this name, in the order they ended."""
        return [span for span in self.spans if span.name == name]

    def attempt(self) -> ReadableSpan:
        """The only attempt there was."""
        (span,) = (span for span in self.spans if span.kind is SpanKind.CONSUMER)
        return span


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    traced = Traced(TracerProvider())
    async with traced.q:
        yield traced


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return _context(span).span_id


def trace_of(span: ReadableSpan) -> int:
    return _context(span).trace_id


def _context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


@BOTH
async def test_an_attempt_is_below_the_span_of_whoever_enqueued_it(
    traced: Traced, *, is_async: bool
) -> None:
    """One trace from the request to the worker, with the attributes of messaging systems."""
    work = declare(traced.q, lambda: 1, is_async=is_async)
    with traced.tracer.start_as_current_span("request"):
        handle = await work.enqueue()
    await burst(traced.q)

    (request,), (create,) = traced.named("request"), traced.named("create work")
    process = traced.attempt()
    assert [parent_of(span) for span in (create, process)] == [id_of(request), id_of(create)]
    assert {trace_of(span) for span in traced.spans} == {trace_of(request)}
    assert (create.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {
        "messaging.system": "omniq",
        "messaging.destination.name": "default",
        "messaging.message.id": handle.id,
        "omniq.task.name": "work",
    }
    assert dict(create.attributes or {}) == {
        **common,
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
    }
    assert dict(process.attributes or {}) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.client.id": (await handle.task()).worker_id,
        "omniq.task.attempt": 1,
        "omniq.task.outcome": "completed",
    }
    assert process.status.status_code is StatusCode.UNSET


@BOTH
async def test_what_a_task_traces_or_enqueues_is_below_it(
    traced: Traced, *, is_async: bool
) -> None:
    """The context reaches coroutines and the threads of plain functions."""

    @traced.q.task(name="child")
    async def child() -> None: ...

    async def enqueueing() -> None:
        with traced.tracer.start_as_current_span("query"):
            await child.enqueue()

    def enqueueing_too() -> None:
        with traced.tracer.start_as_current_span("query"):
            child.enqueue_sync()

    work = traced.q.task(name="work")(enqueueing if is_async else enqueueing_too)
    await work.enqueue()
    await burst(traced.q)

    names = ("create work", "process work", "query", "create child", "process child")
    chain = [traced.named(name)[0] for name in names]
    assert [parent_of(span) for span in chain[1:]] == [id_of(span) for span in chain[:-1]]
    assert len({trace_of(span) for span in chain}) == 1


async def test_each_task_of_many_has_a_span_of_its_own(traced: Traced) -> None:
    """And so its own trace through the workers, below the same request."""
    work = declare(traced.q, lambda: None)
    with traced.tracer.start_as_current_span("request") as request:
        await work.enqueue_many([()] * 3)
    await burst(traced.q)

    created, processed = traced.named("create work"), traced.named("process work")
    assert {parent_of(span) for span in created} == {request.get_span_context().span_id}
    assert sorted(map(id_of, created)) == sorted(parent_of(span) or 0 for span in processed)


async def test_a_blocking_call_is_below_its_caller_too(traced: Traced) -> None:
    """What it does, it does in another thread."""
    work = declare(traced.q, lambda: None)

    def request() -> None:
        with traced.tracer.start_as_current_span("request"):
            work.enqueue_sync()

    await asyncio.to_thread(request)

    (create,), (asked,) = traced.named("create work"), traced.named("request")
    assert parent_of(create) == id_of(asked)


async def test_baggage_travels_along(traced: Traced) -> None:
    """The global propagator decides what is carried; by default, this too."""
    work = declare(traced.q, lambda: str(baggage.get_baggage("tenant")))
    token = context.attach(baggage.set_baggage("tenant", "a"))
    handle = await work.enqueue()
    context.detach(token)
    await burst(traced.q)

    assert await handle.result() == "a"


@pytest.mark.parametrize(
    "metadata", [{}, {"traceparent": 5, "tracestate": [1]}, {"traceparent": "x"}]
)
async def test_a_task_without_a_trace_begins_one(traced: Traced, metadata: Any) -> None:
    """As schedules make them; also in a worker that is started within a span itself."""
    declare(traced.q, lambda: None)
    template = traced.q.task_function("work").options(metadata=metadata)
    with traced.tracer.start_as_current_span("start") as start:
        await traced.q.task_queue.enqueue(template.make_task())
        await burst(traced.q)

    process = traced.attempt()
    assert process.parent is None
    assert trace_of(process) != start.get_span_context().trace_id


@BOTH
async def test_a_failure_is_an_error_with_its_exception(traced: Traced, *, is_async: bool) -> None:
    """In the words of the error, and where it was raised."""

    def fail() -> None:
        raise LookupError("gone")

    await declare(traced.q, fail, is_async=is_async).enqueue()
    await burst(traced.q)

    span = traced.attempt()
    (event,) = span.events
    attributes = dict(event.attributes or {})
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "gone")
    assert (span.attributes or {})["error.type"] == "LookupError"
    assert (span.attributes or {})["omniq.task.outcome"] == "failed"
    assert event.name == "exception"
    assert attributes["exception.type"] == "LookupError"
    assert "in fail" in str(attributes["exception.stacktrace"])


async def test_an_error_that_cannot_say_what_it_is_is_told_of_all_the_same(traced: Traced) -> None:
    """And fails its task, not the tracing."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def fail() -> None:
        raise MuteError

    handle = await declare(traced.q, fail).enqueue()
    await burst(traced.q)

    result = await traced.q.result_storage.get(handle.id)
    assert result is not None
    assert result.error is not None
    assert "MuteError" in result.error.type
    assert "ZeroDivisionError" in str(traced.attempt().status.description)


@BOTH
@pytest.mark.parametrize(
    ("signal", "event", "outcome", "status"),
    [
        (Retry(60, "later"), "omniq.retry", "retried", TaskStatus.SCHEDULED),
        (Snooze(60, "later"), "omniq.snooze", "snoozed", TaskStatus.SCHEDULED),
        (Cancel("later"), "omniq.cancel", "cancelled", TaskStatus.CANCELLED),
    ],
)
async def test_what_a_task_asks_for_is_no_error(
    traced: Traced, signal: Exception, event: str, outcome: str, status: str, *, is_async: bool
) -> None:
    """A task that comes back later by plan must not look broken."""

    def ask() -> None:
        raise signal

    handle = await declare(traced.q, ask, is_async=is_async, max_retries=1).enqueue()
    await burst(traced.q)

    span = traced.attempt()
    assert await handle.status() == status
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["omniq.task.outcome"] == outcome
    assert [(one.name, dict(one.attributes or {})) for one in span.events] == [
        (event, {"omniq.reason": "later"})
    ]


@BOTH
async def test_timeouts_cancellations_and_stops_are_told_apart(
    traced: Traced, *, is_async: bool
) -> None:
    """Only the first is an error."""
    started: list[str] = []

    async def endless() -> None:
        started.append(current_task().id)
        await asyncio.Event().wait()

    def spinning() -> None:
        started.append(current_task().id)
        while True:
            threading.Event().wait(0.005)

    work = traced.q.task(name="work")(endless if is_async else spinning)
    async with working_on(traced.q, lease_seconds=3):
        await work.options(timeout=0.05).enqueue()
        handle = await work.enqueue()
        await wait_until(lambda: len(started) == 2, description="both run")
        await handle.cancel()
        await wait_until(lambda: len(traced.named("process work")) == 2, description="both ended")
        await work.enqueue()
        await wait_until(lambda: len(started) == 3, description="the third runs")

    ends = [
        ((span.attributes or {})["omniq.task.outcome"], span.status.status_code)
        for span in traced.named("process work")
    ]
    assert ends == [
        ("timeout", StatusCode.ERROR),
        ("cancelled", StatusCode.UNSET),
        ("released", StatusCode.UNSET),
    ]
    assert traced.named("process work")[0].status.description == "longer than 0.05 s"


async def test_each_attempt_is_a_span(traced: Traced) -> None:
    """Below the same creation, however long it takes."""

    def fail() -> None:
        raise LookupError

    await declare(traced.q, fail, retry=RetryPolicy(max_retries=1, delay_seconds=0)).enqueue()
    await burst(traced.q)
    await burst(traced.q)

    spans = traced.named("process work")
    assert [(span.attributes or {})["omniq.task.attempt"] for span in spans] == [1, 2]
    assert len({parent_of(span) for span in spans}) == 1


async def test_arguments_and_results_are_in_no_span(traced: Traced) -> None:
    """They may be secret, and traces are read by many."""

    @traced.q.task(name="work")
    async def work(first: str, *, second: str) -> str:
        return "hunter3"

    await work.enqueue("hunter1", second="hunter2")
    await burst(traced.q)

    assert len(traced.spans) == 2
    assert "hunter" not in "".join(span.to_json() for span in traced.spans)


async def test_what_is_not_sampled_is_not_sampled_further_on() -> None:
    """The decision at the start of a trace travels along; a task runs the same."""
    traced = Traced(TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    async with traced.q:
        handle = await declare(traced.q, lambda: 1).enqueue()
        await burst(traced.q)

        parent = (await handle.task()).metadata["traceparent"]
        assert await handle.result() == 1
    assert int(parent.rpartition("-")[2], 16) & trace.TraceFlags.SAMPLED == 0
    assert traced.spans == []


async def test_without_an_sdk_nothing_is_carried() -> None:
    """A library may be instrumented that nobody traces."""
    async with OmniQ("memory://") as q:
        instrument(q, tracer_provider=trace.NoOpTracerProvider())
        handle = await q.enqueue("f")
        assert (await handle.task()).metadata == {}


async def test_twice_is_once_and_two_providers_are_refused(traced: Traced) -> None:
    """A module may be imported in two ways; two traces of one task would mislead."""
    instrument(traced.q, tracer_provider=traced.provider)
    with pytest.raises(ConfigError, match="traced already"):
        instrument(traced.q)

    await declare(traced.q, lambda: None).enqueue()
    await burst(traced.q)
    assert len(traced.spans) == 2


def test_what_is_no_application_or_no_provider_is_refused() -> None:
    """A tracer is easily taken for its provider."""
    q, tracer = OmniQ("memory://"), TracerProvider().get_tracer("x")
    wrong: Any = tracer
    with pytest.raises(ConfigError, match="q: expected OmniQ"):
        instrument(wrong)
    with pytest.raises(ConfigError, match="tracer_provider: expected TracerProvider"):
        instrument(q, tracer_provider=wrong)


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    """And `import omniq` needs none of it."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import omniq, omniq.core, omniq.cli, omniq.worker\n"
        "import omniq.integrations.opentelemetry"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )

    assert ended.returncode == 1
    assert (
        "ConfigError: traces need opentelemetry-api; install it with: pip install" in ended.stderr
    )
    assert "'omniq-tasks[opentelemetry]'" in ended.stderr
