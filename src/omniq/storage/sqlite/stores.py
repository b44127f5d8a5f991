"""Results, events and schedules in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from omniq.clock import from_micros, to_micros, utcnow
from omniq.models.event import TaskEvent
from omniq.models.finding import Finding
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule
from omniq.serialization import (
    MAX_RESULT_BYTES,
    RecordCodec,
    SerializationFormat,
    from_plain,
    json_text,
)
from omniq.storage.base import (
    BaseEventStorage,
    BaseResultStorage,
    BaseScheduleStorage,
    Capabilities,
    EventFilter,
)
from omniq.storage.schedules import fence
from omniq.storage.sqlite.bulk import BulkInsert
from omniq.storage.sqlite.database import Database, Durability
from omniq.storage.sqlite.rows import micros
from omniq.storage.sqlite.threads import Transaction

IDS_PER_QUERY = 500


class _SQLiteStorage:
    """What the three share: one `Database`, given or made from a path."""

    capabilities = Capabilities(wakes=True)
    _db: Database

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


class SQLiteResultStorage(_SQLiteStorage, BaseResultStorage):
    """Results in an SQLite file. Arguments as those of `SQLiteQueue`."""

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
        self._codec = RecordCodec(
            TaskResult, ("result",), format=serialization_format, limit=MAX_RESULT_BYTES
        )
        self._table = self._db.tables.result
        self._upsert = BulkInsert(
            f"INSERT INTO {self._table} (task_id, claim_count, expires_at, data) VALUES",
            4,
            "ON CONFLICT (task_id) DO UPDATE SET "
            "claim_count = excluded.claim_count, expires_at = excluded.expires_at, "
            "data = excluded.data WHERE excluded.claim_count >= claim_count OR expires_at <= ?",
        )

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        rows = self.rows(results)
        return await self._db.write(lambda transaction: self.write_rows(transaction, rows))

    def rows(self, results: Sequence[TaskResult]) -> list[tuple[Any, ...]]:
        """Return checked results as rows. Raises SerializationError for what cannot be stored."""
        return [
            (item.task_id, item.claim_count, micros(item.expires_at), self._codec.encode(item))
            for item in results
        ]

    def write_rows(self, transaction: Transaction, rows: list[tuple[Any, ...]]) -> list[bool]:
        """Write rows within a transaction; for each, whether it now stands."""
        connection, now = transaction.connection, (to_micros(utcnow()),)
        if self._upsert.run(connection, rows, now) == len(rows):
            return [True] * len(rows)
        return [self._upsert.run(connection, [row], now) == 1 for row in rows]

    def is_kept_in(self, database: Database) -> bool:
        """Whether a transaction of this database can write these results."""
        return self._db is database

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        at = to_micros(now or utcnow())

        def run(connection: sqlite3.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for start in range(0, len(task_ids), IDS_PER_QUERY):
                ids = task_ids[start : start + IDS_PER_QUERY]
                marks = ", ".join("?" * len(ids))
                query = (
                    f"SELECT task_id, data FROM {self._table} WHERE task_id IN ({marks}) "  # noqa: S608
                    "AND (expires_at IS NULL OR expires_at > ?)"
                )
                found.update(connection.execute(query, (*ids, at)).fetchall())
            return found

        found = await self._db.read(run)
        return [self._codec.decode(found[key]) if key in found else None for key in task_ids]

    async def _delete(self, task_ids: list[str]) -> int:
        query = (
            f"DELETE FROM {self._table} WHERE task_id = ? "  # noqa: S608
            "AND (expires_at IS NULL OR expires_at > ?)"
        )
        now = to_micros(utcnow())
        rows = [(task_id, now) for task_id in dict.fromkeys(task_ids)]
        return await self._db.write(
            lambda transaction: transaction.connection.executemany(query, rows).rowcount
        )

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        query = (
            f"SELECT data FROM {self._table} WHERE task_id > ? "  # noqa: S608
            "AND (expires_at IS NULL OR expires_at > ?) ORDER BY task_id LIMIT ?"
        )
        values = (after or "", to_micros(now or utcnow()), limit)
        rows = await self._db.read(lambda connection: connection.execute(query, values).fetchall())
        return [self._codec.decode(data) for (data,) in rows]

    async def _purge(self, now: datetime | None, limit: int) -> int:
        query = (
            f"DELETE FROM {self._table} WHERE seq IN (SELECT seq FROM {self._table} "  # noqa: S608
            "WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?)"
        )
        values = (to_micros(now or utcnow()), limit)
        return await self._db.write(
            lambda transaction: transaction.connection.execute(query, values).rowcount
        )


class SQLiteEventStorage(_SQLiteStorage, BaseEventStorage):
    """Events in an SQLite table, a column for each field. Arguments as those of `SQLiteQueue`."""

    def __init__(
        self,
        database_path: str = "omniq.db",
        *,
        durability: Durability = "full",
        namespace: str = "omniq",
        migrate: bool = True,
        database: Database | None = None,
    ) -> None:
        super().__init__()
        self._db = database or Database(
            database_path, durability=durability, namespace=namespace, migrate=migrate
        )
        self._table = self._db.tables.event
        self._insert = BulkInsert(
            f"INSERT INTO {self._table} (task_id, event_type, at, worker_id, message, details)"
            " VALUES",
            6,
        )

    def is_kept_in(self, database: Database) -> bool:
        """Whether a transaction of this database can write these events."""
        return self._db is database

    def rows(self, events: Sequence[TaskEvent]) -> list[tuple[Any, ...]]:
        """Return events as rows for `write_rows`."""
        return [
            (
                item.task_id,
                str(item.event_type),
                to_micros(item.timestamp),
                item.worker_id,
                item.message,
                json_text(item.details, "details") if item.details else None,
            )
            for item in events
        ]

    def write_rows(self, transaction: Transaction, rows: list[tuple[Any, ...]]) -> None:
        """Append rows; a job, or part of one."""
        self._insert.run(transaction.connection, rows)

    async def _append(self, events: list[TaskEvent]) -> None:
        rows = self.rows(events)
        await self._db.write(lambda transaction: self.write_rows(transaction, rows))

    async def _query(self, where: EventFilter, limit: int, newest: bool) -> list[TaskEvent]:
        clauses, values = _event_conditions(where)
        direction = "DESC" if newest else "ASC"
        query = (
            "SELECT task_id, event_type, at, worker_id, message, details "  # noqa: S608
            f"FROM {self._table} {clauses} ORDER BY at {direction}, seq {direction} LIMIT ?"
        )
        rows = await self._db.read(
            lambda connection: connection.execute(query, (*values, limit)).fetchall()
        )
        events = [_event(row) for row in rows]
        return events[::-1] if newest else events

    async def _purge(self, before: datetime, limit: int) -> int:
        query = (
            f"DELETE FROM {self._table} WHERE seq IN "  # noqa: S608
            f"(SELECT seq FROM {self._table} WHERE at < ? ORDER BY at LIMIT ?)"
        )
        values = (to_micros(before), limit)
        return await self._db.write(
            lambda transaction: transaction.connection.execute(query, values).rowcount
        )


class SQLiteScheduleStorage(_SQLiteStorage, BaseScheduleStorage):
    """Schedules in an SQLite file. Arguments as those of `SQLiteQueue`."""

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
        self._codec = RecordCodec(
            Schedule, ("args", "kwargs", "metadata"), format=serialization_format
        )
        self._table = self._db.tables.schedule

    async def _save(self, schedule: Schedule) -> None:
        await self._insert("INSERT OR REPLACE", schedule)

    async def _add(self, schedule: Schedule) -> bool:
        return await self._insert("INSERT OR IGNORE", schedule) == 1

    async def _insert(self, how: str, schedule: Schedule) -> int:
        query = f"{how} INTO {self._table} VALUES (?, ?, ?, ?, ?)"
        row = self._row(schedule)
        return await self._db.write(
            lambda transaction: transaction.connection.execute(query, row).rowcount
        )

    def _row(self, schedule: Schedule) -> tuple[Any, ...]:
        return (
            schedule.id,
            schedule.status.value,
            micros(schedule.next_run_at),
            schedule.run_count,
            self._codec.encode(schedule),
        )

    async def _get(self, schedule_id: str) -> Schedule | None:
        found = await self._select("WHERE id = ?", schedule_id)
        return found[0] if found else None

    async def _list(self) -> list[Schedule]:
        return await self._select("ORDER BY id")

    async def _ready(self, now: datetime) -> list[Schedule]:
        condition = "WHERE status = 'active' AND next_run_at <= ? ORDER BY next_run_at, id"
        return await self._select(condition, to_micros(now))

    async def _next_due(self) -> datetime | None:
        query = f"SELECT min(next_run_at) FROM {self._table} WHERE status = 'active'"  # noqa: S608
        (due,) = await self._db.read(lambda connection: connection.execute(query).fetchone())
        return None if due is None else from_micros(due)

    async def _delete(self, schedule_id: str) -> bool:
        query = f"DELETE FROM {self._table} WHERE id = ?"  # noqa: S608
        deleted = await self._db.write(
            lambda transaction: transaction.connection.execute(query, (schedule_id,)).rowcount
        )
        return deleted == 1

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        look = f"SELECT data FROM {self._table} WHERE id = ?"  # noqa: S608
        query = (
            f"UPDATE {self._table} SET status = ?, next_run_at = ?, run_count = ?, data = ? "  # noqa: S608
            "WHERE id = ?"
        )
        values = (*self._row(after)[1:], before.id)

        def job(transaction: Transaction) -> bool:
            found = transaction.connection.execute(look, (before.id,)).fetchone()
            if found is None or fence(self._codec.decode(found[0])) != fence(before):
                return False
            transaction.connection.execute(query, values)
            return True

        return await self._db.write(job)

    async def _select(self, condition: str, *values: Any) -> list[Schedule]:
        query = f"SELECT data FROM {self._table} {condition}"  # noqa: S608
        rows = await self._db.read(lambda connection: connection.execute(query, values).fetchall())
        return [self._codec.decode(data) for (data,) in rows]


def _event_conditions(where: EventFilter) -> tuple[str, list[Any]]:
    clauses: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("task_id = ?", where.task_id),
        ("event_type = ?", None if where.event_type is None else str(where.event_type)),
        ("at >= ?", micros(where.since)),
        ("at < ?", micros(where.until)),
    ):
        if value is not None:
            clauses.append(condition)
            values.append(value)
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", values


def _event(row: Sequence[Any]) -> TaskEvent:
    task_id, event_type, at, worker_id, message, details = row
    return TaskEvent(
        task_id=task_id,
        event_type=event_type,
        timestamp=from_micros(at),
        worker_id=worker_id,
        message=message,
        details=from_plain(json.loads(details)) if details else {},
    )


AsyncSQLiteResultStorage = SQLiteResultStorage
AsyncSQLiteEventStorage = SQLiteEventStorage
AsyncSQLiteScheduleStorage = SQLiteScheduleStorage
