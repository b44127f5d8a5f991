"""How a PostgreSQL server is: what it may lose, what keeps it from cleaning up, who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from omniq.ids import new_token
from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.postgres.schema import Tables, schema_state
from omniq.storage.schemas import SchemaState

if TYPE_CHECKING:
    from asyncpg import Connection, Record

LONG_SECONDS = 300
MANY_DEAD = 50_000
NEARLY_ALL = 0.9
HEAR_SECONDS = 5.0
_SETTINGS = ("autovacuum", "fsync", "full_page_writes", "synchronous_commit", "max_connections")
_FREEZE_SOON = 1_500_000_000
"""Transactions without a freeze; at two billion the server refuses to write."""


class _Facts(NamedTuple):
    """What the server answered."""

    settings: Mapping[str, str]
    is_replica: bool
    is_pooled: bool
    schema: SchemaState
    connections: int
    frozen_age: int
    holders: list[Record]
    tables: list[Record]


async def database_findings(
    name: str,
    names: Tables,
    run: Callable[[Callable[[Connection[Any]], Awaitable[_Facts]]], Awaitable[_Facts]],
) -> list[Finding]:
    """Ask the server how it is; `run` gives a connection."""
    facts = await run(lambda connection: _facts(connection, names))
    return [
        _role(name, facts),
        _schema(name, facts),
        *_durability(name, facts.settings),
        *_vacuum(name, facts),
        *(_holder(name, row) for row in facts.holders),
        _connections(name, facts),
    ]


async def _facts(connection: Connection[Any], names: Tables) -> _Facts:
    rows = await connection.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(_SETTINGS)
    )
    (server,) = await connection.fetch(
        "SELECT pg_backend_pid() AS backend, pg_is_in_recovery() AS is_replica, (SELECT count(*) "
        "FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections, "
        "(SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS age"
    )
    return _Facts(
        settings={row["name"]: row["setting"] for row in rows},
        is_replica=server["is_replica"],
        is_pooled=connection.get_server_pid() != server["backend"],
        schema=await schema_state(connection, names),
        connections=server["connections"],
        frozen_age=server["age"],
        holders=await connection.fetch(_HOLDERS, float(LONG_SECONDS)),
        tables=await connection.fetch(_TABLES, [names.task, names.payload, names.history]),
    )


_HOLDERS = """
    SELECT 'session' AS kind, pid::text AS id, coalesce(application_name, '') AS detail,
        coalesce(state, 'hidden') AS state,
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1 * interval '1 second'
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state LIKE 'idle in trans%')
        AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared transaction', gid, owner, '',
        extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - $1 * interval '1 second'
    UNION ALL
    SELECT 'replication slot', slot_name, '', '', NULL
    FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL
    ORDER BY 5 DESC NULLS LAST LIMIT 5
"""
_TABLES = """
    SELECT c.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead,
        'autovacuum_enabled=false' = ANY(coalesce(c.reloptions, '{}')) AS is_off
    FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.oid = ANY(SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
"""


def _role(name: str, facts: _Facts) -> Finding:
    if facts.is_replica:
        return broken(
            name, "is a read-only replica", "name the primary (target_session_attrs=read-write)"
        )
    pooled = ", through a pooler" if facts.is_pooled else ""
    return fine(name, f"primary{pooled}")


def _schema(name: str, facts: _Facts) -> Finding:
    state = facts.schema
    if state.standing == "current":
        return fine(name, f"schema version {state.known}, as this OmniQ knows it")
    return broken(
        name,
        f"schema version {state.found}, this OmniQ knows {state.known}",
        "upgrade OmniQ" if state.standing == "newer" else "run `omniq migrate-schema`",
    )


def _durability(name: str, settings: Mapping[str, str]) -> list[Finding]:
    found: list[Finding] = []
    for key, loss, bad in (
        ("fsync", "a power cut may corrupt the database", ("off",)),
        ("full_page_writes", "a power cut may corrupt the database", ("off",)),
        ("synchronous_commit", "a crash loses what was acknowledged just before", ("off",)),
    ):
        if settings.get(key) in bad:
            hint = f"ALTER SYSTEM SET {key} = on; SELECT pg_reload_conf()"
            found.append(risk(name, f"{key} is off: {loss}", hint))
    return found or [fine(name, "each commit is synced to the disk")]


def _vacuum(name: str, facts: _Facts) -> list[Finding]:
    found: list[Finding] = []
    if facts.settings.get("autovacuum") == "off":
        found.append(
            risk(
                name,
                "autovacuum is off: dead rows pile up and claims get slower and slower",
                "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
            )
        )
    for row in facts.tables:
        table, live, dead = row["name"], row["live"], row["dead"]
        if row["is_off"]:
            text = f"autovacuum is turned off for {table}"
            found.append(risk(name, text, f"ALTER TABLE {table} RESET (autovacuum_enabled)"))
        if dead > MANY_DEAD and dead > live:
            text = f"{table} has {dead:,} dead rows beside {live:,} live ones: claims get slower"
            hint = f"end what is said to hold old rows; VACUUM {table}"
            found.append(risk(name, text, hint))
    if facts.frozen_age > _FREEZE_SOON:
        text = f"{facts.frozen_age:,} transactions without a freeze; at two billion it stops"
        found.append(risk(name, text, "VACUUM FREEZE, and end old transactions"))
    return found or [fine(name, "autovacuum runs, few dead rows")]


def _holder(name: str, row: Record) -> Finding:
    """Report what keeps old rows from being cleaned up, which slows claims down."""
    kind, ident, seconds = row["kind"], row["id"], row["seconds"]
    text = f"{kind} {ident}"
    if row["detail"]:
        text = f"{text} ({row['detail']})"
    if seconds is None:
        text = f"{text} is not in use and keeps old rows from being cleaned up"
        return risk(name, text, f"SELECT pg_drop_replication_slot('{ident}')")
    state = f", {row['state']}" if row["state"] else ""
    text = (
        f"{text} has a transaction open for {seconds:,.0f} s{state}: dead rows cannot be cleaned up"
    )
    if kind == "session":
        hint = (
            f"end it: SELECT pg_terminate_backend({ident}); see idle_in_transaction_session_timeout"
        )
        return risk(name, text, hint)
    return risk(name, text, f"COMMIT PREPARED '{ident}', or ROLLBACK PREPARED '{ident}'")


def _connections(name: str, facts: _Facts) -> Finding:
    most = int(facts.settings.get("max_connections", 0))
    text = f"{facts.connections:,} of {most:,} connections in use"
    if not most or facts.connections < NEARLY_ALL * most:
        return fine(name, text)
    return risk(
        name,
        text,
        "raise max_connections, lower pool_size, or put PgBouncer with direct_dsn before",
    )


async def hearing_findings(
    name: str,
    connect: Callable[[], Awaitable[Connection[Any]]],
    notify: Callable[[str], Awaitable[object]],
    *,
    is_direct: bool,
) -> Finding:
    """Say whether a notification sent the usual way is heard where OmniQ listens.

    Args:
        name: how to call the server.
        connect: makes a connection as the one that listens.
        notify: sends an empty notification on a channel, as any commit would.
        is_direct: whether a way past a pooler was given.
    """
    channel = f"omniq_doctor_{new_token()}"
    heard = asyncio.Event()

    def hear(*_: object) -> None:
        heard.set()

    connection = await connect()
    try:
        is_pooled = connection.get_server_pid() != await connection.fetchval(
            "SELECT pg_backend_pid()"
        )
        await connection.add_listener(channel, hear)
        await notify(channel)
        async with asyncio.timeout(HEAR_SECONDS):
            await heard.wait()
    except TimeoutError:
        return _unheard(name, is_direct=is_direct)
    finally:
        connection.terminate()
    if is_pooled and not is_direct:
        return _through_pooler(name)
    return fine(name, "wake-ups by LISTEN arrive")


def _unheard(name: str, *, is_direct: bool) -> Finding:
    hint = "see that direct_dsn leads to the same server as the DSN"
    if not is_direct:
        hint = "give direct_dsn, a way to the server past the pooler; or listen=False to poll"
    return risk(name, "wake-ups by LISTEN do not arrive: tasks start up to 5 s late", hint)


def _through_pooler(name: str) -> Finding:
    return risk(
        name,
        "LISTEN goes through a pooler, which loses wake-ups and the locks that tell who lives",
        "give direct_dsn, a way to the server past the pooler; or listen=False to poll",
    )
