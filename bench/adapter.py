"""What the harness asks of a task queue: a handful of acts, timed alike for all.

An adapter lives in a child process of the harness (``bench.child``) and its methods are coroutines
there; a blocking library just blocks, since nothing else runs in that loop. Every task of a
benchmark takes one ``int``, calls ``bench.recorder.record`` with it and returns it.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path


class Adapter(ABC):
    """A task queue under measurement, with results (and events, where it has them) switched on."""

    @abstractmethod
    async def setup(self, directory: Path) -> None:
        """Open the queue, with all its files in ``directory``; called once in each process."""

    @abstractmethod
    async def enqueue(self, number: int) -> None:
        """Store one task; return when it is as durable as the adapter's settings promise."""

    async def enqueue_bulk(self, numbers: range) -> None:
        """Store many tasks by the library's own bulk call.

        Raises:
            NotImplementedError: the library offers none.
        """
        raise NotImplementedError

    @abstractmethod
    async def start_worker(self, processes: int) -> None:
        """Begin to run tasks in this process, in the background.

        ``processes`` is 1 unless the library's worker forks its own (``Entry.supervised``). May
        replace this process.
        """

    async def run_worker_command(self) -> None:
        """Become the worker by the command that a user gives; by default, ``start_worker``."""
        await self.start_worker(1)

    @abstractmethod
    async def finished(self) -> int:
        """Return how many tasks the store says are settled: result and final state both there."""

    @abstractmethod
    async def round_trip(self, number: int) -> None:
        """Enqueue one task and wait for its result by the library's own means."""

    async def queries(self) -> int:
        """Return how many queries the server says it has answered so far.

        Raises:
            NotImplementedError: it does not say.
        """
        raise NotImplementedError

    async def teardown(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what ``setup`` and ``start_worker`` opened."""

    async def enqueue_one_by_one(self, n: int) -> float:
        """Enqueue ``n`` tasks, each after the one before is stored; return the seconds it took."""
        began = time.perf_counter()
        for number in range(n):
            await self.enqueue(number)
        return time.perf_counter() - began

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        """Enqueue ``n`` tasks with ``width`` calls always in flight; return the seconds it took."""
        numbers = iter(range(n))
        began = time.perf_counter()
        await asyncio.gather(*(self._enqueue_each(numbers) for _ in range(width)))
        return time.perf_counter() - began

    async def fill(self, n: int) -> None:
        """Store ``n`` tasks by the fastest way there is; not measured."""
        try:
            await self.enqueue_bulk(range(n))
        except NotImplementedError:
            await self.enqueue_one_by_one(n)

    async def _enqueue_each(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self.enqueue(number)
