"""The specified home of `PostgreSQLResultStorage`."""

from omniq.storage.postgres import (
    AsyncPostgreSQLResultStorage,
    AsyncPostgresResultStorage,
    PostgreSQLResultStorage,
    PostgresResultStorage,
)

__all__ = [
    "AsyncPostgreSQLResultStorage",
    "AsyncPostgresResultStorage",
    "PostgreSQLResultStorage",
    "PostgresResultStorage",
]
