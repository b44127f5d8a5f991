"""The task queue in PostgreSQL."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from omniq.blocking import run_blocking
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.models.result import TaskResult
from omniq.models.task import FINAL_STATUSES, LIVE_STATUSES, Task, TaskStatus
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
from omniq.storage.events import append_missing
from omniq.storage.joining import Caller
from omniq.storage.parts import are_several
from omniq.storage.postgres.callers import JoinedInserts
from omniq.storage.postgres.claims import GRACE_SECONDS, ClaimStatements
from omniq.storage.postgres.database import LONG_COMMAND_SECONDS, Database
from omniq.storage.postgres.inserts import TaskInserts, are_fresh
from omniq.storage.postgres.looks import Remembered
from omniq.storage.postgres.rows import STATE_COLUMNS, columns, read_task, task_codec, whole_task
from omniq.storage.postgres.statements import WriteStatements
from omniq.storage.postgres.stores import PostgreSQLEventStorage, PostgreSQLResultStorage
from omniq.storage.postgres.target import PostgresOptions
from omniq.storage.postgres.wake import Waiting, digest
from omniq.storage.postgres.writes import TaskWrites, is_simple

if TYPE_CHECKING:
    from asyncpg import Connection, Record

POLL_SECONDS = 5.0
"""How long a wait sleeps at most: wake-ups can get lost."""
POLL_UNHEARD_SECONDS = 1.0
"""The same while nothing listens."""
DUE_MARGIN_SECONDS = 0.0005
LOOK_SECONDS = 15.0
"""How long the answer of a look holds at most, if nothing is announced meanwhile."""
LONGEST_WATCH = 15
"""Each of so many workers looks for dead ones once in so many seconds, up to this."""
FIND_SECONDS = 60.0


class PostgreSQLQueue(BaseQueue):
    """Tasks in PostgreSQL, shared by any number of threads, processes and machines.

    Args:
        dsn: ``postgresql://user:password@host:5432/database``.
        serialization_format: of new payloads; each says its own format when read.
        handle: share this open `Database` instead of making one.
        options: see `PostgresOptions`.
    """

    capabilities = Capabilities(detects_death=True, wakes=True, transactions=True)

    def __init__(
        self,
        dsn: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        handle: Database | None = None,
        **options: Unpack[PostgresOptions],
    ) -> None:
        super().__init__()
        self._db = handle or Database(dsn, **options)
        if not self._db.listens:
            self.capabilities = Capabilities(transactions=True)
        self._codec = task_codec(serialization_format)
        names = self._db.tables
        statements = WriteStatements(names)
        self._inserts_of = TaskInserts(self._db, self._codec, statements)
        self._joined = JoinedInserts(self._db, self._inserts_of)
        self._writes = TaskWrites(self._db, self._codec, statements)
        self._claims = ClaimStatements(names)
        self._due: Remembered[float | None] = Remembered(self._db, LOOK_SECONDS)
        self._workers: set[str] = set()
        self._bury_at = 0.0
        state = ", ".join(f"t.{name}" for name in STATE_COLUMNS)
        self._select = tuple(
            f"SELECT t.id, t.queue, t.func, p.data, {state} "  # noqa: S608 - checked names only
            f"FROM {table} t LEFT JOIN {names.payload} p USING (id)"
            for table in (names.task, names.history)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._db.shown!r})"

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

    async def _store_time(self) -> datetime:
        return await self._db.time()

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        return await self._inserts_of.insert(tasks, now)

    async def _insert_within(
        self,
        caller: Caller,
        tasks: list[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
    ) -> list[Inserted]:
        async def again() -> str:
            if caller.is_async:
                return await self._db.identify()
            return run_blocking(self._db.identify, "PostgreSQLQueue.insert_within")

        return await self._joined.insert(caller, tasks, events, now, again)

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:
        if isinstance(events, PostgreSQLEventStorage) and events.is_kept_in(self._db):
            return partial(self._insert_telling, events)
        return None

    async def _insert_telling(
        self, storage: PostgreSQLEventStorage, tasks: list[Task], events: list[TaskEvent]
    ) -> list[Inserted] | None:
        """Store tasks and events in one statement."""
        is_plain = all(not (e.message or e.details or e.worker_id) for e in events)
        if not is_plain or not are_fresh(tasks):
            return None
        inserted, is_logged = await self._inserts_of.insert_logged(tasks, events)
        if not is_logged:
            pairs = zip(events, inserted, strict=True)
            await append_missing(storage, [event for event, item in pairs if item.stored])
        return inserted

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        values = (queues, worker_id, lease_token, limit, float(lease_seconds), now)
        rows = await self._db.fetch(self._claims.claim, *values)
        if rows:
            self._due.forget()  # these leases will end
        rows.sort(key=lambda row: row[0])
        return [self._claimed(row, worker_id, lease_token) for row in rows]

    def _claimed(self, row: Any, worker_id: str, lease_token: str) -> Task:
        task = read_task(self._codec.decode, row[1], row[2], row[3], row[4])
        task.status = TaskStatus.RUNNING
        task.attempt, task.claim_count, task.lost_leases = row[5], row[6], row[7]
        task.cancel_requested, task.error, task.due_at, task.started_at = row[8:12]
        task.expires_at, task.waiting_for = row[12], row[13]
        task.finished_at, task.progress = None, None
        task.lease_token, task.worker_id = lease_token, worker_id
        return task

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        return await self._writes.swap(changes, now)

    def _joint_finish(self, results: BaseResultStorage) -> JointFinish | None:
        if isinstance(results, PostgreSQLResultStorage) and results.is_kept_in(self._db):
            return partial(self._set_and_swap, results)
        return None

    async def _set_and_swap(
        self,
        storage: PostgreSQLResultStorage,
        changes: Sequence[Change],
        results: list[TaskResult],
        now: datetime | None,
    ) -> list[bool] | None:
        """Store results and swap, in one statement."""
        ids = {result.task_id for result in results}
        if len(ids) != len(results) or not is_simple(changes):
            return None
        rows = storage.rows(results)
        if are_several([row[-1] for row in rows]):
            return None
        return await self._writes.swap(changes, now, rows)

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        values = columns(dict.fromkeys(leases))
        rows = await self._db.fetch(self._claims.extend, *values, float(lease_seconds), now)
        found = {row[0]: whole_task(self._codec.decode, row) for row in rows}
        return [found[lease.task_id] for lease in leases if _holds(found, lease)]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        part = "WHERE t.id = ANY($1::text[])"
        rows = await self._db.read(f"{self._either(part)}", task_ids)
        found = {row[0]: row for row in rows}
        return [self._task(found[key]) if key in found else None for key in task_ids]

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        clauses, values = _conditions(where)
        part = f"WHERE t.id > $1 {clauses} ORDER BY t.id LIMIT $2"
        found = self._either(part, where.statuses)
        query = f"SELECT * FROM ({found}) AS found ORDER BY id LIMIT $2"  # noqa: S608
        rows = await self._db.read(query, after or "", limit, *values, seconds=FIND_SECONDS)
        return [self._task(row) for row in rows]

    def _either(self, part: str, statuses: frozenset[TaskStatus] = frozenset()) -> str:
        """Select the same from the live tasks and the finished that may have one of these statuses.

        As of one moment. No statuses: any.
        """
        tables = zip(self._select, (LIVE_STATUSES, FINAL_STATUSES), strict=True)
        chosen = [select for select, held in tables if not statuses or statuses & held]
        return " UNION ALL ".join(f"({select} {part})" for select in chosen)

    def _task(self, row: Any) -> Task:
        return whole_task(self._codec.decode, row)

    async def _counts(self) -> Counts:
        names = self._db.tables
        query = " UNION ALL ".join(
            f"SELECT queue, status, count(*) FROM {table} GROUP BY 1, 2"  # noqa: S608 - checked names
            for table in (names.task, names.history)
        )

        async def count(connection: Connection[Any]) -> list[Record]:
            await connection.execute("SET LOCAL enable_seqscan = on")
            return await connection.fetch(query)

        counts: Counts = {}
        rows = await self._db.transaction(count, seconds=LONG_COMMAND_SECONDS)
        for queue, status, number in rows:
            counts.setdefault(queue, {})[TaskStatus(status)] = number
        return counts

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        return await self._writes.purge(finished_before, limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        table = self._db.tables.paused
        if paused:
            query = f"INSERT INTO {table} VALUES ($1) ON CONFLICT DO NOTHING"  # noqa: S608 - checked name
        else:
            query = f"DELETE FROM {table} WHERE queue = $1"  # noqa: S608 - checked name
        await self._db.fetch(query, queue_name)
        if not paused:
            self._db.announce({queue_name: True})

    async def _paused(self) -> set[str]:
        query = f"SELECT queue FROM {self._db.tables.paused}"  # noqa: S608 - checked name
        return {queue for (queue,) in await self._db.read(query)}

    async def _next_due(self, queues: list[str]) -> datetime | None:
        due: datetime | None = (await self._db.read(self._claims.next_due, queues))[0][0]
        return due

    async def _wait(self, queues: list[str], timeout: float) -> None:
        async def ask() -> float | None:
            pause: float | None = (await self._db.read(self._claims.pause, queues))[0][0]
            margin = DUE_MARGIN_SECONDS if pause else 0.0
            return None if pause is None else time.monotonic() + pause + margin

        async def look() -> float | None:
            return _left(await self._due.get(tuple(queues), ask, _left))

        with self._db.waiters.register("ready", queues) as waiting:
            await self._sleep(waiting, look, timeout)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        async def look() -> float | None:
            (is_final,) = (await self._db.read(self._claims.any_final, list(set(task_ids))))[0]
            return 0.0 if is_final else None

        with self._db.waiters.register("final", map(digest, task_ids)) as waiting:
            await self._sleep(waiting, look, timeout)

    async def _sleep(self, waiting: Waiting, look: Any, seconds: float) -> None:
        """Look, and sleep until the moment looked for, an announcement or the end of the time.

        When the listening connection was made (anew), something may have been missed: look again.
        """
        ends_at = time.monotonic() + seconds
        listener = self._db.listener()
        while True:
            pause = await look()
            hears = listener is not None and listener.hears
            longest = POLL_SECONDS if hears else POLL_UNHEARD_SECONDS
            left = min(longest, ends_at - time.monotonic())
            if pause is not None and pause <= left:
                left = pause
            if left <= 0 or await waiting.wait(left):
                return
            if listener is None or not listener.hears or hears:
                return

    async def _announce(self, worker_id: str) -> None:
        self._workers.add(worker_id)
        listener = self._db.listener()
        if listener is not None:
            await listener.hold(worker_id)

    async def _withdraw(self, worker_id: str) -> None:
        self._workers.discard(worker_id)
        for listener in self._db.all_listeners():
            listener.let_go(worker_id)
        if self._is_open and self._db.listens:
            query = f"DELETE FROM {self._db.tables.worker} WHERE worker_id = $1"  # noqa: S608 - checked name
            await self._db.fetch(query, worker_id)

    async def _end_dead_leases(self) -> list[str]:
        """Bury the dead. Workers share this: the more there are, the more seldom each looks."""
        if self._workers and time.monotonic() < self._bury_at:
            return []
        ((dead, queues, workers, is_missing),) = await self._db.fetch(self._claims.end_dead)
        share = min(max(workers, 2), LONGEST_WATCH) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
        pause = min(share, GRACE_SECONDS) if is_missing else share - 1.0
        self._bury_at = time.monotonic() + pause
        if queues:
            self._db.announce(dict.fromkeys(queues, True))
        return list(dead)


def _left(due_at: float | None) -> float | None:
    return None if due_at is None else max(0.0, due_at - time.monotonic())


def _holds(found: dict[str, Task], lease: Lease) -> bool:
    task = found.get(lease.task_id)
    return task is not None and task.claim_count == lease.claim_count


def _conditions(where: TaskFilter) -> tuple[str, list[Any]]:
    """Return the SQL of a filter, and its values from $3 on."""
    clauses: list[str] = []
    values: list[Any] = []
    for column, wanted in (
        ("status", [status.value for status in where.statuses]),
        ("queue", list(where.queues)),
        ("func", list(where.funcs)),
        ("schedule_id", [where.schedule_id] if where.schedule_id else []),
        ("worker_id", [where.worker_id] if where.worker_id else []),
    ):
        if wanted:
            values.append(wanted)
            clauses.append(f"AND t.{column} = ANY(${len(values) + 2}::text[])")
    return " ".join(clauses), values


AsyncPostgreSQLQueue = PostgresQueue = PostgreSQLQueue
AsyncPostgresQueue = PostgreSQLQueue
