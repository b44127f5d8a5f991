"""Growth mode: how fast OmniQ claims from a store as ever more tasks lie in it.

One store a size, filled first; then rounds over all sizes in turn. SQLite and files work with
durability ``fast``, so that the disk's mood cannot hide what the size costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from bench.compare import CLAIMS, sized
from bench.results import Results
from bench.servers import serving
from bench.sizes import Sizes
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue, Change
from omniq.storage.file import AsyncFileQueue
from omniq.storage.postgres import AsyncPostgreSQLQueue
from omniq.storage.redis import AsyncRedisQueue
from omniq.storage.sqlite import AsyncSQLiteQueue

BATCH = 100
BATCHES_PER_BURST = 5
BURSTS_PER_ROUND = 10
INSERTED_AT_ONCE = 5_000
NOW = datetime.now(UTC)
STORES: dict[str, tuple[str, Callable[[str], BaseQueue]]] = {
    "omniq-sqlite-fast": ("sqlite", lambda path: AsyncSQLiteQueue(path, durability="fast")),
    "omniq-redis": ("redis", AsyncRedisQueue),
    "omniq-postgres": ("postgres", AsyncPostgreSQLQueue),
    "omniq-file-fast": ("file", lambda path: AsyncFileQueue(path, durability="fast")),
}
"""By name of the adapter: the backend, and how its queue is opened."""


def run_growth(
    backend: str | None, sizes: Sizes, results: Results, say: Callable[[str], None]
) -> None:
    """Measure claims per second at each size, ``sizes.rounds`` times, on one backend or all."""
    for name, (kind, opened) in STORES.items():
        if backend in (None, kind):
            with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as servers:

                def said(text: str, name: str = name) -> None:
                    say(f"growth, {name}: {text}")

                places = {
                    size: _place(servers, kind, Path(folder, str(size))) for size in sizes.growth
                }
                asyncio.run(_measure(name, opened, places, sizes.rounds, results, said))


def _place(servers: ExitStack, kind: str, folder: Path) -> str:
    """Return the URL of an empty server of its own, or a path."""
    folder.mkdir()
    return servers.enter_context(serving(kind, folder)) or str(folder / "store")


async def _measure(
    name: str,
    opened: Callable[[str], BaseQueue],
    places: Mapping[int, str],
    rounds: int,
    results: Results,
    say: Callable[[str], None],
) -> None:
    async with AsyncExitStack() as stack:
        queues: dict[int, BaseQueue] = {}
        for size, place in places.items():
            say(f"filling a store with {size:,} tasks of each kind")
            queues[size] = await stack.enter_async_context(opened(place))
            await _fill(queues[size], size)
            await _burst(queues[size])
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            for size, queue in queues.items():
                seconds = sum([await _burst(queue) for _ in range(BURSTS_PER_ROUND)])
                claimed = BATCH * BATCHES_PER_BURST * BURSTS_PER_ROUND
                results.add(name, {sized(CLAIMS, size): claimed / seconds})


async def _burst(queue: BaseQueue) -> float:
    """Claim some batches, return the seconds, and put the tasks back."""
    claimed: list[Task] = []
    began = time.perf_counter()
    for _ in range(BATCHES_PER_BURST):
        claimed += await queue.claim(
            ["default"], worker_id="bench", lease_token="bench", limit=BATCH
        )
    seconds = time.perf_counter() - began
    if len(claimed) != BATCH * BATCHES_PER_BURST:
        raise RuntimeError(f"Claimed {len(claimed)} tasks instead of full batches.")
    await queue.swap([Change(task, _waiting_again(task)) for task in claimed])
    return seconds


def _waiting_again(task: Task) -> Task:
    return replace(task, status=TaskStatus.PENDING, lease_token=None, due_at=None, worker_id=None)


async def _fill(queue: BaseQueue, size: int) -> None:
    """Insert ``size`` tasks of each kind."""
    tasks = _tasks(size)
    while batch := list(islice(tasks, INSERTED_AT_ONCE)):
        await queue.insert(batch)


def _tasks(size: int) -> Iterator[Task]:
    for number in range(size):
        yield Task(func="noop", args=(number,), run_at=NOW + timedelta(days=1, seconds=number))
        yield Task(func="noop", args=(number,), status=TaskStatus.COMPLETED, finished_at=NOW)
        yield Task(func="noop", args=(number,))
