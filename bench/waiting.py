"""Waiting mode: how fast a worker runs tasks from a store in files, as ever more of them wait.

Whole runs, result and events kept, where growth mode measures claims alone. Each store is filled in
two halves, from the smallest to the largest and back, before any is measured, as what was
filled just before its turn would have warmer caches. Each drain has a new process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
SPARE = 1_000
"""More than a worker still runs when it is told to stop."""

Work = Callable[[str, range], Coroutine[Any, Any, float]]


def run_waiting(sizes: Sizes, results: Results, say: Callable[[str], None]) -> None:
    """Measure tasks run per second at each size, ``sizes.rounds`` times, in files without sync."""
    used = sizes.rounds * (WARM_UP + MEASURED + SPARE)
    with TemporaryDirectory(prefix="bench-") as folder:
        urls = {size: f"file://{Path(folder, str(size))}?durability=fast" for size in sizes.waiting}
        for half, order in enumerate((sizes.waiting, sizes.waiting[::-1])):
            for size in order:
                n = (size + used) // 2
                say(f"waiting: filling half of a store of {2 * n:,} tasks")
                _in_a_new_process(_fill, urls[size], range(half * n, half * n + n))
        for number in range(sizes.rounds):
            say(f"waiting: round {number + 1} of {sizes.rounds}")
            for size in sizes.waiting[:: -1 if number % 2 else 1]:
                rate = _in_a_new_process(_drain, urls[size], range(WARM_UP, WARM_UP + MEASURED))
                results.add(FAST_FILE, {sized(RUNS, size): rate})


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
