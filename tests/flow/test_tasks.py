"""Loops as tasks: workers run them, with leases, retries and events of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from omniq import OmniQ, TaskFailedError
from omniq.datastore import DataStore
from omniq.flow import FlowTasks, FlowValidationError
from omniq.testing.waiting import wait_until
from tests.flow.collecting import Collector
from tests.flow.documents import flow

NODES: dict[str, Any] = {
    "r": "QueueReader",
    "k": "keep",
    "p": ("numbers", {"count": 20}),
    "w": "QueueWriter",
}
EDGES = ("p -> w", "w -> r", "r -> k")


async def test_workers_run_the_loops_of_a_flow(store: DataStore) -> None:
    """One task a loop, the history of each tells what its nodes did; one slot is enough."""
    app, collector = OmniQ("memory://"), Collector()
    tasks = FlowTasks(app, collector.types, store)
    async with app:
        run = await tasks.start(flow(NODES, *EDGES))
        await app.worker(burst=True, concurrency=1).run()
        reports = await run.reports(timeout=5)
        events = await run.handles["r"].events()

    assert collector.numbers() == list(range(20))
    assert {loop: report.items for loop, report in reports.items()} == {"p": 20, "r": 20}
    finished = [event.details for event in events if event.event_type == "NODE_FINISHED"]
    assert {"node_id": "k", "completed": 20, "failed": 0} in finished
    assert [e.details["items"] for e in events if e.event_type == "LOOP_FINISHED"] == [20]


async def test_same_namespace_is_the_same_run(store: DataStore) -> None:
    """Starting twice by mistake does not run a flow twice; a bad flow enqueues nothing."""
    app, collector = OmniQ("memory://"), Collector()
    tasks = FlowTasks(app, collector.types, store)
    async with app:
        first = await tasks.start(flow(NODES, *EDGES), namespace="night")
        again = await tasks.start(flow(NODES, *EDGES), namespace="night")
        with pytest.raises(FlowValidationError):
            await tasks.start(flow({"a": "nothing"}))

        assert first.handles == again.handles
        assert await app.task_queue.get_queue_size() == 2


async def test_loop_whose_producer_fails_is_retried(store: DataStore) -> None:
    """The stop signal is passed on when it came to its end, and not before."""
    app, collector = OmniQ("memory://"), Collector()
    attempts: list[int] = []

    def flaky() -> Iterator[dict[str, int]]:
        attempts.append(1)
        yield {"n": len(attempts)}
        if len(attempts) < 3:
            raise OSError("the source is away")

    collector.types.producer("flaky")(flaky)
    tasks = FlowTasks(app, collector.types, store, retry_delay=0.01)
    async with app:
        run = await tasks.start(flow({**NODES, "p": "flaky"}, *EDGES))
        worker = app.worker()
        working = asyncio.create_task(worker.run())
        await run.reports(timeout=20)
        worker.stop()
        await working

    assert collector.numbers() == [1, 2, 3]


async def test_producer_that_fails_for_good_still_stops_the_loops_after_it(
    store: DataStore,
) -> None:
    """They end; its own task is the one that failed."""
    app, collector = OmniQ("memory://"), Collector()
    tasks = FlowTasks(app, collector.types, store, max_retries=0)
    async with app:
        run = await tasks.start(flow({**NODES, "p": "broken"}, *EDGES))
        await app.worker(burst=True).run()

        with pytest.raises(TaskFailedError, match="the source is gone"):
            await run.reports(timeout=5)
        assert (await run.handles["r"].result(timeout=5))["items"] == 2


async def test_stopped_worker_hands_its_loops_to_another(store: DataStore) -> None:
    """What it was at is not lost, and nothing comes twice to what comes after."""
    app, collector = OmniQ("memory://"), Collector()
    tasks = FlowTasks(app, collector.types, store)
    async with app:
        run = await tasks.start(flow({**NODES, "k": "slow", "end": "keep"}, *EDGES, "k -> end"))
        first = app.worker(grace_seconds=0)
        working = asyncio.create_task(first.run())
        await run.handles["p"].result(timeout=10)
        await wait_until(lambda: bool(first.running), description="the second loop runs")
        first.stop(force=True)
        await working
        collector.gate.set()
        await app.worker(burst=True).run()
        await run.reports(timeout=5)

    assert collector.numbers() == list(range(20))
