"""The PostgreSQL backend: one database, four components."""

from __future__ import annotations

from typing import Unpack

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.serialization import SerializationFormat
from omniq.storage.postgres import (
    Database,
    PostgresOptions,
    PostgreSQLEventStorage,
    PostgreSQLQueue,
    PostgreSQLResultStorage,
    PostgreSQLScheduleStorage,
)
from omniq.storage.postgres.target import taken_from_query


class PostgreSQLBackend(BaseBackend):
    """Tasks, results, events and schedules in one PostgreSQL database, over shared connections.

    Args:
        dsn: ``postgresql://user:password@host:5432/database``.
        serialization_format: ``json``, ``msgpack`` or ``pickle`` for new records.
        options: see `PostgresOptions`; each may also be part of the URL's query.
    """

    capabilities = PostgreSQLQueue.capabilities

    def __init__(
        self,
        dsn: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        **options: Unpack[PostgresOptions],
    ) -> None:
        super().__init__()
        self.database = Database(dsn, **options)
        self._format: SerializationFormat = serialization_format
        if not self.database.listens:
            self.capabilities = type(self.capabilities)()

    @classmethod
    def from_url(cls, url: str) -> PostgreSQLBackend:
        """Return the backend of a URL, options in its query included."""
        bare, format_name = taken_from_query(url, "serialization_format", "json")
        match format_name:
            case "json" | "msgpack" | "pickle":
                return cls(bare, serialization_format=format_name)
            case _:
                raise ConfigError(
                    f"serialization_format is one of json, msgpack, pickle, not {format_name!r}"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.database.shown!r})"

    def _make_queue(self) -> PostgreSQLQueue:
        return PostgreSQLQueue(handle=self.database, serialization_format=self._format)

    def _make_results(self) -> PostgreSQLResultStorage:
        return PostgreSQLResultStorage(handle=self.database, serialization_format=self._format)

    def _make_events(self) -> PostgreSQLEventStorage:
        return PostgreSQLEventStorage(handle=self.database)

    def _make_schedules(self) -> PostgreSQLScheduleStorage:
        return PostgreSQLScheduleStorage(handle=self.database, serialization_format=self._format)


AsyncPostgreSQLBackend = PostgresBackend = PostgreSQLBackend
AsyncPostgresBackend = PostgreSQLBackend
