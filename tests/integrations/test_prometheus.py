"""What Prometheus is told: by workers of what they do, by a collector of how the queues stand."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from omniq import Cancel, OmniQ, Retry, RetryPolicy, Snooze, Task, current_task
from omniq.clock import utcnow
from omniq.exceptions import ConfigError, SyncInAsyncError, ValidationError
from omniq.integrations.prometheus import StoreCollector, instrument
from omniq.storage.base import BaseQueue
from tests.integration.conftest import burst
from tests.integrations.declaring import declare

BOTH = pytest.mark.parametrize("is_async", [True, False])


class Measured:
    """An application and what is counted of it."""

    def __init__(self) -> None:
        self.q = OmniQ("memory://")
        self.registry = CollectorRegistry()
        instrument(self.q, registry=self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, of the queue `default` unless told otherwise."""
        return self.registry.get_sample_value(name, {"queue": "default", **labels})

    def ends(self, task: str = "work") -> dict[str, float]:
        """How often attempts of a task ended how."""
        return {
            sample.labels["outcome"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "omniq_task_attempts_total"
            and sample.labels["task"] == task
            and sample.value
        }


@pytest.fixture
async def measured() -> AsyncIterator[Measured]:
    measured = Measured()
    async with measured.q:
        yield measured


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


class TestAttempts:
    """How attempts end."""

    @BOTH
    @pytest.mark.parametrize(
        ("work", "outcome"),
        [
            (lambda: 1, "completed"),
            (raising(LookupError()), "failed"),
            (raising(Retry(60)), "retried"),
            (raising(Snooze(60)), "snoozed"),
            (raising(Cancel()), "cancelled"),
        ],
    )
    async def test_each_end_is_counted_by_its_name(
        self, measured: Measured, work: Callable[[], Any], outcome: str, *, is_async: bool
    ) -> None:
        """After the store has taken it; each attempt was timed."""
        retries = {"max_retries": 1} if outcome == "retried" else {}
        await declare(measured.q, work, is_async=is_async, **retries).enqueue_many([()] * 3)
        await burst(measured.q)

        assert measured.ends() == {outcome: 3}
        assert measured.value("omniq_task_duration_seconds_count", task="work") == 3
        assert measured.value("omniq_tasks_running", task="work") == 0

    @BOTH
    async def test_a_timeout_is_a_failure_that_took_its_time(
        self, measured: Measured, *, is_async: bool
    ) -> None:
        """The histogram shows where it was cut off."""

        async def endless() -> None:
            await asyncio.Event().wait()

        def spinning() -> None:
            while True:
                threading.Event().wait(0.005)

        work = measured.q.task(name="work", timeout=0.05)(endless if is_async else spinning)
        await work.enqueue()
        await burst(measured.q)

        assert measured.ends() == {"failed": 1}
        took = measured.value("omniq_task_duration_seconds_sum", task="work")
        assert took is not None
        assert took >= 0.05

    async def test_what_ends_without_running_is_counted_and_not_timed(
        self, measured: Measured
    ) -> None:
        """A task that has killed three workers, and one that came too late."""
        declare(measured.q, lambda: 1)
        queue, now = measured.q.task_queue, utcnow()
        await queue.insert([Task(func="work")])
        for hours in (9, 8, 7):
            await claim(queue, now - timedelta(hours=hours))
        await queue.insert([Task(func="work", expires_at=now - timedelta(seconds=1))])
        await burst(measured.q)

        assert measured.ends() == {"expired": 1, "failed": 1}
        assert measured.value("omniq_task_duration_seconds_count", task="work") is None

    async def test_a_lost_lease_and_the_task_left_behind_are_counted(
        self, measured: Measured
    ) -> None:
        """The first by the worker that lost it; the second by the one that claims it next."""
        queue, now = measured.q.task_queue, utcnow()
        others: list[list[Task]] = []

        @measured.q.task(name="work")
        async def work() -> None:
            if current_task().task.claim_count == 2:
                others.append(await claim(queue, now + timedelta(hours=1)))

        await queue.insert([Task(func="work")])
        await claim(queue, now - timedelta(hours=1))
        await burst(measured.q)

        assert [task.claim_count for (task,) in others] == [3]
        assert measured.ends() == {"lost": 1}
        assert measured.value("omniq_tasks_abandoned_total", task="work") == 1

    async def test_names_that_nobody_knows_share_a_label(self, measured: Measured) -> None:
        """They come from the store: a million of them would be a million series."""
        for n in range(5):
            await measured.q.enqueue(f"unknown.{n}")
        await burst(measured.q)

        assert measured.ends("(unknown)") == {"parked": 5}
        assert b"unknown." not in generate_latest(measured.registry)

    async def test_a_task_of_an_allowed_module_has_its_name(self, measured: Measured) -> None:
        """It is not registered, but it is code, and there is only so much of that."""
        await measured.q.enqueue("tests.naming.stable_id", 1)
        await burst(measured.q, allow_modules=["tests.naming"])

        assert measured.ends("tests.naming.stable_id") == {"completed": 1}

    async def test_a_task_that_began_shows_failures_before_there_are_any(
        self, measured: Measured
    ) -> None:
        """`increase()` does not see the step from no series to 1, so the first would be missed."""
        await declare(measured.q, lambda: 1).enqueue()
        await burst(measured.q)

        for outcome in ("failed", "retried", "lost"):
            assert measured.value("omniq_task_attempts_total", task="work", outcome=outcome) == 0
        assert measured.value("omniq_tasks_abandoned_total", task="work") == 0

    @BOTH
    async def test_attempts_under_way_are_shown(
        self, measured: Measured, *, is_async: bool
    ) -> None:
        """While they run, and not before or after."""
        seen: list[float | None] = []
        running = "omniq_tasks_running"
        work = declare(
            measured.q, lambda: seen.append(measured.value(running, task="work")), is_async=is_async
        )
        await work.enqueue()
        await burst(measured.q)

        assert [*seen, measured.value(running, task="work")] == [1, 0]


class TestWait:
    """How long tasks were due when they began."""

    async def test_it_counts_from_when_the_task_could_have_run(self, measured: Measured) -> None:
        """A delay that was asked for is no delay, and a clock that is ahead none either."""
        declare(measured.q, lambda: 1)
        now = utcnow()
        long_ago, ahead = now - timedelta(days=9), now + timedelta(hours=9)
        tasks = [
            Task(func="work", created_at=now - timedelta(seconds=2000)),
            Task(func="work", created_at=long_ago, run_at=now - timedelta(seconds=200)),
            Task(func="work", created_at=ahead),
        ]
        await measured.q.task_queue.insert(tasks)
        await burst(measured.q)

        assert measured.value("omniq_task_wait_seconds_count") == 3
        assert measured.value("omniq_task_wait_seconds_sum") == pytest.approx(2200, abs=60)

    async def test_only_the_first_start_counts(self, measured: Measured) -> None:
        """A retry waits on purpose, and a task with parents for them."""
        retry = RetryPolicy(max_retries=1, delay_seconds=0)
        work = declare(measured.q, raising(LookupError()), retry=retry)
        first = await work.enqueue()
        await work.options(depends_on=[first.id], on_parent_failure="release").enqueue()
        for _ in range(3):
            await burst(measured.q)

        assert measured.ends() == {"retried": 2, "failed": 2}
        assert measured.value("omniq_task_wait_seconds_count") == 1


class TestInstrument:
    """What may be instrumented, and how often."""

    async def test_twice_is_once(self, measured: Measured) -> None:
        """A module may be imported in two ways, and the command instruments too."""
        instrument(measured.q, registry=measured.registry)
        await declare(measured.q, lambda: 1).enqueue()
        await burst(measured.q)

        assert measured.ends() == {"completed": 1}

    def test_a_second_registry_is_refused(self, measured: Measured) -> None:
        """Each would show half of what one expects of it."""
        with pytest.raises(ConfigError, match="instrumented already, with another registry"):
            instrument(measured.q, registry=CollectorRegistry())

    async def test_applications_of_one_registry_are_counted_together(
        self, measured: Measured
    ) -> None:
        """A process has one address to be scraped at."""
        async with OmniQ("memory://") as other:
            instrument(other, registry=measured.registry)
            handles = [await q.task(name="work")(int).enqueue() for q in (measured.q, other)]
            await burst(measured.q)
            await burst(other)

        assert len(handles) == 2
        assert measured.ends() == {"completed": 2}

    def test_what_is_no_application_or_no_registry_is_refused(self) -> None:
        """Often it is the web application that is given, or a URL."""
        wrong: Any = "sqlite:///jobs.db"
        with pytest.raises(ConfigError, match="q: expected OmniQ, got 'sqlite:"):
            instrument(wrong)
        with pytest.raises(ConfigError, match="q: expected OmniQ"):
            StoreCollector(wrong)
        with pytest.raises(ConfigError, match="registry: expected CollectorRegistry"):
            instrument(OmniQ("memory://"), registry=wrong)

    def test_metrics_of_the_same_name_are_a_clear_error(self) -> None:
        """And nothing of ours stays behind in a registry that is somebody else's."""
        q, registry = OmniQ("memory://"), CollectorRegistry()
        theirs = Counter("omniq_tasks_abandoned", "Theirs.", registry=registry)

        with pytest.raises(ConfigError, match=r"metrics of the same name.*omniq_tasks_abandoned"):
            instrument(q, registry=registry)

        assert {family.name for family in registry.collect()} == {"omniq_tasks_abandoned"}
        registry.unregister(theirs)
        instrument(q, registry=registry)


class TestStoreCollector:
    """How queues stand, asked from a thread when scraped."""

    async def test_it_shows_tasks_by_status_and_what_is_paused(self) -> None:
        """Depth of queues, whoever works on them."""
        registry = CollectorRegistry()
        async with OmniQ("memory://") as q:
            registry.register(StoreCollector(q))
            await q.task_function("a").enqueue_many([()] * 3)
            await q.task_function("a").options(queue="mail", delay=60).enqueue()
            await q.pause_queue("mail")
            await q.pause_queue("empty")
            await asyncio.to_thread(generate_latest, registry)
            text = (await asyncio.to_thread(generate_latest, registry)).decode()

        samples = [line for line in text.splitlines() if line[0] != "#"]
        assert sorted(samples) == [
            'omniq_queue_paused{queue="default"} 0.0',
            'omniq_queue_paused{queue="empty"} 1.0',
            'omniq_queue_paused{queue="mail"} 1.0',
            "omniq_store_up 1.0",
            'omniq_tasks{queue="default",status="pending"} 3.0',
            'omniq_tasks{queue="mail",status="scheduled"} 1.0',
        ]

    def test_a_store_that_is_away_is_shown_as_such_and_logged_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The other metrics of the process are served all the same; and it may come back."""
        registry, folder = CollectorRegistry(auto_describe=True), tmp_path / "later"
        Counter("other", "Another metric.", registry=registry)
        q = OmniQ(f"sqlite:///{folder}/jobs.db")
        with caplog.at_level(logging.WARNING, "omniq.integrations.prometheus"):
            registry.register(StoreCollector(q))
            assert caplog.records == []  # that asks nothing yet
            texts = [generate_latest(registry).decode() for _ in range(2)]
            folder.mkdir()
            texts.append(generate_latest(registry).decode())
        q.close_sync()

        assert ["omniq_store_up 1.0" in text for text in texts] == [False, False, True]
        assert ["omniq_store_up 0.0" in text for text in texts] == [True, True, False]
        assert all("other_total 0.0" in text for text in texts)
        assert [record.getMessage().partition("store is ")[2][:4] for record in caplog.records] == [
            "away",
            "back",
        ]

    def test_a_store_that_does_not_answer_counts_as_away(self) -> None:
        """A scrape ends, whatever the network swallows."""
        registry = CollectorRegistry()
        with socket.create_server(("127.0.0.1", 0)) as mute:
            q = OmniQ(f"redis://127.0.0.1:{mute.getsockname()[1]}")
            registry.register(StoreCollector(q, timeout=0.2))
            generate_latest(registry)
            up = registry.get_sample_value("omniq_store_up")
            q.close_sync()

        assert up == 0

    async def test_it_refuses_to_block_an_event_loop(self) -> None:
        """And says how to serve it instead."""
        registry = CollectorRegistry()
        async with OmniQ("memory://") as q:
            registry.register(StoreCollector(q))
            with pytest.raises(SyncInAsyncError, match=r"asyncio\.to_thread"):
                generate_latest(registry)

    def test_a_timeout_that_is_none_is_refused(self) -> None:
        """Where it is given, not at the first scrape."""
        with pytest.raises(ValidationError, match="timeout"):
            StoreCollector(OmniQ("memory://"), timeout=0)


async def claim(queue: BaseQueue, now: datetime) -> list[Task]:
    """Claim as a worker would that is never heard of again."""
    return await queue.claim(
        ["default"], worker_id="dead", lease_token="t", limit=1, lease_seconds=30, now=now
    )
