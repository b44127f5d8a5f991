"""Prometheus: what the workers of a process do, and how the queues of a store stand.

instrument(q)                           # in the application: counts what workers here do
REGISTRY.register(StoreCollector(q))    # in one place: tasks by queue and status
omniq worker tasks --metrics-port 9100  # counts too, and serves /metrics
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from omniq.blocking import refuse_in_loop, run_blocking
from omniq.clock import check_seconds
from omniq.core import OmniQ
from omniq.exceptions import ConfigError, OmniQError, SyncInAsyncError
from omniq.integrations import check_kind
from omniq.models.event import EventType

try:
    from prometheus_client import (
        REGISTRY,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        start_http_server,
    )
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    raise ConfigError(
        "metrics need prometheus-client; install it with: pip install 'omniq-tasks[prometheus]'"
    ) from error

if TYPE_CHECKING:
    from omniq.app.queues import QueueStatus
    from omniq.models.event import TaskEvent
    from omniq.models.task import Task
    from omniq.worker.context import TaskContext

__all__ = ["StoreCollector", "instrument", "registry_of", "served"]

logger = logging.getLogger(__name__)
UNKNOWN = "(unknown)"
"""The label of tasks that no worker here can run: their names come from the store, without end."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Upper ends in seconds, from tasks that take milliseconds to those that take an hour."""
OUTCOMES: dict[EventType | str, str] = {
    EventType.COMPLETED: "completed",
    EventType.FAILED: "failed",
    EventType.RETRYING: "retried",
    EventType.SNOOZED: "snoozed",
    EventType.RELEASED: "released",
    EventType.PARKED: "parked",
    EventType.CANCELLED: "cancelled",
    EventType.EXPIRED: "expired",
    EventType.LEASE_LOST: "lost",
}


def instrument(q: OmniQ, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Count what the workers of `q` in this process do; `docs/monitoring.md` lists the metrics.

    Done again, it does nothing. Several applications with one registry are counted together.

    Args:
        q: the application, before its workers start.
        registry: where the metrics are found; by default where prometheus-client looks.

    Raises:
        ConfigError: `q` is counted in another registry already, or this one has other metrics of
            these names, or one of the two is none.
    """
    check_kind("q", q, OmniQ)
    check_kind("registry", registry, CollectorRegistry)
    known = _registries.get(q)
    if known is registry:
        return
    if known is not None:
        raise ConfigError("this application is instrumented already, with another registry")
    metrics = _metrics.get(registry)
    if metrics is None:
        metrics = _metrics[registry] = _Metrics(registry)
    _hook_in(q, metrics)
    _registries[q] = registry


def registry_of(q: OmniQ) -> CollectorRegistry:
    """Return where `q` is counted; from now on, if it was not.

    Raises:
        ConfigError: as `instrument`.
    """
    if q not in _registries:
        instrument(q)
    return _registries[q]


@contextmanager
def served(q: OmniQ, port: int, host: str = "127.0.0.1") -> Generator[None]:
    """Serve ``/metrics`` from a thread during the block: the registry in which `q` is counted.

    An application that is not instrumented yet is now.

    Raises:
        OSError: the port is taken or may not be used.
        ConfigError: as `instrument`.
    """
    server, thread = start_http_server(port, host, registry_of(q))
    logger.info("metrics at http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class StoreCollector(Collector):
    """How the queues of a store stand, asked when scraped: `REGISTRY.register(StoreCollector(q))`.

    For one place, as what it says is true of the store, not of the process that asks. While the
    store is away, ``omniq_store_up`` is 0 and the rest is missing.

    Args:
        q: whose task queue is asked.
        timeout: seconds after which a store that does not answer counts as away.
    """

    def __init__(self, q: OmniQ, *, timeout: float = 5.0) -> None:
        check_kind("q", q, OmniQ)
        self._q = q
        self._timeout = check_seconds("timeout", timeout, least=0.01)
        self._is_up = True

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values: registering asks nothing of the store."""
        yield from _Families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics.

        Raises:
            SyncInAsyncError: called in a thread where an event loop runs.
        """
        _refuse_in_loop()
        families = _Families()
        try:
            found = run_blocking(self._ask, "StoreCollector.collect")
        except (OmniQError, TimeoutError) as error:
            self._note(error)
            families.up.add_metric((), 0)
            yield families.up
            return
        self._note(None)
        families.up.add_metric((), 1)
        for name, queue in found.items():
            families.paused.add_metric((name,), queue.is_paused)
            for status, number in queue.counts.items():
                families.tasks.add_metric((name, status.value), number)
        yield from families

    async def _ask(self) -> dict[str, QueueStatus]:
        async with asyncio.timeout(self._timeout):
            return await self._q.status()

    def _note(self, error: Exception | None) -> None:
        """Log that the store is away, once, and that it is back."""
        if error is not None and self._is_up:
            what = str(error) or f"no answer within {self._timeout:g} s"
            logger.warning("%r: its store is away: %s", self._q, what)
        elif error is None and not self._is_up:
            logger.warning("%r: its store is back", self._q)
        self._is_up = error is None


class _Families:
    """The metrics of a store, to be filled."""

    def __init__(self) -> None:
        self.up = GaugeMetricFamily("omniq_store_up", "Whether the store of the tasks answers.")
        self.tasks = GaugeMetricFamily(
            "omniq_tasks", "Tasks in the store.", labels=("queue", "status")
        )
        self.paused = GaugeMetricFamily(
            "omniq_queue_paused", "Whether the queue is paused.", labels=("queue",)
        )

    def __iter__(self) -> Iterator[GaugeMetricFamily]:
        return iter((self.up, self.tasks, self.paused))


class _Running(NamedTuple):
    """What is changed by each attempt of one task of one queue."""

    number: Gauge
    duration: Histogram


class _Metrics:
    """The metrics of workers, in one registry.

    Raises:
        ConfigError: it has others of these names.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        by_task = ("queue", "task")
        self.attempts = Counter(
            "omniq_task_attempts",
            "Attempts that ended, by how they did.",
            (*by_task, "outcome"),
            registry=None,
        )
        self.abandoned = Counter(
            "omniq_tasks_abandoned",
            "Claims of tasks that an earlier worker left without a word.",
            by_task,
            registry=None,
        )
        self.duration = Histogram(
            "omniq_task_duration_seconds",
            "How long attempts took, however they ended.",
            by_task,
            buckets=BUCKETS,
            registry=None,
        )
        self.wait = Histogram(
            "omniq_task_wait_seconds",
            "How long tasks were due when a worker first claimed them.",
            ("queue",),
            buckets=BUCKETS,
            registry=None,
        )
        self.running = Gauge(
            "omniq_tasks_running",
            "Attempts under way.",
            by_task,
            registry=None,
            multiprocess_mode="livesum",
        )
        self._register(registry)
        self._by_task: dict[tuple[str, str], _Running] = {}
        self._ends: dict[tuple[str, str, str], Counter] = {}

    def _register(self, registry: CollectorRegistry) -> None:
        ours = (self.attempts, self.abandoned, self.duration, self.wait, self.running)
        done: list[Counter | Histogram | Gauge] = []
        try:
            for metric in ours:
                registry.register(metric)
                done.append(metric)
        except ValueError as error:
            for metric in done:
                registry.unregister(metric)
            raise ConfigError(f"the registry has metrics of the same name: {error}") from error

    def of(self, queue: str, task: str) -> _Running:
        """Return what each attempt of a task changes."""
        found = self._by_task.get((queue, task))
        if found is None:
            found = _Running(self.running.labels(queue, task), self.duration.labels(queue, task))
            self._by_task[queue, task] = found
            self._begin_at_zero(queue, task)
        return found

    def _begin_at_zero(self, queue: str, task: str) -> None:
        """Show what alerts look for before it happens: no rate sees the step from nothing to 1."""
        self.abandoned.labels(queue, task)
        for outcome in ("completed", "failed", "retried", "lost"):
            self.attempts.labels(queue, task, outcome)

    def count_end(self, queue: str, task: str, outcome: str) -> None:
        """Count an attempt that ended."""
        key = (queue, task, outcome)
        counter = self._ends.get(key)
        if counter is None:
            counter = self._ends[key] = self.attempts.labels(*key)
        counter.inc()

    def count_start(self, task: Task) -> None:
        """Count how long a task was due, and whether it was abandoned before."""
        if task.claim_count == 1 and not task.depends_on and task.started_at is not None:
            due_at = max(task.created_at, task.run_at or task.created_at)
            waited = (task.started_at - due_at).total_seconds()
            self.wait.labels(task.queue_name).observe(max(0.0, waited))
        if task.lost_leases:
            self.abandoned.labels(task.queue_name, task.func).inc()


def _hook_in(q: OmniQ, metrics: _Metrics) -> None:
    """Let an application's workers tell of their attempts."""
    names: set[str] = set()  # those that led to a function: there are so many, and no more

    @q.around
    async def measure(context: TaskContext) -> AsyncIterator[None]:
        running = metrics.of(context.task.queue_name, context.task.func)
        running.number.inc()
        began = time.perf_counter()
        try:
            yield
        finally:
            running.duration.observe(time.perf_counter() - began)
            running.number.dec()

    @q.on_event
    def count(event: TaskEvent, task: Task) -> None:
        if event.event_type is EventType.STARTED:
            names.add(task.func)
            metrics.count_start(task)
            return
        outcome = OUTCOMES.get(event.event_type)
        if outcome is not None:
            is_known = task.func in names or task.func in q.registry
            metrics.count_end(task.queue_name, task.func if is_known else UNKNOWN, outcome)


def _refuse_in_loop() -> None:
    try:
        refuse_in_loop("OmniQ.status")
    except SyncInAsyncError:
        raise SyncInAsyncError(
            "StoreCollector waits for the store, which would block the running event loop; "
            "serve /metrics from a thread: by start_http_server, from a plain `def` route, "
            "or by `await asyncio.to_thread(generate_latest)`"
        ) from None


_registries: WeakKeyDictionary[OmniQ, CollectorRegistry] = WeakKeyDictionary()
_metrics: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
