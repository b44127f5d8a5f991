"""Moments between two steps of a worker, held open to see what happens in them."""

from __future__ import annotations

import asyncio
from datetime import datetime

from omniq import OmniQ, Worker
from omniq.backend.memory import MemoryBackend
from omniq.models.task import Task
from omniq.storage.memory import MemoryQueue
from omniq.testing.waiting import wait_until


class SlowAnswers(MemoryQueue):
    """A queue far away: the answer of a claim that found nothing may be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.held_up = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        tasks = await super()._claim(queues, worker_id, lease_token, limit, lease_seconds, now)
        if not tasks and not self.go_on.is_set():
            self.held_up.set()
            await self.go_on.wait()
        return tasks


async def test_a_burst_runs_what_its_last_run_set_free() -> None:
    """The last parent ends while a claim that found nothing is on its way back."""
    queue, rest = SlowAnswers(), MemoryBackend()
    app = OmniQ(tasks=queue, results=rest, events=rest, schedules=rest)
    ran: list[str] = []

    @app.task
    async def parent() -> None:
        await queue.held_up.wait()
        ran.append("parent")

    @app.task
    async def child() -> None:
        ran.append("child")

    async with app:
        handle = await parent.enqueue()
        await child.options(depends_on=handle).enqueue()
        worker = Worker(app, burst=True, cleanup=False, schedules=False)
        working = asyncio.create_task(worker.run())
        await handle.wait(timeout=10)
        await wait_until(lambda: not worker.running, description="the worker noted the end")
        queue.go_on.set()
        await working

    assert ran == ["parent", "child"]
