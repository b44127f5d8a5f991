"""NATS on three nodes that keep three copies: a node dies under load."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from omniq import lifecycle
from omniq.backend.nats import NATSBackend
from omniq.clock import utcnow
from omniq.exceptions import StorageUnavailableError, TaskExistsError
from omniq.models import Task, TaskStatus
from omniq.storage.base import BaseQueue, Change
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace, start_cluster, url_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TASKS = 2000


async def produce(queue: BaseQueue) -> None:
    """Enqueue all tasks, each until it is acknowledged or turns out to be there."""
    for start in range(0, TASKS, 50):
        tasks = [Task(func="app.work", id=f"t{n:04}") for n in range(start, start + 50)]
        while tasks:
            try:
                await queue.enqueue_many(tasks)
            except StorageUnavailableError:
                await asyncio.sleep(0.05)
            except TaskExistsError:
                tasks = [task for task in tasks if await queue.get_task(task.id) is None]
            else:
                break


async def work(queue: BaseQueue, finished: list[str]) -> None:
    """Claim and complete; what cannot be settled now is settled later, or claimed by another."""
    while True:
        with suppress(StorageUnavailableError):
            tasks = await queue.claim(
                ["default"], worker_id="w", lease_token="x", limit=50, lease_seconds=10
            )
            if not tasks:
                await queue.wait(["default"], 1)
            await settle(queue, tasks, finished)


async def settle(queue: BaseQueue, tasks: list[Task], finished: list[str]) -> None:
    now = utcnow()
    changes = [Change(one, lifecycle.settle(one, lifecycle.Completed(), now)) for one in tasks]
    for _ in range(50):
        try:
            done = await queue.swap(changes)
        except StorageUnavailableError:
            await asyncio.sleep(0.1)
            continue
        finished += [change.before.id for change, ok in zip(changes, done, strict=True) if ok]
        return


async def completed(queue: BaseQueue) -> int:
    with suppress(StorageUnavailableError):
        return (await queue.counts()).get("default", {}).get(TaskStatus.COMPLETED, 0)
    return 0


async def test_a_node_that_dies_under_load_loses_nothing(tmp_path: Path) -> None:
    """Each acknowledged task is finished, none twice, and work goes on without a restart."""
    nodes = start_cluster(tmp_path)
    finished: list[str] = []
    try:
        async with NATSBackend(
            url_of(nodes), namespace=namespace(), replicas=3, timeout_seconds=2
        ) as backend:
            queue = backend.get_task_queue()
            workers = [asyncio.create_task(work(queue, finished)) for _ in range(2)]
            producer = asyncio.create_task(produce(queue))
            await wait_until(lambda: len(finished) >= TASKS // 10, description="work is under way")

            for node in nodes[:2]:
                node.kill()
                await asyncio.sleep(2)
                node.start()
                await asyncio.sleep(2)

            await asyncio.wait_for(producer, 120)

            async def all_done() -> bool:
                return await completed(queue) == TASKS

            await wait_until(all_done, description="every task is completed", timeout=120)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

            assert await queue.counts() == {"default": {TaskStatus.COMPLETED: TASKS}}
            assert len(finished) == len(set(finished))
    finally:
        for node in nodes:
            node.stop()
