"""`omniq move` while producers and workers run, in processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from omniq import EventType, OmniQ, TaskStatus
from omniq.moving.parking import is_mark
from omniq.storage.base import EVERY_TASK
from omniq.testing.waiting import wait_until
from tests.moving import move_app
from tests.servers import nats as nats_servers
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import namespace, redis_url

APP = Path(__file__).with_name("move_app.py")
URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder}/old.db?durability=fast",
    "postgres": lambda folder: f"{postgres_url()}?schema={schema()}",
    "redis": lambda folder: f"{redis_url()}?namespace={namespace()}",
    "nats": lambda folder: f"{nats_servers.nats_url()}?namespace={nats_servers.namespace()}",
}


class Fleet:
    """The processes of one test, ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that uses the store the application had at first."""
        environment = {**os.environ, "OMNIQ_URL": self.url}
        command = [sys.executable, str(APP), *arguments]
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    async def run(self, *arguments: str) -> int:
        """Run such a process to its end; return its exit code."""
        return await asyncio.to_thread(self.start(*arguments).wait)

    def said(self, what: str) -> str:
        return (self.folder / f"{what}.log").read_text()

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.end()


async def all_done(q: OmniQ, count: int) -> None:
    """Wait until so many `note` tasks are final in a store."""

    async def are_final() -> bool:
        counts = await q.counts()
        return counts.get("default", {}).get(TaskStatus.COMPLETED, 0) >= count

    await wait_until(are_final, description=f"{count} tasks are final", timeout=300)


async def check_history(q: OmniQ, numbers: set[int]) -> None:
    """Each task ran and ended exactly once, each fire time made one task, all results are there."""
    tasks = [task async for task in q.task_queue.iter_tasks(EVERY_TASK)]
    assert not any(is_mark(task) for task in tasks)
    notes = [task for task in tasks if task.schedule_id is None and task.queue_name == "default"]
    assert Counter(task.args[0] for task in notes) == Counter(numbers)
    ids = {task.id for task in notes}
    events = await q.get_events(limit=10 * len(tasks) + 100)
    for kind in (EventType.STARTED, EventType.COMPLETED):
        ended = Counter(e.task_id for e in events if e.event_type is kind and e.task_id in ids)
        assert ended == Counter(ids), kind
    results = await q.result_storage.get_many(sorted(ids))
    assert {item.result for item in results if item is not None} == numbers
    fires = sorted(task.created_at for task in tasks if task.schedule_id is not None)
    gaps = {later - earlier for earlier, later in pairwise(fires)}
    assert gaps <= {timedelta(seconds=move_app.FIRE_SECONDS)}
    assert len(fires) > 1


async def moved_while_running(
    fleet: Fleet,
    target: str,
    *,
    workers: int,
    count: int,
    backlog: int = 0,
    steps: tuple[str, ...] = (),
) -> None:
    """Move while workers and a producer run; movers are killed at each of these steps."""
    async with OmniQ(fleet.url) as q:
        await q.pause_queue("held")
        note = q.task_function("move_app.note")
        await note.options(queue="held").enqueue_many([(-number,) for number in range(1, 101)])
        await note.enqueue_many([(number,) for number in range(count, count + backlog)])
    for _ in range(workers):
        fleet.start("worker")
    producer = fleet.start("producer", str(count))
    assert await fleet.run("movers", fleet.url, target, *steps) == 0, fleet.said("movers")
    assert await asyncio.to_thread(producer.wait) == 0, fleet.said("producer")
    async with OmniQ(target) as q:
        await all_done(q, count + backlog)
        assert await q.paused_queues() == {"held"}
        assert (await q.counts())["held"] == {TaskStatus.PENDING: 100}
        await check_history(q, set(range(count + backlog)))


@pytest.mark.timeout(300)
async def test_a_killed_mover_is_started_again(fleet: Fleet, tmp_path: Path) -> None:
    """Whatever write was its last: nothing is lost, nothing runs twice."""
    fleet.url = URLS["sqlite"](tmp_path)

    await moved_while_running(
        fleet, URLS["postgres"](tmp_path), workers=2, count=400, steps=tuple(move_app.STEPS)
    )


@pytest.mark.parametrize(("here", "there"), [("redis", "postgres"), ("sqlite", "nats")])
async def test_other_stores_move_too(here: str, there: str, fleet: Fleet, tmp_path: Path) -> None:
    """The protocol knows nothing of engines."""
    fleet.url = URLS[here](tmp_path)

    await moved_while_running(fleet, URLS[there](tmp_path), workers=1, count=100)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_20000_tasks_move_while_three_workers_and_a_producer_run(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Each is finished exactly once, says the event log."""
    fleet.url = URLS["sqlite"](tmp_path)

    await moved_while_running(
        fleet, URLS["postgres"](tmp_path), workers=3, count=10_000, backlog=10_000
    )
