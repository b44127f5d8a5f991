"""A process of a benchmark: it holds one adapter and obeys the harness, one JSON line for each act.

``python -m bench.child <module:Class> client`` answers acts such as ``{"act": "enqueue_one_by_one",
"n": 100}`` with ``{"value": …}`` or ``{"error": …}``. With ``worker`` or ``command`` it sets up,
says that it is ready, waits for one line (so that several workers begin together), and works until
it is ended. It imports little, because its memory is one of the numbers measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TextIO

from bench.adapter import Adapter
from bench.catalogue import load
from bench.recorder import DIRECTORY_VARIABLE, RunReader

POLL_SECONDS = 0.002
STALLED_SECONDS = 15.0
IDLE_SECONDS = (0.02, 0.05)


class Client:
    """The acts a harness may ask for, on one adapter."""

    def __init__(self, adapter: Adapter, directory: Path) -> None:
        self.adapter = adapter
        self._runs = RunReader(directory)

    async def enqueue_one_by_one(self, n: int) -> float:
        """Return the seconds that ``n`` enqueues take, one after another."""
        return await self.adapter.enqueue_one_by_one(n)

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        """Return the seconds that ``n`` enqueues take, ``width`` at a time."""
        return await self.adapter.enqueue_concurrently(n, width)

    async def enqueue_bulk(self, n: int) -> float | None:
        """Return the seconds that one bulk call takes; None where the library has none."""
        began = time.perf_counter()
        try:
            await self.adapter.enqueue_bulk(range(n))
        except NotImplementedError:
            return None
        return time.perf_counter() - began

    async def fill(self, n: int) -> None:
        """Store ``n`` tasks."""
        await self.adapter.fill(n)

    async def drain(self, n: int) -> int:
        """Work here until ``n`` tasks are finished; return that moment in monotonic nanoseconds."""
        await self.adapter.start_worker(1)
        return await self.wait_finished(n)

    async def end_to_end(self, n: int, width: int) -> float:
        """Return the seconds from the first of ``n`` enqueues to the last result."""
        await self.adapter.start_worker(1)
        began_at = time.monotonic_ns()
        await self.adapter.enqueue_concurrently(n, width)
        return (await self.wait_finished(n) - began_at) / 1e9

    async def queries(self) -> int:
        """Return how many queries the server has answered."""
        return await self.adapter.queries()

    async def start_worker(self) -> None:
        """Begin to work in this process."""
        await self.adapter.start_worker(1)

    async def wait_finished(self, n: int) -> int:
        """Wait until ``n`` tasks have run and are settled in the store; return that moment.

        The cheap run log is watched first, so that the store is asked only at the very end.

        Raises:
            TimeoutError: nothing moved for ``STALLED_SECONDS``.
        """
        await self._wait_for(n, self._count_runs, "ran")
        await self._wait_for(n, self.adapter.finished, "were settled")
        return time.monotonic_ns()

    async def _wait_for(self, n: int, count: Callable[[], Awaitable[int]], what: str) -> None:
        reached, moved_at = -1, time.monotonic()
        while (now := await count()) < n:
            if now > reached:
                reached, moved_at = now, time.monotonic()
            elif time.monotonic() > moved_at + STALLED_SECONDS:
                raise TimeoutError(f"only {now} of {n} tasks {what}")
            await asyncio.sleep(POLL_SECONDS)

    async def _count_runs(self) -> int:
        return self._runs.count()

    async def latency(self, first: int, samples: int, budget_seconds: float) -> list[list[float]]:
        """Send tasks one by one into an idle queue; return [seconds to start, to result] of each.

        Stops early when the budget is used up, for the sake of slow pollers.
        """
        sent: dict[int, int] = {}
        seen: dict[int, int] = {}
        deadline = time.monotonic() + budget_seconds
        for number in range(first, first + samples):
            await asyncio.sleep(random.uniform(*IDLE_SECONDS))
            sent[number] = time.monotonic_ns()
            await self.adapter.round_trip(number)
            seen[number] = time.monotonic_ns()
            if time.monotonic() > deadline:
                break
        started = self._runs.started_at()
        return [[(started[n] - sent[n]) / 1e9, (seen[n] - sent[n]) / 1e9] for n in seen]


async def serve(client: Client, replies: TextIO) -> None:
    """Answer acts until the harness closes the pipe."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        act: Callable[..., Awaitable[Any]] = getattr(client, request.pop("act"))
        try:
            reply = {"value": await act(**request)}
        except Exception as error:  # noqa: BLE001 - the edge of this process: the harness tells
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


async def main(target: str, role: str, processes: int, replies: TextIO) -> None:
    """Set the adapter up, report ready, and play the role until the pipe closes."""
    directory = Path(os.environ[DIRECTORY_VARIABLE])
    adapter = load(target)
    await adapter.setup(directory)
    print(json.dumps({"value": "ready"}), file=replies, flush=True)
    try:
        if role == "client":
            await serve(Client(adapter, directory), replies)
        else:
            await asyncio.to_thread(sys.stdin.readline)
            await (
                adapter.start_worker(processes)
                if role == "worker"
                else adapter.run_worker_command()
            )
            await asyncio.to_thread(sys.stdin.readline)
    finally:
        await adapter.teardown()


def private_stdout() -> TextIO:
    """Keep stdout for replies and send whatever a library prints to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed, equally for all."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


if __name__ == "__main__":
    run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), private_stdout()))
