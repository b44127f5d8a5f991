"""Tables, indexes, their versions, and bringing a database to this one.

Live tasks lie in a narrow table that stays small and is vacuumed often; what they carry lies in
`payload`, written once and never touched by a claim; finished ones move to `history`. Each index
of the live table is partial and names the status, so that a claim costs the same however many
tasks are delayed, running or finished.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from omniq.exceptions import ConfigError, SchemaError, StorageUnavailableError
from omniq.storage.postgres.client import transaction
from omniq.storage.schemas import Progress, SchemaState, refuse_unfit

if TYPE_CHECKING:
    from asyncpg import Connection

OLDEST_SERVER = 130000
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII).fullmatch
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII).fullmatch

_TASK_COLUMNS = """
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    created_at timestamptz NOT NULL,
    func text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C",
    schedule_id text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    claim_count integer NOT NULL,
    lease_token text COLLATE "C",
    due_at timestamptz,
    lost_leases integer NOT NULL,
    worker_id text COLLATE "C",
    cancel_requested boolean NOT NULL,
    waiting_for integer NOT NULL,
    expires_at timestamptz,
    progress double precision,
    error text,
    started_at timestamptz,
    finished_at timestamptz"""
_BUSY = (
    "fillfactor = 75, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02"
)
_KEPT = "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0"

# What is filled in are checked names.
_VERSION_1 = f"""
CREATE TABLE {{task}} ({_TASK_COLUMNS},
    has_children boolean NOT NULL DEFAULT false
) WITH ({_BUSY});
CREATE INDEX {{prefix}}_task_ready ON {{task}} (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX {{prefix}}_task_due ON {{task}} (queue, due_at) WHERE status = 'scheduled';
CREATE INDEX {{prefix}}_task_leased ON {{task}} (queue, due_at) WHERE status = 'running';
CREATE UNIQUE INDEX {{prefix}}_task_unique ON {{task}} (queue, unique_key)
    WHERE unique_key IS NOT NULL;
CREATE TABLE {{history}} ({_TASK_COLUMNS}
) WITH ({_KEPT});
CREATE INDEX {{prefix}}_history_finished ON {{history}} (finished_at);
CREATE TABLE {{payload}} (id text COLLATE "C" PRIMARY KEY, data bytea NOT NULL) WITH ({_KEPT});
CREATE TABLE {{dependency}} (
    parent_id text COLLATE "C" NOT NULL,
    child_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (parent_id, child_id)
);
CREATE INDEX {{prefix}}_dependency_child ON {{dependency}} (child_id);
CREATE TABLE {{paused}} (queue text COLLATE "C" PRIMARY KEY);
CREATE TABLE {{worker}} (
    worker_id text COLLATE "C" PRIMARY KEY,
    lock_key bigint NOT NULL,
    missing_since timestamptz
);
CREATE TABLE {{result}} (
    task_id text COLLATE "C" PRIMARY KEY,
    claim_count integer NOT NULL,
    expires_at timestamptz,
    data bytea NOT NULL
) WITH ({_KEPT});
CREATE INDEX {{prefix}}_result_expires ON {{result}} (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE {{event}} (
    at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    task_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    worker_id text COLLATE "C",
    message text,
    details json,
    PRIMARY KEY (at, seq)
) WITH ({_KEPT});
CREATE INDEX {{prefix}}_event_task ON {{event}} (task_id, at, seq);
CREATE TABLE {{schedule}} (
    id text COLLATE "C" PRIMARY KEY,
    status text COLLATE "C" NOT NULL,
    next_run_at timestamptz,
    run_count bigint NOT NULL,
    data bytea NOT NULL
);
CREATE INDEX {{prefix}}_schedule_ready ON {{schedule}} (next_run_at) WHERE status = 'active';
CREATE TABLE {{meta}} (key text PRIMARY KEY, value integer NOT NULL);
INSERT INTO {{meta}} VALUES ('schema_version', 1);
"""  # noqa: S608
MIGRATIONS = (_VERSION_1,)
"""Each brings the schema from the version before it (0: nothing) to its own."""


class Tables(NamedTuple):
    """The quoted table names of one namespace, the bare prefix and the name of the whole."""

    task: str
    history: str
    payload: str
    dependency: str
    paused: str
    worker: str
    result: str
    event: str
    schedule: str
    meta: str
    prefix: str
    schema: str


def tables(schema: str, namespace: str) -> Tables:
    """Return the table names of a namespace in a schema.

    Raises:
        ConfigError: one of the two is no plain lower-case name.
    """
    if not _NAMESPACE(namespace):
        raise ConfigError(
            f"namespace {namespace!r}: use 1 to 40 of a-z 0-9 _ starting with a letter"
        )
    if not _SCHEMA(schema):
        raise ConfigError(f"schema {schema!r}: use 1 to 63 of a-z 0-9 _ starting with a letter")
    names = [f'"{schema}"."{namespace}_{name}"' for name in Tables._fields[:-2]]
    return Tables._make([*names, namespace, schema])


def lock_key(names: Tables, *what: str) -> int:
    """Return the 64-bit key of the advisory lock for something of this namespace."""
    text = "\0".join(("omniq", names.schema, names.prefix, *what))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def migration_sql(names: Tables, since: int = 0, *, make_schema: bool = True) -> str:
    """Return the statements that bring a schema of version `since` to this one; run them as one."""
    scripts = _scripts(names, since, make_schema=make_schema)
    return "".join(scripts) + _raised(names) if scripts else ""


async def ensure_schema(
    connection: Connection[Any],
    names: Tables,
    *,
    migrate: bool,
    progress: Progress | None = None,
) -> SchemaState:
    """Check server and schema; lay the tables out, or bring them to this version, when allowed.

    Any number of processes may do so at once. Returns how the tables stood.

    Raises:
        SchemaError: the tables are of a newer version, or older and `migrate` is False.
        StorageUnavailableError: the server only reads.
    """
    await _check_server(connection)
    state = await schema_state(connection, names)
    refuse_unfit(state, f"{names.schema}.{names.prefix}", migrate=migrate)
    if state.standing == "current":
        return state
    async with transaction(connection):
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1::bigint)", lock_key(names, "migrate")
        )
        state = await schema_state(connection, names)
        if state.found < state.known:
            await _migrate(connection, names, state, progress)
    return state


async def _migrate(
    connection: Connection[Any], names: Tables, state: SchemaState, progress: Progress | None
) -> None:
    query = "SELECT count(*) = 0 FROM pg_catalog.pg_namespace WHERE nspname = $1"
    missing = await connection.fetchval(query, names.schema)
    scripts = _scripts(names, state.found, make_schema=missing)
    for version, script in enumerate(scripts, state.found + 1):
        if progress is not None:
            progress(version, state.known)
        await connection.execute(script)
    await connection.execute(_raised(names))


def _scripts(names: Tables, since: int, *, make_schema: bool) -> list[str]:
    words = names._asdict()
    scripts = [script.format(**words) for script in MIGRATIONS[since:]]
    if scripts and make_schema:
        scripts[0] = f'CREATE SCHEMA IF NOT EXISTS "{names.schema}";\n{scripts[0]}'
    return scripts


def _raised(names: Tables) -> str:
    version = len(MIGRATIONS)
    return f"UPDATE {names.meta} SET value = {version} WHERE key = 'schema_version';\n"  # noqa: S608


async def schema_state(connection: Connection[Any], names: Tables) -> SchemaState:
    """Return how the tables stand."""
    return SchemaState(await schema_version(connection, names), len(MIGRATIONS))


async def schema_version(connection: Connection[Any], names: Tables) -> int:
    """Return the version of the tables; 0 where there are none.

    The catalogue is read as a table: `to_regclass` may answer from a cache, and miss what another
    session has made while this one waited for its lock.
    """
    look = (
        "SELECT count(*) FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = $2"
    )
    if not await connection.fetchval(look, names.schema, f"{names.prefix}_meta"):
        return 0
    query = f"SELECT value FROM {names.meta} WHERE key = 'schema_version'"  # noqa: S608 - checked names
    return int(await connection.fetchval(query))


async def _check_server(connection: Connection[Any]) -> None:
    server = connection.get_server_version()
    number = server.major * 10_000
    if number < OLDEST_SERVER:
        raise SchemaError(f"PostgreSQL {server.major} is too old; OmniQ needs 13 or later")
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise StorageUnavailableError(
            "the server is a read-only replica; connect to the primary, or give several hosts "
            "and ?target_session_attrs=read-write"
        )
