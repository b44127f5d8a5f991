"""Claiming for a worker: one claim under way at a time, and none whose answer is forgotten."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from omniq.ids import new_token
from omniq.models.task import Task
from omniq.storage.base import BaseQueue
from omniq.worker.leases import trusted_seconds
from omniq.worker.options import WorkerOptions

MOST = 10_000


class Claimed(NamedTuple):
    """What a claim got, and until when (by the monotonic clock) that may be trusted to be ours."""

    tasks: list[Task]
    trusted_until: float


NOTHING = Claimed([], 0.0)


class Claims:
    """Sends the claims of one worker.

    A worker that is cancelled while a claim is under way leaves it be: cut short, it might have
    leased tasks that nobody would run or give back before their leases end. See `left_over`.
    """

    def __init__(self, queue: BaseQueue, worker_id: str, options: WorkerOptions) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._options = options
        self._left_over: asyncio.Task[Claimed] | None = None

    async def send(self, limit: int) -> Claimed:
        """Claim up to so many tasks.

        Raises:
            StorageError: the store failed.
        """
        claim = asyncio.create_task(self._claim(min(limit, MOST)))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            self._left_over = claim
            raise

    async def left_over(self) -> Claimed:
        """Return what a claim got whose sender was cancelled; once.

        Raises:
            StorageError: the store failed.
        """
        claim, self._left_over = self._left_over, None
        return NOTHING if claim is None else await asyncio.shield(claim)

    async def _claim(self, limit: int) -> Claimed:
        sent_at = time.monotonic()
        tasks = await self._queue.claim(
            self._options.queues,
            worker_id=self._worker_id,
            lease_token=new_token(),
            limit=limit,
            lease_seconds=self._options.lease_seconds,
        )
        return Claimed(tasks, sent_at + trusted_seconds(self._options.lease_seconds))
