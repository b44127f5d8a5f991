"""The SQLite backend: one file, one connection, four components."""

from __future__ import annotations

from pathlib import Path

from omniq.backend.base import BaseBackend
from omniq.serialization import SerializationFormat
from omniq.storage.sqlite import (
    Database,
    Durability,
    SQLiteEventStorage,
    SQLiteQueue,
    SQLiteResultStorage,
    SQLiteScheduleStorage,
)


class SQLiteBackend(BaseBackend):
    """Tasks, results, events and schedules in one SQLite file.

    Args:
        database_path: the file; made if missing, its folder must exist.
        durability: ``full`` (each commit is synced to disk) or ``fast`` (a power cut may lose the
            last moments; a crash of the program loses nothing).
        namespace: prefix of the tables, so that applications can share a file.
        migrate: False neither makes the file nor its tables, and refuses older ones.
        serialization_format: ``json``, ``msgpack`` or ``pickle`` for new records.
    """

    def __init__(
        self,
        database_path: str | Path = "omniq.db",
        *,
        durability: Durability = "full",
        namespace: str = "omniq",
        migrate: bool = True,
        serialization_format: SerializationFormat = "json",
    ) -> None:
        super().__init__()
        self.database = Database(
            database_path, durability=durability, namespace=namespace, migrate=migrate
        )
        self._format: SerializationFormat = serialization_format

    def __repr__(self) -> str:
        return f"SQLiteBackend({str(self.database.path)!r})"

    def _make_queue(self) -> SQLiteQueue:
        return SQLiteQueue(database=self.database, serialization_format=self._format)

    def _make_results(self) -> SQLiteResultStorage:
        return SQLiteResultStorage(database=self.database, serialization_format=self._format)

    def _make_events(self) -> SQLiteEventStorage:
        return SQLiteEventStorage(database=self.database)

    def _make_schedules(self) -> SQLiteScheduleStorage:
        return SQLiteScheduleStorage(database=self.database, serialization_format=self._format)
