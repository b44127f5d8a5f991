"""All four components in a PostgreSQL database; each class goes by several names."""

from omniq.storage.postgres.database import Database
from omniq.storage.postgres.queue import (
    AsyncPostgreSQLQueue,
    AsyncPostgresQueue,
    PostgreSQLQueue,
    PostgresQueue,
)
from omniq.storage.postgres.stores import (
    AsyncPostgresEventStorage,
    AsyncPostgreSQLEventStorage,
    AsyncPostgreSQLResultStorage,
    AsyncPostgreSQLScheduleStorage,
    AsyncPostgresResultStorage,
    AsyncPostgresScheduleStorage,
    PostgresEventStorage,
    PostgreSQLEventStorage,
    PostgreSQLResultStorage,
    PostgreSQLScheduleStorage,
    PostgresResultStorage,
    PostgresScheduleStorage,
)
from omniq.storage.postgres.target import PostgresOptions

__all__ = [
    "AsyncPostgreSQLEventStorage",
    "AsyncPostgreSQLQueue",
    "AsyncPostgreSQLResultStorage",
    "AsyncPostgreSQLScheduleStorage",
    "AsyncPostgresEventStorage",
    "AsyncPostgresQueue",
    "AsyncPostgresResultStorage",
    "AsyncPostgresScheduleStorage",
    "Database",
    "PostgreSQLEventStorage",
    "PostgreSQLQueue",
    "PostgreSQLResultStorage",
    "PostgreSQLScheduleStorage",
    "PostgresEventStorage",
    "PostgresOptions",
    "PostgresQueue",
    "PostgresResultStorage",
    "PostgresScheduleStorage",
]
