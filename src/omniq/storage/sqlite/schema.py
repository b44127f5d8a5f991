"""Tables, indexes and their versions.

The state of a task lives in a narrow row; its payload, never rewritten, in a table of its own.
Every index but that of the ids is partial and names the status as a literal, so that the cost of a
claim depends on the number of tasks that are ready, not on those delayed or finished. A task is
final exactly when it has a `finished_at`: tested instead of ``status IN (...)``, for which SQLite
would build a small table at every write.
"""

from __future__ import annotations

import re
import sqlite3
from typing import NamedTuple

from omniq.exceptions import ConfigError, SchemaError
from omniq.storage.schemas import Progress, SchemaState, refuse_unfit

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII).fullmatch

_VERSION_1 = """
CREATE TABLE {task} (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    func TEXT NOT NULL,
    unique_key TEXT,
    schedule_id TEXT,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    claim_count INTEGER NOT NULL,
    lease_token TEXT,
    due_at INTEGER,
    lost_leases INTEGER NOT NULL,
    worker_id TEXT,
    cancel_requested INTEGER NOT NULL,
    waiting_for INTEGER NOT NULL,
    progress REAL,
    error TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    expires_at INTEGER
) STRICT;
CREATE TABLE {payload} (seq INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE INDEX {task}_ready ON {task} (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX {task}_due ON {task} (queue, due_at) WHERE status = 'scheduled';
CREATE INDEX {task}_leased ON {task} (queue, due_at) WHERE status = 'running';
CREATE INDEX {task}_finished ON {task} (finished_at)
    WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX {task}_unique ON {task} (queue, unique_key)
    WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE TABLE {dependency} (
    parent_id TEXT NOT NULL,
    child_id TEXT NOT NULL,
    PRIMARY KEY (parent_id, child_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX {dependency}_child ON {dependency} (child_id);
CREATE TABLE {paused} (queue TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE {result} (
    seq INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    claim_count INTEGER NOT NULL,
    expires_at INTEGER,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX {result}_expires ON {result} (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE {event} (
    seq INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    at INTEGER NOT NULL,
    worker_id TEXT,
    message TEXT,
    details TEXT
) STRICT;
CREATE INDEX {event}_task ON {event} (task_id);
CREATE INDEX {event}_at ON {event} (at);
CREATE TABLE {schedule} (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    next_run_at INTEGER,
    run_count INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX {schedule}_ready ON {schedule} (next_run_at) WHERE status = 'active';
CREATE TABLE {meta} (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO {meta} VALUES ('schema_version', 1);
"""
MIGRATIONS = (_VERSION_1,)
"""Each brings the schema from the version before it (0: nothing) to its own."""


class Tables(NamedTuple):
    """The table names of one namespace."""

    task: str
    payload: str
    dependency: str
    paused: str
    result: str
    event: str
    schedule: str
    meta: str


def tables(namespace: str) -> Tables:
    """Return the table names of a namespace.

    Raises:
        ConfigError: the namespace is not 1 to 40 of a-z 0-9 _ starting with a letter.
    """
    if not _NAMESPACE(namespace):
        raise ConfigError(
            f"namespace {namespace!r}: use 1 to 40 of a-z 0-9 _ starting with a letter"
        )
    return Tables(*(f"{namespace}_{name}" for name in Tables._fields))


def migration_sql(names: Tables, since: int = 0) -> str:
    """Return the statements that bring a schema of version `since` to this one, for one run."""
    parts = [script.format(**names._asdict()).lstrip() for script in MIGRATIONS[since:]]
    if not parts:
        return ""
    version = len(MIGRATIONS)
    raised = f"UPDATE {names.meta} SET value = {version} WHERE key = 'schema_version';\n"  # noqa: S608 - checked name
    return "".join(parts) + raised


def schema_version(connection: sqlite3.Connection, names: Tables) -> int:
    """Return the version of the tables; 0 where there are none.

    Raises:
        SchemaError: they are another program's.
    """
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (names.meta,)
    ).fetchone()
    if found is None:
        return 0
    query = f"SELECT value FROM {names.meta} WHERE key = 'schema_version'"  # noqa: S608 - checked name
    row = connection.execute(query).fetchone()
    if row is None:
        raise SchemaError(f"the table {names.meta} is another program's; choose another namespace")
    return int(row[0])


def migrate_schema(
    connection: sqlite3.Connection, names: Tables, shown: str, progress: Progress | None = None
) -> SchemaState:
    """Bring the tables to this version; return how they stood. Call inside a write transaction.

    Raises:
        SchemaError: they were laid out by a newer version, or by another program.
    """
    state = SchemaState(schema_version(connection, names), len(MIGRATIONS))
    refuse_unfit(state, shown, migrate=True)
    for version in range(state.found, state.known):
        if progress is not None:
            progress(version + 1, state.known)
        for statement in statements(MIGRATIONS[version].format(**names._asdict())):
            connection.execute(statement)
    raised = f"UPDATE {names.meta} SET value = ? WHERE key = 'schema_version'"  # noqa: S608 - checked name
    connection.execute(raised, (state.known,))
    return state


def statements(script: str) -> list[str]:
    """Part a script of ours into its statements; each ends a line."""
    return [part for part in script.split(";\n") if part.strip()]
