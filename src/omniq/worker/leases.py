"""Keeping the leases of running tasks, from a thread of its own.

The thread has its own event loop, so a task that blocks the worker's loop loses no lease. One call
extends all leases. What the store says of them goes back to the worker's loop: a lost lease or a
cancel request ends the run. So does, whether the store answers or not, the end of the trust in it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Mapping
from copy import copy
from typing import Any

from omniq.clock import check_seconds
from omniq.exceptions import OmniQError
from omniq.storage.base import BaseQueue, Change, Lease
from omniq.worker.runs import Run, StopReason

logger = logging.getLogger(__name__)
BURY_SECONDS = 1.0
"""How often dead workers of this machine are looked for."""
MARGIN = 0.15
"""This part of a lease is left unused: by then a worker must have stopped trusting it."""


def trusted_seconds(lease_seconds: float) -> float:
    """Return how long after its claim or heartbeat a lease may be trusted."""
    return lease_seconds * (1 - MARGIN)


def checked_lease(asked: float | None, queue: BaseQueue) -> float:
    """Return how long leases are: what was asked for, or what suits the store.

    Raises:
        ValidationError: it is no time a lease can last.
    """
    seconds = queue.capabilities.lease_seconds if asked is None else asked
    return check_seconds("lease_seconds", seconds, least=0.5)


class LeaseKeeper:
    """Heartbeats for the runs in `runs`, which the worker's loop fills and empties."""

    def __init__(
        self, queue: BaseQueue, runs: Mapping[str, Run], *, worker_id: str, lease_seconds: float
    ) -> None:
        self._queue = queue
        self._runs = runs
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._interval = min(queue.capabilities.heartbeat_seconds, lease_seconds / 3)
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Call in the worker's loop."""
        self._main_loop = asyncio.get_running_loop()
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name="omniq-leases", daemon=True
        )
        self._thread.start()
        started.wait()

    async def stop(self) -> None:
        """End the thread."""
        if self._thread is None or self._own_loop is None or self._stop is None:
            return
        self._own_loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join)

    async def _main(self, started: threading.Event) -> None:
        self._own_loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        started.set()
        watch = asyncio.create_task(self._watch())
        try:
            await self._keep(self._stop)
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """Stop in time what can no longer be trusted, also while a heartbeat gets no answer."""
        while True:
            self._give_up(dict(self._runs))
            await asyncio.sleep(self._lease_seconds * MARGIN / 3)

    async def _keep(self, stop: asyncio.Event) -> None:
        watches = self._queue.capabilities.detects_death
        next_beat = next_burial = time.monotonic()
        while not stop.is_set():
            if time.monotonic() >= next_beat:
                await self._guarded(self._beat())
                next_beat = time.monotonic() + self._interval
            if watches and time.monotonic() >= next_burial:
                await self._guarded(self._bury())
                next_burial = time.monotonic() + BURY_SECONDS
            wake_at = min(next_beat, next_burial) if watches else next_beat
            await _pause(stop, wake_at - time.monotonic())

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        """Do one step; what fails is tried again at the next, whatever it was.

        A thread that ended here would let all leases of a worker run out that goes on claiming.
        """
        try:
            await step
        except OmniQError as error:
            logger.warning("heartbeat of %s: %s", self._worker_id, error)
        except Exception:
            logger.exception("heartbeat of %s", self._worker_id)

    async def _beat(self) -> None:
        runs = dict(self._runs)
        leases = [
            Lease(run.task.id, run.task.claim_count, run.task.lease_token or "")
            for run in runs.values()
        ]
        if not leases:
            return
        sent_at = time.monotonic()
        held = {
            task.id: task
            for task in await self._queue.extend(leases, lease_seconds=self._lease_seconds)
        }
        trusted_until = sent_at + trusted_seconds(self._lease_seconds)
        for task_id, run in runs.items():
            task = held.get(task_id)
            if task is None:
                self._stop_run(run, StopReason.LOST)
                continue
            run.trusted_until = trusted_until
            if task.cancel_requested:
                self._stop_run(run, StopReason.CANCEL)
        await self._write_progress(list(runs.values()))

    async def _write_progress(self, runs: list[Run]) -> None:
        changes: list[Change] = []
        for run in runs:
            fraction, run.progress = run.progress, None
            if fraction is not None and not run.executed:
                after = copy(run.task)
                after.progress = fraction
                changes.append(Change(run.task, after))
        if changes:
            await self._queue.swap(changes)

    def _give_up(self, runs: dict[str, Run]) -> None:
        """Stop the runs whose lease can no longer be trusted, because no heartbeat got through."""
        moment = time.monotonic()
        for run in runs.values():
            if run.trusted_until < moment:
                self._stop_run(run, StopReason.LOST)

    def _stop_run(self, run: Run, reason: StopReason) -> None:
        if not run.executed and self._main_loop is not None and not self._main_loop.is_closed():
            self._main_loop.call_soon_threadsafe(run.stop, reason)

    async def _bury(self) -> None:
        dead = await self._queue.end_dead_leases()
        if dead:
            logger.warning("workers that died without a word: %s", ", ".join(dead))


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or less when told to stop."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        return
