"""Results, events and schedules in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from omniq.clock import utcnow
from omniq.exceptions import SerializationError
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule
from omniq.serialization import (
    MAX_RESULT_BYTES,
    RecordCodec,
    SerializationFormat,
    from_plain,
    to_plain,
)
from omniq.storage.base import (
    BaseEventStorage,
    BaseResultStorage,
    BaseScheduleStorage,
    Capabilities,
    EventFilter,
)
from omniq.storage.parts import are_several, cut
from omniq.storage.postgres.database import LONG_COMMAND_SECONDS, Database
from omniq.storage.postgres.looks import Remembered
from omniq.storage.postgres.rows import batch, columns, stored_text, waves
from omniq.storage.postgres.statements import store_results
from omniq.storage.postgres.target import PostgresOptions
from omniq.storage.postgres.wake import SCHEDULES
from omniq.storage.schedules import fence

if TYPE_CHECKING:
    from asyncpg import Connection

_EVENT_TYPES = {
    "task_id": "text",
    "event_type": "text",
    "at": "timestamptz",
    "worker_id": "text",
    "message": "text",
    "details": "json",
}
SCHEDULES_SECONDS = 15.0
"""How long it is remembered at most when the next schedule is due."""
_CHANGED = {SCHEDULES: True}
_TO_JSON = msgspec.json.Encoder()


class _PostgresStorage:
    """What the three share: one `Database`, given or made from a DSN."""

    capabilities = Capabilities(wakes=True)
    _db: Database

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


class PostgreSQLResultStorage(_PostgresStorage, BaseResultStorage):
    """Results in PostgreSQL. Arguments as those of `PostgreSQLQueue`."""

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
        self._codec = RecordCodec(
            TaskResult, ("result",), format=serialization_format, limit=MAX_RESULT_BYTES
        )
        table = self._db.tables.result
        living = "(r.expires_at IS NULL OR r.expires_at > coalesce($2, clock_timestamp()))"
        # checked names throughout
        self._upsert = store_results(self._db.tables)
        self._select = (
            f"SELECT task_id, data FROM {table} r WHERE task_id = ANY($1::text[]) AND {living}"  # noqa: S608
        )
        self._page = (
            f"SELECT data FROM {table} r WHERE task_id > $1 AND {living} "  # noqa: S608
            "ORDER BY task_id LIMIT $3"
        )
        self._remove = (
            f"DELETE FROM {table} WHERE task_id = ANY($1::text[]) "  # noqa: S608
            "RETURNING expires_at IS NULL OR expires_at > clock_timestamp()"
        )
        self._expire = (
            f"DELETE FROM {table} WHERE task_id IN (SELECT task_id FROM {table} "  # noqa: S608
            "WHERE expires_at <= coalesce($1, clock_timestamp()) ORDER BY expires_at LIMIT $2 "
            "FOR UPDATE SKIP LOCKED) RETURNING 1"
        )

    def is_kept_in(self, database: Database) -> bool:
        """Whether results are stored in this database, over the same connections."""
        return self._db is database

    def rows(self, results: Sequence[TaskResult]) -> list[tuple[Any, ...]]:
        """Return results as rows of the table. Raises ValidationError if one cannot be stored."""
        return [
            (item.task_id, item.claim_count, item.expires_at, self._codec.encode(item))
            for item in results
        ]

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        rows = self.rows(results)
        parts = [
            wave[start:end]
            for wave in waves(rows, lambda row: row[0])
            for start, end in cut([row[-1] for _, row in wave])
        ]
        standing = [False] * len(rows)

        async def write(connection: Connection[Any]) -> None:
            for part in parts:
                values = columns(row for _, row in part)
                stored = {key for (key,) in await connection.fetch(self._upsert, *values)}
                for place, row in part:
                    standing[place] = row[0] in stored

        if len(parts) == 1:
            await self._db.run(write)
        else:
            are_large = are_several([row[-1] for row in rows])
            seconds = LONG_COMMAND_SECONDS if are_large else None
            await self._db.transaction(write, seconds=seconds)
        return standing

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        rows = await self._db.read(self._select, task_ids, now)
        found = {row[0]: row[1] for row in rows}
        return [self._codec.decode(found[key]) if key in found else None for key in task_ids]

    async def _delete(self, task_ids: list[str]) -> int:
        return sum(living for (living,) in await self._db.fetch(self._remove, task_ids))

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        rows = await self._db.read(self._page, after or "", now, limit)
        return [self._codec.decode(data) for (data,) in rows]

    async def _purge(self, now: datetime | None, limit: int) -> int:
        return len(await self._db.fetch(self._expire, now, limit))


class PostgreSQLEventStorage(_PostgresStorage, BaseEventStorage):
    """Events in PostgreSQL, a column for each field. Arguments as those of `PostgreSQLQueue`."""

    def __init__(
        self,
        dsn: str | None = None,
        *,
        handle: Database | None = None,
        **options: Unpack[PostgresOptions],
    ) -> None:
        super().__init__()
        self._db = handle or Database(dsn, **options)
        self._table = self._db.tables.event
        fields = ", ".join(_EVENT_TYPES)
        # checked names throughout
        self._insert = (
            f"INSERT INTO {self._table} ({fields}) SELECT {fields} "  # noqa: S608
            f"FROM {batch(_EVENT_TYPES)} AS i ORDER BY n"
        )
        self._select = f"SELECT {fields} FROM {self._table}"  # noqa: S608
        self._expire = (
            f"DELETE FROM {self._table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {self._table} "  # noqa: S608
            "WHERE at < $1 ORDER BY at, seq LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1"
        )

    def is_kept_in(self, database: Database) -> bool:
        """Whether a transaction of this database can write these events."""
        return self._db is database

    def append_within(
        self, where: Database | Connection[Any], events: list[TaskEvent]
    ) -> Awaitable[object]:
        """Append events by one statement: a transaction of its own, or part of one."""
        rows = [
            (
                item.task_id,
                str(item.event_type),
                item.timestamp,
                stored_text(item.worker_id),
                stored_text(item.message),
                _json(item.details) if item.details else None,
            )
            for item in events
        ]
        return where.fetch(self._insert, *columns(rows))

    async def _append(self, events: list[TaskEvent]) -> None:
        await self.append_within(self._db, events)

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        clauses, values = _event_conditions(where)
        direction = "DESC" if newest else "ASC"
        order = f"ORDER BY at {direction}, seq {direction} LIMIT ${len(values) + 1}"
        rows = await self._db.read(f"{self._select} {clauses} {order}", *values, limit)
        events = [_event(row) for row in rows]
        return events[::-1] if newest else events

    async def _purge(self, before: datetime, limit: int) -> int:
        return len(await self._db.fetch(self._expire, before, limit))


class PostgreSQLScheduleStorage(_PostgresStorage, BaseScheduleStorage):
    """Schedules in PostgreSQL. Arguments as those of `PostgreSQLQueue`."""

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
        self._codec = RecordCodec(
            Schedule, ("args", "kwargs", "metadata"), format=serialization_format
        )
        self._table = self._db.tables.schedule
        self._due: Remembered[datetime | None] = Remembered(self._db, SCHEDULES_SECONDS)

    async def _save(self, schedule: Schedule) -> None:
        await self._insert(
            schedule,
            "UPDATE SET status = excluded.status, next_run_at = excluded.next_run_at, "
            "run_count = excluded.run_count, data = excluded.data",
        )

    async def _add(self, schedule: Schedule) -> bool:
        return await self._insert(schedule, "NOTHING")

    async def _insert(self, schedule: Schedule, otherwise: str) -> bool:
        query = (
            f"INSERT INTO {self._table} (id, status, next_run_at, run_count, data) "  # noqa: S608 - checked names throughout
            f"VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO {otherwise} RETURNING 1"
        )
        is_stored = bool(await self._db.fetch(query, *self._row(schedule)))
        if is_stored:
            self._db.announce(_CHANGED)
        return is_stored

    def _row(self, schedule: Schedule) -> tuple[Any, ...]:
        return (
            schedule.id,
            schedule.status.value,
            schedule.next_run_at,
            schedule.run_count,
            self._codec.encode(schedule),
        )

    async def _get(self, schedule_id: str) -> Schedule | None:
        found = await self._select("WHERE id = $1", schedule_id)
        return found[0] if found else None

    async def _list(self) -> list[Schedule]:
        return await self._select("ORDER BY id")

    async def _ready(self, now: datetime) -> list[Schedule]:
        condition = "WHERE status = 'active' AND next_run_at <= $1 ORDER BY next_run_at, id"
        return await self._select(condition, now)

    async def _next_due(self) -> datetime | None:
        query = f"SELECT min(next_run_at) FROM {self._table} WHERE status = 'active'"  # noqa: S608

        async def ask() -> datetime | None:
            due: datetime | None = (await self._db.read(query))[0][0]
            return due

        return await self._due.get("schedules", ask, _pause_before)

    async def _delete(self, schedule_id: str) -> bool:
        query = f"DELETE FROM {self._table} WHERE id = $1 RETURNING 1"  # noqa: S608
        is_gone = bool(await self._db.fetch(query, schedule_id))
        if is_gone:
            self._db.announce(_CHANGED)
        return is_gone

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        query = f"SELECT data FROM {self._table} WHERE id = $1"  # noqa: S608
        found = await self._db.read(query, before.id)
        if not found or fence(self._codec.decode(found[0][0])) != fence(before):
            return False
        query = (
            f"UPDATE {self._table} SET status = $2, next_run_at = $3, run_count = $4, data = $5 "  # noqa: S608
            "WHERE id = $1 AND data = $6 RETURNING 1"
        )
        row = (before.id, *self._row(after)[1:])
        is_replaced = bool(await self._db.fetch(query, *row, found[0][0]))
        if is_replaced:
            self._db.announce(_CHANGED)
        return is_replaced

    async def _select(self, condition: str, *values: Any) -> list[Schedule]:
        query = f"SELECT data FROM {self._table} {condition}"  # noqa: S608
        return [self._codec.decode(data) for (data,) in await self._db.read(query, *values)]


def _pause_before(due_at: datetime | None) -> float | None:
    return None if due_at is None else (due_at - utcnow()).total_seconds()


def _json(details: dict[str, Any]) -> str:
    try:
        return _TO_JSON.encode(to_plain(details, "details")).decode()
    except UnicodeEncodeError as error:
        raise SerializationError("details", str(error)) from error


def _event_conditions(where: EventFilter) -> tuple[str, list[Any]]:
    clauses: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("task_id =", where.task_id),
        ("event_type =", None if where.event_type is None else str(where.event_type)),
        ("at >=", where.since),
        ("at <", where.until),
    ):
        if value is not None:
            values.append(value)
            clauses.append(f"{condition} ${len(values)}")
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", values


def _event(row: Any) -> TaskEvent:
    task_id, event_type, at, worker_id, message, details = row
    return TaskEvent(
        task_id=task_id,
        event_type=event_type,
        timestamp=at,
        worker_id=worker_id,
        message=message,
        details=from_plain(json.loads(details)) if details else {},
    )


AsyncPostgreSQLResultStorage = PostgresResultStorage = PostgreSQLResultStorage
AsyncPostgresResultStorage = PostgreSQLResultStorage
AsyncPostgreSQLEventStorage = PostgresEventStorage = PostgreSQLEventStorage
AsyncPostgresEventStorage = PostgreSQLEventStorage
AsyncPostgreSQLScheduleStorage = PostgresScheduleStorage = PostgreSQLScheduleStorage
AsyncPostgresScheduleStorage = PostgreSQLScheduleStorage
