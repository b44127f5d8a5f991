"""A storm of kills over a queue in use, and the checker that reads what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ, RetryPolicy, Task
from omniq.testing.waiting import wait_until
from tests.integration.history import (
    FINAL,
    Enqueued,
    History,
    Run,
    Seen,
    Stored,
    Struck,
    violations,
)

APP = str(Path(__file__).with_name("storm_app.py"))
FINAL_EVENTS = {status.upper() for status in FINAL}


class Storm:
    """Worker processes that come and go, and what happens to them."""

    def __init__(self, folder: Path, url: str, lease_seconds: float) -> None:
        self._folder = folder
        self.struck: list[Struck] = []
        self.workers: list[int] = []
        self._nursery = subprocess.Popen(
            [sys.executable, APP, str(lease_seconds)],
            env={**os.environ, "OMNIQ_URL": url, "TEST_FOLDER": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def start_worker(self) -> None:
        """Start one more."""
        assert self._nursery.stdin is not None and self._nursery.stdout is not None  # noqa: PT018 - for the type checker
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        self.workers.append(int(await asyncio.to_thread(self._nursery.stdout.readline)))

    async def replace(self, pid: int) -> None:
        """Kill this one as `kill -9` does, and start another in its place."""
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.struck.append(Struck(pid, at, time.monotonic()))
        self.workers.remove(pid)
        await self.start_worker()

    async def freeze(self, pid: int, seconds: float) -> None:
        """Stop this one for that long, as a machine does that is suspended."""
        at = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)  # what is done to it; nothing is waited for
        finally:
            os.kill(pid, signal.SIGCONT)
            self.struck.append(Struck(pid, at, time.monotonic()))

    def end(self) -> None:
        """End all processes."""
        assert self._nursery.stdin is not None and self._nursery.stdout is not None  # noqa: PT018 - for the type checker
        self._nursery.stdin.close()
        self._nursery.wait()
        self._nursery.stdout.close()

    def runs(self) -> Iterator[Run]:
        """Yield what the workers wrote down."""
        for path in self._folder.glob("[0-9]*.log"):
            begun: dict[tuple[str, int], Run] = {}
            for line in path.read_text().splitlines():
                what, task_id, claim, at = json.loads(line)
                if what == "start":
                    begun[task_id, claim] = Run(task_id, claim, int(path.stem), at)
                else:
                    ended = begun[task_id, claim]._replace(ended_at=at, ended=what)
                    begun[task_id, claim] = ended
            yield from begun.values()


@asynccontextmanager
async def storm_of(
    folder: Path, url: str, *, workers: int, lease_seconds: float
) -> AsyncGenerator[Storm]:
    """Give a storm with that many workers; all processes end with the block."""
    storm = Storm(folder, url, lease_seconds)
    try:
        for _ in range(workers):
            await storm.start_worker()
        yield storm
    finally:
        storm.end()


KINDS = {"plain": 50, "flaky": 15, "drowsy": 8, "key": 15, "chain": 9, "doomed": 3}
"""How often each kind of task is drawn."""


def drawn_tasks(rng: random.Random, number: int) -> list[Task]:
    """Return that many tasks of all kinds; those that depend on others come after them."""
    tasks: list[Task] = []
    retry = RetryPolicy(max_retries=8, delay_seconds=0.03, backoff="fixed")
    while len(tasks) < number:
        seconds = rng.uniform(0.01, 0.12)
        match rng.choices(*zip(*KINDS.items(), strict=True)):
            case ["plain"]:
                func = rng.choice(["steady", "threaded"])
                tasks.append(Task(func=func, args=(seconds,), priority=rng.randrange(3)))
            case ["flaky"]:
                tasks.append(Task(func="flaky", args=(rng.randint(1, 3),), retry=retry))
            case ["drowsy"]:
                tasks.append(Task(func="drowsy"))
            case ["key"]:
                key = f"key-{rng.randrange(12)}"
                tasks.append(Task(func="steady", args=(seconds,), unique_key=key))
            case ["chain"]:
                first = Task(func="steady", args=(seconds,))
                second = Task(func="threaded", args=(seconds,), depends_on=(first.id,))
                third = Task(func="flaky", args=(1,), retry=retry, depends_on=(first.id, second.id))
                tasks += [first, second, third]
            case _:
                doomed = Task(func="flaky", args=(99,))
                orphan = Task(func="steady", args=(seconds,), depends_on=(doomed.id,))
                tasks += [doomed, orphan, Task(func="drowsy", depends_on=(orphan.id,))]
    return tasks


async def produce(app: OmniQ, tasks: list[Task], rng: random.Random) -> list[Enqueued]:
    """Enqueue in batches of all sizes, never far ahead of the workers."""

    async def there_is_room() -> bool:
        return await app.queue_size() < 200

    enqueued: list[Enqueued] = []
    left = list(tasks)
    while left:
        batch = [left.pop(0) for _ in range(min(len(left), rng.choice([1, 2, 10, 60])))]
        handles = await app.enqueue_tasks(batch)
        enqueued += [Enqueued(t.id, h.id) for t, h in zip(batch, handles, strict=True)]
        await wait_until(there_is_room, description="the workers keep up", timeout=60)
    return enqueued


async def rage(storm: Storm, rng: random.Random, *, every: float, stops: float) -> None:
    """Kill a worker every so often; with `stops`, also stop one for that long."""
    while True:
        await asyncio.sleep(every)  # the rhythm of the storm; nothing is waited for
        await storm.replace(rng.choice(storm.workers))
        if stops:
            await storm.freeze(rng.choice(storm.workers), stops)


async def watch(app: OmniQ, seen: list[Seen]) -> None:
    """Note from time to time which tasks are final."""
    while True:
        await asyncio.sleep(0.7)  # a sample, not a wait
        tasks = await app.list_tasks(limit=None)
        seen += [Seen(t.id, str(t.status), t.claim_count) for t in tasks if t.is_final]


async def stored_tasks(app: OmniQ) -> dict[str, Stored]:
    """Read all that the store has in the end."""
    tasks = await app.list_tasks(limit=None)
    results = await app.result_storage.get_many([task.id for task in tasks])
    ends: dict[str, list[str]] = {}
    for event in await app.event_storage.get_all_events():
        if str(event.event_type) in FINAL_EVENTS:
            ends.setdefault(event.task_id, []).append(str(event.event_type))
    return {
        task.id: Stored(
            task_id=task.id,
            status=str(task.status),
            claim_count=task.claim_count,
            max_retries=task.retry.max_retries if task.retry else 0,
            unique_key=task.unique_key,
            parents=task.depends_on,
            error=task.error or "",
            result=None if result is None else (result.claim_count, result.result),
            final_events=tuple(ends.get(task.id, ())),
        )
        for task, result in zip(tasks, results, strict=True)
    }


async def weather(
    folder: Path, *, seed: int, number: int, lease: float, every: float, stops: float = 0.0
) -> History:
    """Run a storm to its end and return its history."""
    rng, url = random.Random(seed), f"sqlite:///{folder}/queue.db"
    seen: list[Seen] = []
    async with (
        OmniQ(url) as app,
        storm_of(folder, url, workers=4, lease_seconds=lease) as storm,
    ):
        raging = asyncio.create_task(rage(storm, rng, every=every, stops=stops))
        watching = asyncio.create_task(watch(app, seen))
        enqueued = await produce(app, drawn_tasks(rng, number), rng)

        async def all_final() -> bool:
            counts = await app.counts()
            return not {s for s in counts["default"] if str(s) not in FINAL}

        await wait_until(all_final, description="all tasks are final", timeout=20 + number / 20)
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


async def test_a_storm_of_kills_loses_nothing_and_accepts_nothing_stale(tmp_path: Path) -> None:
    """Four workers, one killed every half second: each task is final once, by its last run."""
    history = await weather(tmp_path, seed=1, number=1500, lease=30, every=0.5)

    assert violations(history) == []
    assert_stormy(history, kills=5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
async def test_a_long_storm_of_kills_and_zombies(tmp_path: Path, seed: int) -> None:
    """Workers are also frozen for longer than their lease: what they write later is refused."""
    history = await weather(tmp_path, seed=seed, number=6000, lease=3.0, every=0.5, stops=4.5)

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
