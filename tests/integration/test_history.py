"""A storm of kills over a queue in use, and the checker that reads what is left of it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from tests.integration.history import (
    Enqueued,
    History,
    Run,
    Seen,
    Stored,
    Struck,
    violations,
)
from tests.integration.storm import (
    all_ended,
    drawn_tasks,
    produce,
    rage,
    stored_tasks,
    storm_of,
    watch,
)
from tests.servers.engines import ENGINES

SLOW_TO_HEAL = {"nats", "redis"}
"""There a killed worker's tasks wait until its leases end; on NATS, children even for minutes."""
HEALS_WITHIN = {"nats": 700.0}
"""Seconds after which a child asks at the latest how its parents ended, if nobody told it."""


@pytest.fixture(
    params=[
        "sqlite",
        *(
            pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_TO_HEAL))
            for name in ENGINES
        ),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name: str = request.param
    return ENGINES[name].store() if name in ENGINES else f"sqlite:///{tmp_path}/queue.db"


async def weather(
    folder: Path,
    url: str,
    *,
    seed: int,
    number: int,
    kills: int,
    lease: float,
    every: float,
    stops: float = 0.0,
) -> History:
    """Run a storm to its end, but not before it cut off that many runs; return its history."""
    rng = random.Random(seed)
    seen: list[Seen] = []
    async with (
        OmniQ(url) as app,
        storm_of(folder, url, workers=4, lease_seconds=lease) as storm,
    ):
        raging = asyncio.create_task(rage(storm, rng, every=every, stops=stops))
        watching = asyncio.create_task(watch(app, seen))
        enqueued = await produce(app, drawn_tasks(rng, number), rng)
        while storm.cut_off() < kills:  # the workers were quicker than the storm
            enqueued += await produce(app, drawn_tasks(rng, number // 10), rng)
        healing = HEALS_WITHIN.get(url.partition(":")[0], 0.0)
        await all_ended(app, timeout=300 + number / 20 + healing)
        for task in (raging, watching):
            task.cancel()
        await asyncio.gather(raging, watching, return_exceptions=True)
        stored = await stored_tasks(app)
    return History(tuple(enqueued), tuple(storm.runs()), tuple(storm.struck), stored, tuple(seen))


def assert_stormy(history: History, *, kills: int) -> None:
    """The storm was one: runs were cut off, and run again."""
    assert len(history.struck) >= kills
    cut_off = [run for run in history.runs if run.ended is None]
    assert len(cut_off) >= kills
    assert {task.status for task in history.stored.values()} >= {"completed", "failed", "cancelled"}
    assert any(call.task_id != call.standing_id for call in history.enqueued)


@pytest.mark.timeout(400)
async def test_a_storm_of_kills_loses_nothing_and_accepts_nothing_stale(
    tmp_path: Path, url: str
) -> None:
    """Four workers, killed one by one: each task is final once, by its last run."""
    if url.startswith("sqlite"):
        number, kills, every, lease = 1500, 5, 0.5, 30.0
    else:  # where leases must end before a killed worker's tasks run again
        number, kills, every, lease = 600, 2, 1.0, 3.0
    history = await weather(
        tmp_path, url, seed=1, number=number, kills=kills, lease=lease, every=every
    )

    assert violations(history) == []
    assert_stormy(history, kills=kills)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", range(5))
async def test_a_long_storm_of_kills_and_zombies(tmp_path: Path, url: str, seed: int) -> None:
    """Workers are also frozen for longer than their lease: what they write later is refused."""
    history = await weather(
        tmp_path, url, seed=seed, number=6000, kills=6, lease=3.0, every=0.5, stops=4.5
    )

    assert violations(history) == []
    assert_stormy(history, kills=6)


# The checker itself

ONE = Stored("t", "completed", 2, result=(2, ["t", 2, 8]), final_events=("COMPLETED",))
FIRST = Run("t", 1, 7, 1.0)
SECOND = Run("t", 2, 8, 3.0, 4.0, "ok")
KILLED = Struck(7, 2.0, 2.0)
GOOD = History((Enqueued("t", "t"),), (FIRST, SECOND), (KILLED,), {"t": ONE}, (Seen(*ONE[:3]),))


def with_task(**changes: Any) -> History:
    """The good history, its task changed."""
    return GOOD._replace(stored={"t": ONE._replace(**changes)}, seen=())


def with_runs(*runs: Run) -> History:
    """The good history with these runs instead."""
    return GOOD._replace(runs=runs)


def of_one_key(started_at: float) -> History:
    """Two tasks of one key, the second started at this moment."""
    other = ONE._replace(task_id="u", claim_count=1, result=(1, ["u", 1, 9]), unique_key="k")
    run = Run("u", 1, 9, started_at, 9.0, "ok")
    stored = {"t": ONE._replace(unique_key="k"), "u": other}
    return GOOD._replace(stored=stored, runs=(*GOOD.runs, run))


def of_a_child(status: str = "completed", **changes: Any) -> History:
    """A task and its child, which ran from 5.0."""
    child = Stored("u", "completed", 1, parents=("t",), result=(1, ["u", 1, 9]))
    run = Run("u", 1, 9, 5.0, 6.0, "ok")._replace(**changes)
    return GOOD._replace(
        stored={"t": ONE._replace(status=status, final_events=()), "u": child},
        runs=(*GOOD.runs, run),
        seen=(),
    )


FAILED_RUN = SECOND._replace(ended="failed")
BAD: dict[str, tuple[History, str]] = {
    "a task is gone": (GOOD._replace(stored={}, seen=()), "which is lost"),
    "a task is stuck": (with_task(status="running"), "not final but running"),
    "two stand for one": (
        GOOD._replace(enqueued=(Enqueued("u", "t"),), stored={"t": ONE, "u": ONE}),
        "was said to stand for it",
    ),
    "a final task ran again": (
        GOOD._replace(seen=(Seen("t", "completed", 1),)),
        "was final as",
    ),
    "a claim ran twice": (with_runs(FIRST, SECOND, SECOND), "claim 2 ran twice"),
    "runs overlap": (with_runs(FIRST, SECOND._replace(started_at=1.5)), "ran beside claim 1"),
    "a run nobody struck overlaps": (GOOD._replace(struck=()), "ran beside claim 1"),
    "a claim was not counted": (with_task(claim_count=1), "a run of a claim over 1"),
    "too many failures": (
        with_runs(FIRST, FAILED_RUN, FAILED_RUN._replace(claim=3)),
        "retries allowed",
    ),
    "ended twice": (with_task(final_events=("COMPLETED", "COMPLETED")), "ended more than once"),
    "ended in two ways": (with_task(final_events=("FAILED",)), "its history says FAILED"),
    "a stale end was accepted": (with_task(claim_count=3), "claim 3 did not return"),
    "a failed run completed": (with_runs(FIRST, FAILED_RUN), "claim 2 did not return"),
    "a stale result": (with_task(result=(1, ["t", 1, 7])), "is not that of"),
    "another run's value": (with_task(result=(2, ["t", 1, 7])), "is not that of"),
    "no result": (with_task(result=None), "is not that of"),
    "failed for no reason": (with_task(status="failed", final_events=()), "but no run did"),
    "poisoned too soon": (
        with_task(status="failed", error="poisoned: …", final_events=()),
        "poisoned after 2 claims",
    ),
    "two of one key": (of_one_key(3.5), "both of key k"),
    "a child before its parent": (of_a_child(started_at=3.5), "before its parent t had ended"),
    "a child of a failed parent": (of_a_child(status="failed"), "did not complete"),
}


@pytest.mark.parametrize("history", [GOOD, of_one_key(4.5), of_a_child()])
def test_a_good_history_has_no_violations(history: History) -> None:
    """The checker does not cry wolf."""
    assert violations(history) == []


@pytest.mark.parametrize(("history", "problem"), BAD.values(), ids=BAD)
def test_the_checker_finds_what_is_wrong(history: History, problem: str) -> None:
    """A checker that cannot fail proves nothing."""
    assert any(problem in found for found in violations(history)), violations(history)
