"""Which indexes SQLite uses."""

from __future__ import annotations

from pathlib import Path

from omniq.backend.sqlite import SQLiteBackend
from omniq.models.task import TaskStatus
from omniq.storage.base import TaskFilter


async def test_running_tasks_are_found_without_looking_at_others(tmp_path: Path) -> None:
    """`omniq status` and the dashboard ask for them all the time; a million may be finished."""
    async with SQLiteBackend(tmp_path / "queue.db") as backend:
        queue = backend.get_task_queue()
        running = TaskFilter(statuses=frozenset({TaskStatus.RUNNING}))
        asked: list[str] = []
        await backend.database.read(lambda reader: reader.set_trace_callback(asked.append))
        await queue.find(running, after="a")
        await backend.database.read(lambda reader: reader.set_trace_callback(None))
        plan = await backend.database.read(
            lambda reader: reader.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()
        )

        assert "USING INDEX omniq_task_leased" in str(plan)
