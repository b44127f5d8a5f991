"""Waiting mode: how fast a worker runs tasks from a store in files, as ever more of them wait.

Whole runs, result and events kept, where growth mode measures claims alone. All stores are filled
before any is measured, half of the small ones before the largest and half after it: what was filled
just before its turn would have warmer caches. Each drain has a new process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.child import run
from bench.compare import FAST_FILE, RUNS, sized
from bench.omniq_store import CONCURRENCY
from bench.results import Results
from bench.sizes import Sizes
from bench.stage import InexactError
from omniq import OmniQ
from omniq.models.task import TaskStatus
from omniq.worker import Worker
from omniq.worker.serve import collect_garbage_rarely

FILLED_AT_ONCE = 20_000
WARM_UP = 1_000
MEASURED = 10_000
USED = WARM_UP + MEASURED + 1_000
"""By one drain at most: a worker told to stop ends what it has claimed."""

Work = Callable[[str, range], Coroutine[Any, Any, float]]


class _Store(NamedTuple):
    """A store in which at least so many tasks wait while it is measured."""

    waiting: int
    url: str


def run_waiting(sizes: Sizes, results: Results, say: Callable[[str], None]) -> None:
    """Measure tasks run per second at each size, ``sizes.rounds`` times, in files without sync."""
    with TemporaryDirectory(prefix="bench-") as folder:
        rounds = [_stores(folder, sizes.waiting, number) for number in range(sizes.rounds)]
        largest = rounds[0][-1]
        early, late = ([s for r in rounds[half::2] for s in r[:-1]] for half in (0, 1))
        for store in (*early, largest, *late):
            n = store.waiting + USED * (sizes.rounds if store == largest else 1)
            say(f"waiting: filling a store with {n:,} tasks")
            _in_a_new_process(_fill, store.url, range(n))
        os.sync()  # what is still to be written would be, during the first drains
        for number, stores in enumerate(rounds):
            say(f"waiting: round {number + 1} of {sizes.rounds}")
            for store in stores[:: -1 if number % 2 else 1]:
                rate = _in_a_new_process(_drain, store.url, range(WARM_UP, WARM_UP + MEASURED))
                results.add(FAST_FILE, {sized(RUNS, store.waiting): rate})


def _stores(folder: str, waiting: Sequence[int], number: int) -> list[_Store]:
    """Return the stores of one round; the largest, which takes minutes to fill, is that of all."""
    *small, largest = waiting
    names = {size: f"{size}-{number}" for size in small} | {largest: str(largest)}
    return [
        _Store(size, f"file://{Path(folder, name)}?durability=fast") for size, name in names.items()
    ]


def _in_a_new_process(work: Work, url: str, tasks: range) -> float:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        return process.submit(_run, work, url, tasks).result()


def _run(work: Work, url: str, tasks: range) -> float:
    returned: list[float] = []

    async def main() -> None:
        returned.append(await work(url, tasks))

    run(main())
    return returned[0]


async def _fill(url: str, numbers: range) -> float:
    """Store a task for each number; return the seconds it took."""
    began = time.perf_counter()
    async with OmniQ(url) as q:
        noop = q.task_function("noop")
        for first in range(0, len(numbers), FILLED_AT_ONCE):
            part = numbers[first : first + FILLED_AT_ONCE]
            await noop.enqueue_many([(number,) for number in part])
    return time.perf_counter() - began


async def _drain(url: str, measured: range) -> float:
    """Run tasks until the last of the runs to be measured; return how many of them a second.

    Raises:
        InexactError: a task ran twice, or the store does not call each that ran completed.
    """
    times: list[int] = []
    numbers: set[int] = set()
    done = asyncio.Event()
    q = OmniQ(url)

    @q.task(name="noop")
    async def noop(number: int) -> int:
        numbers.add(number)
        times.append(time.monotonic_ns())
        if len(times) == measured.stop:
            done.set()
        return number

    async with q:
        before = await _completed(q)
        collect_garbage_rarely()  # as `omniq worker` does
        worker = Worker(q, concurrency=CONCURRENCY)
        work = asyncio.create_task(worker.run())
        await done.wait()
        worker.stop()
        await work
        if not len(times) == len(numbers) == await _completed(q) - before:
            raise InexactError(f"{len(times)} runs of {len(numbers)} tasks")
    return len(measured) / ((times[measured.stop - 1] - times[measured.start]) / 1e9)


async def _completed(q: OmniQ) -> int:
    counts = await q.task_queue.counts()
    return counts["default"].get(TaskStatus.COMPLETED, 0)
