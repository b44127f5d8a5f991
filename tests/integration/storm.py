"""A storm over a queue in use: worker processes that come and go, and what they wrote down."""

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
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from omniq import OmniQ, RetryPolicy, Task
from omniq.exceptions import StorageUnavailableError, TaskExistsError
from omniq.testing.waiting import wait_until
from tests.integration.history import FINAL, Enqueued, Run, Seen, Stored, Struck

APP = str(Path(__file__).with_name("storm_app.py"))
FINAL_EVENTS = {status.upper() for status in FINAL}
ROOM = 200


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

    def cut_off(self) -> int:
        """Return how many runs ended with their worker."""
        return sum(run.ended is None and run.pid not in self.workers for run in self.runs())


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
    enqueued: list[Enqueued] = []
    left = list(tasks)
    while left:
        batch = [left.pop(0) for _ in range(min(len(left), rng.choice([1, 2, 10, 60])))]
        enqueued += await acknowledged(app, batch)
        await room(app)
    return enqueued


async def acknowledged(app: OmniQ, batch: list[Task]) -> list[Enqueued]:
    """Enqueue until the store says that it has them, through all its absences."""
    while True:
        try:
            handles = await app.enqueue_tasks(batch)
        except StorageUnavailableError:
            await asyncio.sleep(0.1)
        except TaskExistsError:  # of a call before, whose answer was lost
            with suppress(StorageUnavailableError):
                stored = await app.task_queue.get([task.id for task in batch])
                return [Enqueued(task.id, task.id) for task in stored if task is not None]
        else:
            return [Enqueued(t.id, h.id) for t, h in zip(batch, handles, strict=True)]


async def room(app: OmniQ) -> None:
    """Wait until the workers keep up."""

    async def there_is_room() -> bool:
        with suppress(StorageUnavailableError):
            return await app.queue_size() < ROOM
        return False

    await wait_until(there_is_room, description="the workers keep up", timeout=60)


async def all_ended(app: OmniQ, *, timeout: float) -> None:
    """Wait until all tasks are final, by the counts and one by one."""

    async def all_final() -> bool:
        with suppress(StorageUnavailableError):
            counted = {str(status) for status in (await app.counts())["default"]}
            return counted <= FINAL and all(
                task.is_final for task in await app.list_tasks(limit=None)
            )
        return False

    await wait_until(all_final, description="all tasks are final", timeout=timeout)


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
        with suppress(StorageUnavailableError):
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
