"""Growth mode: how fast OmniQ claims from a store as ever more tasks lie in it.

One store a size, filled first; then rounds over all sizes in turn. Durability is ``fast``, so that
the disk's mood cannot hide what the size costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compare import FAST, claim_metric
from bench.results import Results
from bench.sizes import Sizes
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.storage.sqlite import AsyncSQLiteQueue

BATCH = 100
BATCHES_PER_ROUND = 20
WARM_UP_BATCHES = 2
INSERTED_AT_ONCE = 5_000
NOW = datetime.now(UTC)


async def run_growth(sizes: Sizes, results: Results, say: Callable[[str], None]) -> None:
    """Measure claims per second at each size, ``sizes.rounds`` times."""
    claimed = BATCH * (WARM_UP_BATCHES + BATCHES_PER_ROUND * sizes.rounds)
    with TemporaryDirectory(prefix="bench-") as name:
        async with AsyncExitStack() as stack:
            queues: dict[int, BaseQueue] = {}
            for size in sizes.growth:
                say(f"growth: filling a store with {size:,} tasks of each kind")
                queues[size] = AsyncSQLiteQueue(str(Path(name) / f"{size}.db"), durability="fast")
                await stack.enter_async_context(queues[size])
                await _fill(queues[size], size, spare=claimed)
                await _claim(queues[size], WARM_UP_BATCHES)
            for number in range(1, sizes.rounds + 1):
                say(f"growth: round {number} of {sizes.rounds}")
                for size, queue in queues.items():
                    rate = BATCH * BATCHES_PER_ROUND / await _claim(queue, BATCHES_PER_ROUND)
                    results.add(FAST, {claim_metric(size): rate})


async def _claim(queue: BaseQueue, batches: int) -> float:
    """Claim so many batches; return the seconds."""
    began = time.perf_counter()
    for _ in range(batches):
        claimed = await queue.claim(
            ["default"], worker_id="bench", lease_token="bench", limit=BATCH
        )
        if len(claimed) != BATCH:
            raise RuntimeError(f"Claimed {len(claimed)} tasks instead of {BATCH}.")
    return time.perf_counter() - began


async def _fill(queue: BaseQueue, size: int, *, spare: int) -> None:
    """Insert ``size`` tasks of each kind, and ``spare`` more to be claimed."""
    tasks = _tasks(size, spare)
    while batch := list(islice(tasks, INSERTED_AT_ONCE)):
        await queue.insert(batch)


def _tasks(size: int, spare: int) -> Iterator[Task]:
    for number in range(size):
        yield Task(func="noop", args=(number,), run_at=NOW + timedelta(days=1, seconds=number))
        yield Task(func="noop", args=(number,), status=TaskStatus.COMPLETED, finished_at=NOW)
        yield Task(func="noop", args=(number,))
    for number in range(spare):
        yield Task(func="noop", args=(number,))
