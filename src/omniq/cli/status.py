"""`omniq status`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omniq.cli.output import Json, console, print_json, print_table
from omniq.cli.queues import by_status
from omniq.cli.target import Target, on_target
from omniq.core import OmniQ
from omniq.models.schedule import ScheduleStatus
from omniq.models.task import TaskStatus
from omniq.readable import ago
from omniq.storage.base import TaskFilter

_PACKAGES = ("msgspec", "anyio", "cronsim", "uvloop", "redis", "asyncpg", "nats-py", "fsspec")


def environment() -> dict[str, str]:
    """Return the versions of Python and of the libraries OmniQ uses, where installed."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def status(*, app: Target = None, json: Json = False) -> None:
    """Show queues, running tasks and the next schedules at one glance."""
    told = on_target(app, _gather)
    if json:
        print_json(told)
        return
    console().print(f"[bold]Store[/bold] {told['store']}")
    print_table(
        ("QUEUE", "PAUSED", *(item.value.upper() for item in TaskStatus)),
        (
            (name, name in told["paused"], *by_status(numbers))
            for name, numbers in sorted(told["counts"].items())
        ),
        empty="no tasks yet",
    )
    console().print()
    print_table(
        ("RUNNING", "TASK", "TRY", "SINCE", "WORKER"),
        ((t.id, t.func, t.attempt, ago(t.started_at), t.worker_id) for t in told["running"]),
        empty="nothing runs",
    )
    console().print()
    print_table(
        ("SCHEDULE", "TASK", "NEXT"),
        ((s.id, s.func, ago(s.next_run_at)) for s in told["schedules"]),
        empty="no active schedules",
    )


async def _gather(target: OmniQ) -> dict[str, Any]:
    queue = target.task_queue
    running = TaskFilter(statuses=frozenset({TaskStatus.RUNNING}))
    return {
        "store": repr(queue),
        "counts": await queue.counts(),
        "paused": sorted(await queue.paused()),
        "running": await queue.find(running, limit=20),
        "schedules": await target.schedule_storage.list_schedules(ScheduleStatus.ACTIVE),
    }
