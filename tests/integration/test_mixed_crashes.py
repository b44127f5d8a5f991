"""Workers that die at each step of a finish, with every component on an engine of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from omniq import OmniQ, ResultTimeoutError, TaskHandle, TaskStatus
from omniq.clock import utcnow
from omniq.ids import fire_id
from omniq.testing.waiting import wait_until
from tests.integration.mixed_app import DIED, FIRING, STEPS, application
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import namespace, redis_url

APP = Path(__file__).with_name("mixed_app.py")


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The queue on Redis, results in PostgreSQL, events in files, schedules in SQLite."""
    path = tmp_path / "mixed.yaml"
    path.write_text(
        f"""
task_queue_backend: {{url: "{redis_url()}", config: {{namespace: {namespace()}}}}}
result_storage_backend: {{url: "{postgres_url()}", config: {{schema: {schema()}}}}}
event_storage_backend: {{backend_type: file, config: {{base_dir: {tmp_path}/events}}}}
schedule_storage_backend: {{backend_type: sqlite, url: {tmp_path}/schedules.db}}
"""
    )
    return str(path)


async def crashed_worker(config: str, step: str) -> int:
    """Run a worker that dies at this step; return its exit code."""
    command = [sys.executable, str(APP), config, step]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30)
    return ended.returncode


async def finish(q: OmniQ, handles: list[TaskHandle[int]]) -> None:
    """Run a worker that lives until all is done."""
    worker = q.worker(lease_seconds=5)
    running = asyncio.create_task(worker.run())

    async def is_done() -> bool:
        tasks = await q.task_queue.get([handle.id for handle in handles])
        return all(task is not None and task.is_final for task in tasks)

    try:
        await wait_until(is_done, description="all tasks are final")
    finally:
        worker.stop()
        await running


@pytest.mark.parametrize("step", STEPS)
async def test_no_result_is_lost_and_none_of_a_lost_run_is_shown(config: str, step: str) -> None:
    """A crash between result, swap and events costs one more run at most."""
    async with application(config) as q:
        handles = [await q.enqueue("double", n) for n in range(5)]

        assert await crashed_worker(config, step) == DIED

        done = [await q.get_task(handle.id) for handle in handles]
        for handle, task in zip(handles, done, strict=True):
            assert task is not None
            if not task.is_final:
                with pytest.raises(ResultTimeoutError):
                    await handle.result(timeout=0)
        await finish(q, handles)
        for n, handle in enumerate(handles):
            assert await handle.result(timeout=5) == 2 * n
            task, result = await q.get_task(handle.id), await q.result_storage.get(handle.id)
            assert task is not None
            assert result is not None
            assert task.status is TaskStatus.COMPLETED
            assert result.claim_count == task.claim_count <= 2


async def test_a_finished_task_is_not_run_again_when_only_its_events_were_lost(
    config: str,
) -> None:
    """Events come last: without them the task is final all the same."""
    async with application(config) as q:
        handle = await q.enqueue("double", 21)

        assert await crashed_worker(config, "after the swap") == DIED

        assert await handle.result(timeout=0) == 42
        task = await q.get_task(handle.id)
        assert task is not None
        assert (task.status, task.claim_count) == (TaskStatus.COMPLETED, 1)


@pytest.mark.parametrize("step", FIRING)
async def test_each_fire_time_makes_one_task_wherever_a_worker_dies(config: str, step: str) -> None:
    """Tasks in Redis, the schedule in SQLite: nothing is atomic between them."""
    first = utcnow() - timedelta(hours=3)
    async with application(config) as q:
        schedule = await q.schedule(
            "double", every=3600, start_at=first, misfire="all", args=(21,), schedule_id="hourly"
        )
        schedule.next_run_at = first
        await q.schedule_storage.save_schedule(schedule)

        assert await crashed_worker(config, step) == DIED

        worker = q.worker(lease_seconds=5)
        running = asyncio.create_task(worker.run())
        expected = [fire_id("hourly", first + timedelta(hours=n)) for n in range(4)]

        async def is_done() -> bool:
            after = await q.schedule_storage.get_schedule("hourly")
            tasks = await q.task_queue.get(expected)
            moved_on = after is not None and after.run_count == len(expected)
            return moved_on and all(task is not None and task.is_final for task in tasks)

        try:
            await wait_until(is_done, description="all fire times are made up for")
        finally:
            worker.stop()
            await running
        made = [task for task in await q.list_tasks() if task.schedule_id == "hourly"]
        assert sorted(task.id for task in made) == sorted(expected)
        assert {await q.get_result(task_id) for task_id in expected} == {42}
