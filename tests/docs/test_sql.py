"""The queries a page gives for monitoring run, and tell what they say they tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from omniq import OmniQ, Task
from omniq.models import TaskStatus
from tests.docs.pages import ROOT, blocks
from tests.servers.postgres import postgres_url, schema

_PAGE = ROOT / "docs/backends/postgres.md"
Rows = list[tuple[Any, ...]]
HOLDER = "holds up vacuum"


@pytest.fixture
async def database() -> AsyncIterator[str]:
    """The URL of a database of its own: the queries name the tables as they are by default."""
    name = schema()
    server = await asyncpg.connect(postgres_url())
    await server.execute(f'CREATE DATABASE "{name}"')
    yield f"{postgres_url().rpartition('/')[0]}/{name}"
    await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await server.close()


async def _fill(url: str) -> None:
    """Store tasks in all the states that are asked for."""
    async with OmniQ(url) as app:
        await app.enqueue_tasks([Task(func="late", id="late"), Task(func="bad", id="bad")])
        queue = app.task_queue
        late, bad = await queue.claim(
            ["default"], worker_id="gone", lease_token="t", limit=2, lease_seconds=0.001
        )
        assert (late.id, bad.id) == ("late", "bad")
        await queue.fail(bad, "ValueError: no")
        await app.enqueue_tasks([Task(func="f", id="first"), Task(func="f", id="second")])
        await app.enqueue_task(Task(func="f", queue_name="mail", run_at=late.created_at + _DAY))


_DAY = timedelta(days=1)


def _counted(rows: Rows) -> None:
    assert rows == [
        ("default", TaskStatus.PENDING, 2),
        ("default", TaskStatus.RUNNING, 1),
        ("mail", TaskStatus.SCHEDULED, 1),
    ]


def _waited(rows: Rows) -> None:
    ((queue, waiting),) = rows
    assert queue == "default"
    assert timedelta() < waiting < timedelta(hours=1)


def _overdue(rows: Rows) -> None:
    ((task_id, worker_id, overdue),) = rows
    assert (task_id, worker_id) == ("late", "gone")
    assert timedelta() < overdue < timedelta(hours=1)


def _failed(rows: Rows) -> None:
    assert rows == [("bad", "omniq.TaskError: ValueError: no", 1)]


def _held_up(rows: Rows) -> None:
    (since,) = (row[3] for row in rows if row[1] == HOLDER)
    assert since > timedelta()


def _changed(rows: Rows) -> None:
    live = {name: living for name, living, _dead, _vacuumed in rows}
    assert live["omniq_task"] >= 4
    assert live["omniq_history"] >= 1


def _filled(rows: Rows) -> None:
    ((usage,),) = rows
    assert 0.0 <= usage < 1.0


EXPECTED: dict[str, Callable[[Rows], None]] = {
    "tasks by queue and state": _counted,
    "how long the oldest task that could run has waited": _waited,
    "leases that ended and that nobody has taken up": _overdue,
    "failures of the last hour": _failed,
    "who holds up vacuum: anything over five minutes needs a look": _held_up,
    "dead rows in the tables that change": _changed,
    "how full the notification queue is (1 is full)": _filled,
}


def _queries() -> dict[str, str]:
    """Return the queries of the page by the comment above each."""
    found: dict[str, str] = {}
    for block in blocks(_PAGE):
        if block.language == "sql":
            for part in block.text.split("\n\n"):
                comment, _, query = part.partition("\n")
                found[comment.removeprefix("-- ")] = query
    return found


async def test_the_monitoring_queries_tell_what_they_say(database: str) -> None:
    """Pasted into a database with tasks in every state; each comment is known here."""
    assert list(_queries()) == list(EXPECTED)
    await _fill(database)
    reader, holder = await asyncio.gather(
        asyncpg.connect(database),
        asyncpg.connect(database, server_settings={"application_name": HOLDER}),
    )
    await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM omniq_task")

    for comment, query in _queries().items():
        EXPECTED[comment]([tuple(row) for row in await reader.fetch(query)])

    await holder.close()
    await reader.close()
