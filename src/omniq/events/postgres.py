"""The specified home of `PostgreSQLEventStorage`."""

from omniq.storage.postgres import (
    AsyncPostgresEventStorage,
    AsyncPostgreSQLEventStorage,
    PostgresEventStorage,
    PostgreSQLEventStorage,
)

__all__ = [
    "AsyncPostgreSQLEventStorage",
    "AsyncPostgresEventStorage",
    "PostgreSQLEventStorage",
    "PostgresEventStorage",
]
