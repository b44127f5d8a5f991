"""The task queue in SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from omniq.clock import from_micros, to_micros, utcnow
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.serialization import SerializationFormat
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    Capabilities,
    Change,
    Counts,
    Inserted,
    JointFinish,
    Lease,
    LoggedInsert,
    TaskFilter,
)
from omniq.storage.joining import Caller
from omniq.storage.local import liveness
from omniq.storage.local.wake import FINAL, READY
from omniq.storage.sqlite.callers import JoinedWrites
from omniq.storage.sqlite.claims import ClaimStatements
from omniq.storage.sqlite.database import Database, Durability
from omniq.storage.sqlite.errors import translating
from omniq.storage.sqlite.rows import (
    STATE_COLUMNS,
    micros,
    read_task,
    set_state,
    task_codec,
)
from omniq.storage.sqlite.rows import (
    moment as at_moment,
)
from omniq.storage.sqlite.stores import SQLiteEventStorage, SQLiteResultStorage
from omniq.storage.sqlite.threads import Transaction
from omniq.storage.sqlite.writes import TaskWrites

IDS_PER_QUERY = 500
LONGEST_WAIT_SECONDS = 5.0
"""A waiter looks again after this: a lease may have begun, and ended, while it slept."""
_RUNNING = frozenset({TaskStatus.RUNNING})
"""A filter for these alone is answered by their own index: they are few among any number."""


class SQLiteQueue(BaseQueue):
    """Tasks in an SQLite file, shared by any number of threads and processes of one machine.

    Args:
        database_path: the file; made if missing.
        durability: ``full`` or ``fast``, see `Database`.
        namespace: prefix of the tables.
        migrate: False neither makes the file nor its tables, and refuses older ones.
        serialization_format: of new payloads; each says its own format when read.
        database: share this open handle instead of making one.
    """

    capabilities = Capabilities(detects_death=True, wakes=True, transactions=True)

    def __init__(
        self,
        database_path: str = "omniq.db",
        *,
        durability: Durability = "full",
        namespace: str = "omniq",
        migrate: bool = True,
        serialization_format: SerializationFormat = "json",
        database: Database | None = None,
    ) -> None:
        super().__init__()
        self._db = database or Database(
            database_path, durability=durability, namespace=namespace, migrate=migrate
        )
        self._codec = task_codec(serialization_format)
        self._writes = TaskWrites(self._db.tables, self._codec)
        self._joined = JoinedWrites(self._db, self._codec, self._writes)
        self._claims = ClaimStatements(self._db.tables)
        state = ", ".join(f"t.{name}" for name in STATE_COLUMNS)
        self._select = (
            f"SELECT t.id, t.queue, t.func, p.data, {state} "  # noqa: S608 - checked names only
            f"FROM {self._db.tables.task} t LEFT JOIN {self._db.tables.payload} p USING (seq) "
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._db.path)!r})"

    @property
    def versioned_schema(self) -> Database:
        """What keeps the versions of the tables."""
        return self._db

    async def _open(self) -> None:
        await self._db.open(self)

    async def _close(self) -> None:
        await self._db.close(self)

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return self._db.name

    @property
    def examined(self) -> object:
        """The database: components that share it are looked at once."""
        return self._db

    async def _findings(self) -> list[Finding]:
        return await self._db.findings()

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        payloads = [self._codec.encode(task) for task in tasks]
        moment = now or utcnow()
        return await self._db.write(
            lambda transaction: self._writes.insert(transaction, tasks, payloads, moment)
        )

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:
        if isinstance(events, SQLiteEventStorage) and events.is_kept_in(self._db):
            return partial(self._insert_telling, events)
        return None

    async def _insert_telling(
        self, storage: SQLiteEventStorage, tasks: list[Task], events: list[TaskEvent]
    ) -> list[Inserted]:
        """Store tasks and the events of those stored, in one transaction."""
        payloads, rows = [self._codec.encode(task) for task in tasks], storage.rows(events)
        now = utcnow()

        def insert(transaction: Transaction) -> list[Inserted]:
            inserted = self._writes.insert(transaction, tasks, payloads, now)
            pairs = zip(rows, inserted, strict=True)
            storage.write_rows(transaction, [row for row, item in pairs if item.stored])
            return inserted

        return await self._db.write(insert)

    async def _insert_within(
        self,
        caller: Caller,
        tasks: list[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
    ) -> list[Inserted]:
        return await self._joined.insert(caller, tasks, events, now or utcnow())

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        moment = now or utcnow()
        ends_at = moment + timedelta(seconds=lease_seconds)
        at = to_micros(moment)
        rows: list[Any] = await self._db.write(
            lambda transaction: self._claims.claim(
                transaction, queues, worker_id, lease_token, limit, at, to_micros(ends_at)
            ),
            worth=lambda connection: self._claims.is_ready(connection, queues, at),
            idle=[],
        )
        return [self._claimed(row, worker_id, lease_token, moment, ends_at) for row in rows]

    def _claimed(
        self, row: Any, worker_id: str, lease_token: str, now: datetime, ends_at: datetime
    ) -> Task:
        task = read_task(self._codec.decode, row[3], row[4], row[5], row[6])
        task.status = TaskStatus.RUNNING
        task.attempt, task.claim_count, task.lost_leases = row[7], row[8], row[9]
        task.cancel_requested, task.error = bool(row[10]), row[11]
        task.expires_at, task.finished_at = at_moment(row[12]), None
        task.progress, task.waiting_for = None, row[13]
        task.lease_token, task.worker_id = lease_token, worker_id
        task.started_at, task.due_at = now, ends_at
        return task

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        moment = now or utcnow()
        return await self._db.write(
            lambda transaction: self._writes.swap(transaction, changes, moment)
        )

    def _joint_finish(self, results: BaseResultStorage) -> JointFinish | None:
        if isinstance(results, SQLiteResultStorage) and results.is_kept_in(self._db):
            return partial(self._set_and_swap, results)
        return None

    async def _set_and_swap(
        self,
        storage: SQLiteResultStorage,
        changes: Sequence[Change],
        results: list[TaskResult],
        now: datetime | None,
    ) -> list[bool]:
        """Store results and swap, in one transaction."""
        rows, moment = storage.rows(results), now or utcnow()

        def run(transaction: Transaction) -> list[bool]:
            storage.write_rows(transaction, rows)
            return self._writes.swap(transaction, changes, moment)

        return await self._db.write(run)

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        due_at = to_micros((now or utcnow()) + timedelta(seconds=lease_seconds))
        held = await self._db.write(
            lambda transaction: self._writes.extend(transaction, leases, due_at)
        )
        found = await self._get(held)
        fence = {lease.task_id: (lease.claim_count, lease.lease_token) for lease in leases}
        return [
            task
            for task in found
            if task is not None and fence[task.id] == (task.claim_count, task.lease_token)
        ]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        def run(connection: sqlite3.Connection) -> dict[str, Any]:
            rows: dict[str, Any] = {}
            for start in range(0, len(task_ids), IDS_PER_QUERY):
                ids = task_ids[start : start + IDS_PER_QUERY]
                marks = ", ".join("?" * len(ids))
                query = f"{self._select} WHERE t.id IN ({marks})"
                rows.update((row[0], row) for row in connection.execute(query, ids))
            return rows

        rows = await self._db.read(run)
        return [self._task(rows[task_id]) if task_id in rows else None for task_id in task_ids]

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        clauses, values = _conditions(where)
        key = "+t.id" if where.statuses == _RUNNING else "t.id"  # with +, no index of ids is used
        query = f"{self._select} WHERE {key} > ? {' '.join(clauses)} ORDER BY {key} LIMIT ?"
        rows = await self._db.read(
            lambda connection: connection.execute(query, (after or "", *values, limit)).fetchall()
        )
        return [self._task(row) for row in rows]

    def _task(self, row: Any) -> Task:
        return set_state(read_task(self._codec.decode, row[0], row[1], row[2], row[3]), row[4:])

    async def _counts(self) -> Counts:
        query = f"SELECT queue, status, count(*) FROM {self._db.tables.task} GROUP BY 1, 2"  # noqa: S608 - checked name
        rows = await self._db.read(lambda connection: connection.execute(query).fetchall())
        counts: Counts = {}
        for queue, status, number in rows:
            counts.setdefault(queue, {})[TaskStatus(status)] = number
        return counts

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        before = to_micros(finished_before)
        return await self._db.write(
            lambda transaction: self._writes.purge(transaction, before, limit)
        )

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        table = self._db.tables.paused

        def run(transaction: Transaction) -> None:
            if paused:
                query = f"INSERT OR IGNORE INTO {table} VALUES (?)"  # noqa: S608 - checked name
            else:
                query = f"DELETE FROM {table} WHERE queue = ?"  # noqa: S608 - checked name
                transaction.ready_queues.add(queue_name)
            transaction.connection.execute(query, (queue_name,))

        await self._db.write(run)

    async def _paused(self) -> set[str]:
        return await self._db.read(self._claims.paused)

    async def _next_due(self, queues: list[str]) -> datetime | None:
        due = await self._db.read(lambda connection: self._claims.next_due(connection, queues))
        return None if due is None else from_micros(due)

    async def _wait(self, queues: list[str], timeout: float) -> None:
        with self._db.hub.register(READY, queues) as waiting:
            now = micros(utcnow()) or 0
            pause = await self._db.read(
                lambda connection: self._claims.pause(connection, queues, now)
            )
            if pause > 0:
                await waiting.wait(min(timeout, pause, LONGEST_WAIT_SECONDS))

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        ids = task_ids[:IDS_PER_QUERY]
        if not ids:
            return
        marks = ", ".join("?" * len(ids))
        query = (
            f"SELECT count(*) FROM {self._db.tables.task} "  # noqa: S608 - checked name
            f"WHERE id IN ({marks}) AND finished_at IS NULL"
        )
        with self._db.hub.register(FINAL, task_ids) as waiting:
            (live,) = await self._db.read(
                lambda connection: connection.execute(query, ids).fetchone()
            )
            if live == len(ids):
                await waiting.wait(min(timeout, LONGEST_WAIT_SECONDS))

    async def _announce(self, worker_id: str) -> None:
        await self._end_dead_leases()  # also those of a predecessor of the same id
        with translating(self._db.path):
            await asyncio.to_thread(liveness.hold, self._db.worker_folder(), worker_id)

    async def _withdraw(self, worker_id: str) -> None:
        with translating(self._db.path):
            liveness.let_go(self._db.worker_folder(), worker_id)

    async def _end_dead_leases(self) -> list[str]:
        with (
            translating(self._db.path),
            liveness.dead_workers(self._db.worker_folder()) as dead,
        ):
            if dead:
                now = to_micros(utcnow())
                await self._db.write(
                    lambda transaction: self._writes.end_leases(transaction, dead, now)
                )
        return dead


def _conditions(where: TaskFilter) -> tuple[list[str], list[Any]]:
    """Return the SQL of a filter, and its values."""
    clauses = ["AND t.status = 'running'"] if where.statuses == _RUNNING else []
    values: list[Any] = []
    for column, wanted in (
        ("status", [status.value for status in where.statuses]),
        ("queue", list(where.queues)),
        ("func", list(where.funcs)),
        ("schedule_id", [where.schedule_id] if where.schedule_id else []),
        ("worker_id", [where.worker_id] if where.worker_id else []),
    ):
        if wanted:
            clauses.append(f"AND t.{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    return clauses, values


AsyncSQLiteQueue = SQLiteQueue
