"""Servers that are killed and started again, again and again, under workers and a producer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from omniq import OmniQ
from omniq.testing.waiting import wait_until
from tests.integration.history import Enqueued, History, Run, Seen, violations
from tests.integration.storm import (
    Storm,
    acknowledged,
    all_ended,
    drawn_tasks,
    room,
    stored_tasks,
    storm_of,
    watch,
)
from tests.servers import nats
from tests.servers.engines import ENGINES
from tests.servers.process import Server


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with durable settings."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ENGINES[request.param].durable(folder) as server:
        yield server


class Rhythm(NamedTuple):
    """How a server is treated: killed so many times, after so long, and left down for so long."""

    kills: int
    up_seconds: float
    down_seconds: float
    lease_seconds: float = 30


async def storm_over(
    url: str, servers: Sequence[Server], folder: Path, rhythm: Rhythm
) -> tuple[History, list[float]]:
    """Run four workers and a producer while the servers, in turn, come and go.

    Returns the history, and after how many seconds each return of a server was noticed.
    """
    rng, seen, over = random.Random(5), list[Seen](), asyncio.Event()
    async with (
        OmniQ(url) as app,
        storm_of(folder, url, workers=4, lease_seconds=rhythm.lease_seconds) as storm,
    ):
        watching = asyncio.create_task(watch(app, seen))
        producing = asyncio.create_task(produce_until(over, app, rng))
        try:
            await wait_until(lambda: len(pids(storm.runs())) == 4, description="all are at work")
            noticed = [
                await kill_and_start(servers[n % len(servers)], storm, rhythm)
                for n in range(rhythm.kills)
            ]
            await all_work_again(storm)
        finally:
            over.set()
        enqueued = await producing
        await all_ended(app, timeout=90)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        stored = await stored_tasks(app)
    return History(tuple(enqueued), tuple(storm.runs()), (), stored, tuple(seen)), noticed


async def produce_until(over: asyncio.Event, app: OmniQ, rng: random.Random) -> list[Enqueued]:
    """Enqueue batches of all sizes, each until it is acknowledged."""
    enqueued: list[Enqueued] = []
    while not over.is_set():
        batch = drawn_tasks(rng, rng.choice([1, 2, 10, 60]))
        enqueued += await acknowledged(app, batch)
        await room(app)
    return enqueued


async def kill_and_start(server: Server, storm: Storm, rhythm: Rhythm) -> float:
    """Return how long after the server's return the workers took up work again."""
    await asyncio.sleep(rhythm.up_seconds)  # the rhythm of the storm; nothing is waited for
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(rhythm.down_seconds)
    await asyncio.to_thread(server.start)
    back_at = time.monotonic()

    def takes_up_work() -> bool:
        return any(run.started_at > back_at for run in storm.runs())

    await wait_until(takes_up_work, description="the workers took up work again", timeout=30)
    return min(run.started_at for run in storm.runs() if run.started_at > back_at) - back_at


async def all_work_again(storm: Storm) -> None:
    """Wait until each of the same processes has run something new."""
    since, workers = time.monotonic(), pids(storm.runs())
    await wait_until(
        lambda: pids(run for run in storm.runs() if run.started_at > since) == workers,
        description="all the workers work on",
        timeout=30,
    )


def pids(runs: Iterable[Run]) -> set[int]:
    """The processes of these runs."""
    return {run.pid for run in runs}


def assert_all_well(history: History) -> None:
    """Nothing acknowledged is lost, nothing ended twice."""
    assert violations(history) == []
    assert {task.status for task in history.stored.values()} >= {"completed", "failed", "cancelled"}


async def test_a_server_that_is_killed_again_and_again_loses_nothing(
    server: Server, tmp_path: Path
) -> None:
    """Each acknowledged task ends, once, and the same processes work on after each return."""
    rhythm = Rhythm(2, up_seconds=1, down_seconds=0.5, lease_seconds=20)
    history, _ = await storm_over(server.url, [server], tmp_path, rhythm)

    assert_all_well(history)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_long_storm_of_restarts(server: Server, tmp_path: Path) -> None:
    """Ten times; and each time work goes on within five seconds of the server's return."""
    rhythm = Rhythm(10, up_seconds=4, down_seconds=3)
    history, noticed = await storm_over(server.url, [server], tmp_path, rhythm)

    print(f"{len(history.stored)} tasks; back after", *(f"{seconds:.2f}" for seconds in noticed))
    assert_all_well(history)
    assert max(noticed) < 5


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_long_storm_over_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    """NATS with three copies: each node in turn is killed under load, and work goes on."""
    nodes = nats.start_cluster(tmp_path)
    url = f"{nats.url_of(nodes)}?namespace={nats.namespace()}&replicas=3"
    try:
        rhythm = Rhythm(6, up_seconds=4, down_seconds=4)
        history, noticed = await storm_over(url, nodes, tmp_path, rhythm)
    finally:
        for node in nodes:
            node.stop()

    print(f"{len(history.stored)} tasks; back after", *(f"{seconds:.2f}" for seconds in noticed))
    assert_all_well(history)
