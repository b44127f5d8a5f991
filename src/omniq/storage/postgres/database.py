"""One PostgreSQL database: a handle the components share, and the only way to the driver."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Unpack

from omniq.blocking import run_soon
from omniq.clock import as_utc
from omniq.exceptions import ConfigError, OmniQError, StorageUnavailableError
from omniq.ids import new_token
from omniq.models.finding import Finding, fine, risk
from omniq.storage.labels import store_label
from omniq.storage.postgres.client import PLANS, Client, keep_alive, transaction
from omniq.storage.postgres.doctor import database_findings, hearing_findings
from omniq.storage.postgres.errors import (
    AnswerLostError,
    is_aborted,
    is_drivers,
    load_driver,
    translated,
)
from omniq.storage.postgres.listener import Listener
from omniq.storage.postgres.notify import Channels, Notifier
from omniq.storage.postgres.schema import (
    ensure_schema,
    lock_key,
    migration_sql,
    schema_state,
    tables,
)
from omniq.storage.postgres.target import PostgresOptions, Target, resolved, target
from omniq.storage.postgres.wake import Waiters, Wakes, digest
from omniq.storage.schemas import Progress, SchemaState

if TYPE_CHECKING:
    from asyncpg import Connection, Record

R = TypeVar("R")
logger = logging.getLogger(__name__)

POOL_SIZE = 5
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
LONG_COMMAND_SECONDS = 300.0
"""For what grows with the number of tasks kept: counting, migrating."""
MIGRATION_SECONDS = 86_400.0
"""For `omniq migrate-schema`: an index of a large table takes what it takes."""
ATTEMPTS = 8
CLOSE_SECONDS = 5.0
IDENTITY = """
    SELECT format('%s %s', oid, to_char(
        pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'
    )) FROM pg_catalog.pg_database WHERE datname = current_database()
"""
"""Tells a database from every other, also from a copy of it on another server."""


class RunAgain(Exception):  # noqa: N818 - not an error: it never leaves `Database`
    """What a transaction raises to be rolled back and run once more."""


class _Loop(NamedTuple):
    """What belongs to one event loop."""

    client: Client
    listener: Listener
    notifier: Notifier


class Database:
    """A shared handle on one database. Any thread and event loop may use it; makes no I/O itself.

    Args:
        dsn: ``postgresql://user:password@host:5432/database``; what the URL leaves out is taken
            from the ``PG*`` environment variables, as with every PostgreSQL program.
        options: see `PostgresOptions`; each may also be part of the URL's query.
    """

    def __init__(self, dsn: str | None = None, **options: Unpack[PostgresOptions]) -> None:
        bare, given = resolved(dsn, options)
        given_ssl = given.pop("ssl", None)
        self._target = target(bare, given_ssl)
        direct = given.pop("direct_dsn", None)
        self._direct = self._target if direct is None else target(direct, given_ssl)
        self.tables = tables(given.pop("schema", "public"), given.pop("namespace", "omniq"))
        self._pool_size: int = given.pop("pool_size", POOL_SIZE)
        self._cache_size: int | None = given.pop("statement_cache_size", None)
        self.listens: bool = given.pop("listen", True)
        self._migrate: bool = given.pop("migrate", True)
        self._connect_seconds: float = given.pop("connect_timeout", CONNECT_SECONDS)
        self._command_seconds: float = given.pop("command_timeout", COMMAND_SECONDS)
        _refuse_rest(given, self._pool_size)
        self._channels = Channels.of(self.tables)
        self._guard = threading.Lock()
        self._forget()

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @property
    def shown(self) -> str:
        """The DSN without password."""
        return self._target.shown

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._token = new_token()[:12]
        self._owners: set[int] = set()
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._is_checked = False
        self.identity = ""
        self.waiters = Waiters()

    async def open(self, owner: object) -> None:
        """Check server and schema (once), and count `owner` among the users. Idempotent."""
        self._leave_parent()
        if not self._is_checked:
            ensure = functools.partial(ensure_schema, names=self.tables, migrate=self._migrate)
            try:
                await self.run(ensure, seconds=LONG_COMMAND_SECONDS)
                await self.identify()
            except OmniQError:
                await self.close(owner)  # nothing is left half open
                raise
            self._is_checked = True
        self._owners.add(id(owner))

    async def close(self, owner: object) -> None:
        """Count `owner` out; the last one closes all connections, those of other loops too."""
        self._owners.discard(id(owner))
        if self._owners or self._pid != os.getpid():
            return
        with self._guard:
            loops, self._loops = self._loops, {}
        self._is_checked = False
        here = asyncio.get_running_loop()
        for loop, parts in loops.items():
            if loop is here:
                await _close(parts)
            elif loop.is_running():
                await _close_elsewhere(loop, parts)
            else:
                parts.client.abandon()

    async def identify(self) -> str:
        """Ask the server which database this is, see `IDENTITY`; it changes when that restarts."""
        self.identity = str((await self.read(IDENTITY))[0][0])
        return self.identity

    async def fetch(self, query: str, *values: Any, seconds: float | None = None) -> list[Record]:
        """Run one statement as a transaction of its own; return its rows."""
        return await self.run(lambda connection: connection.fetch(query, *values), seconds=seconds)

    async def read(self, query: str, *values: Any, seconds: float | None = None) -> list[Record]:
        """Run a statement that only reads; once more when its connection broke."""
        try:
            return await self.fetch(query, *values, seconds=seconds)
        except AnswerLostError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
        return await self.fetch(query, *values, seconds=seconds)

    async def transaction(
        self, work: Callable[[Connection[Any]], Awaitable[R]], *, seconds: float | None = None
    ) -> R:
        """Run `work` in a transaction; again from the start when the server aborted it."""

        async def whole(connection: Connection[Any]) -> R:
            async with transaction(connection):
                return await work(connection)

        return await self.run(whole, seconds=seconds)

    async def run(
        self, work: Callable[[Connection[Any]], Awaitable[R]], *, seconds: float | None = None
    ) -> R:
        """Run `work` with a connection; again when the server aborted it (a deadlock).

        The only place through which the driver is called, and its errors are turned into ours.

        Raises:
            StorageUnavailableError: no connection, or no answer in time.
            StorageError: the server refused.
        """
        return await self._run(self._here().client, work, seconds or self._command_seconds)

    async def _run(
        self, client: Client, work: Callable[[Connection[Any]], Awaitable[R]], seconds: float
    ) -> R:
        for attempt in range(ATTEMPTS):
            try:
                return await client.use(work, seconds, probe=seconds > self._command_seconds)
            except RunAgain:
                pass
            except Exception as error:
                if not is_drivers(error):
                    raise
                if not is_aborted(error) or attempt == ATTEMPTS - 1:
                    raise translated(error, self.shown) from error
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 - spreads load
        raise StorageUnavailableError(
            f"{self.shown}: others kept changing the same tasks; try again"
        )

    def announce(self, ready: Mapping[str, bool], final_ids: Iterable[str] = ()) -> None:
        """Wake who waits for these queues and tasks, here at once and elsewhere soon.

        Call it after the commit. The value of a queue says whether it seemed empty before.
        """
        digests = [digest(task_id) for task_id in final_ids]
        if ready:
            self.waiters.wake("ready", ready)
        if digests:
            self.waiters.wake("final", digests)
        if self.listens and (ready or digests):
            self._here().notifier.announce(ready, digests)

    def announce_late(self, wakes: Wakes) -> None:
        """Announce from any thread, with a loop or without; nothing once the last user closed."""
        if not self._owners or self._pid != os.getpid():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            run_soon(functools.partial(self._announce, wakes))
        else:
            self.announce(wakes.ready, wakes.final)

    async def _announce(self, wakes: Wakes) -> None:
        if self._owners:  # still
            self.announce(wakes.ready, wakes.final)

    def listener(self) -> Listener | None:
        """Return the listener of this loop, started; None where listening is turned off."""
        if not self.listens:
            return None
        listener = self._here().listener
        listener.start()
        return listener

    def heard(self) -> int | None:
        """Return a number that is the same as long as nobody announced anything to do.

        None where nothing listens in this loop at the moment: something may be missed.
        """
        parts = self._loops.get(asyncio.get_running_loop())
        return self.waiters.heard if parts is not None and parts.listener.hears else None

    def all_listeners(self) -> list[Listener]:
        """Return the listeners of all loops."""
        with self._guard:
            return [parts.listener for parts in self._loops.values()]

    @property
    def name(self) -> str:
        """How findings call it."""
        return store_label("postgres", self.shown, self.tables.prefix, self.tables.schema)

    async def findings(self) -> list[Finding]:
        """Ask the server how it is, and listen to it for a moment."""
        patiently = functools.partial(self.run, seconds=2 * self._command_seconds)
        found = await database_findings(self.name, self.tables, patiently)
        if not self.listens:
            text = "listen is False: waiting is polling, and dead workers go unnoticed for a lease"
            return [*found, fine(self.name, text)]
        return [*found, await self._hearing()]

    async def _hearing(self) -> Finding:
        try:
            return await hearing_findings(
                self.name,
                functools.partial(self._connection, self._direct),
                lambda channel: self.fetch("SELECT pg_notify($1, '')", channel),
                is_direct=self._direct is not self._target,
            )
        except Exception as error:
            if not is_drivers(error):
                raise
            text = f"nobody can listen here: {translated(error, self._direct.shown)}"
            return risk(self.name, text, "give a direct_dsn that works, or listen=False to poll")

    async def time(self) -> datetime:
        """Return what the server's clock says."""
        ((moment,),) = await self.read("SELECT clock_timestamp()")
        return as_utc(moment)

    @property
    def tables_shown(self) -> str:
        """The database, and whose tables in it."""
        return f"{self.shown} ({self.tables.schema}.{self.tables.prefix})"

    async def schema_state(self) -> SchemaState:
        """Look how the tables stand; nothing is made or changed."""
        return await self.run(lambda connection: schema_state(connection, self.tables))

    async def migration_script(self) -> str:
        """Return all statements still to be run, as a script for psql."""
        sql = migration_sql(self.tables, (await self.schema_state()).found)
        key = lock_key(self.tables, "migrate")
        lock = f"SELECT pg_advisory_xact_lock({key});"
        return f"BEGIN;\n{lock}\n{sql}COMMIT;\n" if sql else ""

    async def migrate(self, progress: Progress | None = None) -> SchemaState:
        """Bring the tables to this version, whatever `migrate` says; return how they stood."""
        return await self.run(
            lambda connection: ensure_schema(
                connection, self.tables, migrate=True, progress=progress
            ),
            seconds=MIGRATION_SECONDS,
        )

    def _here(self) -> _Loop:
        """Return the parts of the running loop, made if needed; drop those of loops that ended."""
        self._leave_parent()
        loop = asyncio.get_running_loop()
        parts = self._loops.get(loop)
        if parts is None:
            with self._guard:
                for ended in [one for one in self._loops if one.is_closed()]:
                    self._loops.pop(ended).client.abandon()
                parts = self._loops[loop] = self._make_parts()
        return parts

    def _make_parts(self) -> _Loop:
        client = Client(lambda: self._connection(self._target), self._pool_size)
        listener = Listener(
            functools.partial(self._connection, self._direct),
            self.tables,
            self._channels,
            self.waiters,
            self._token,
        )
        send = functools.partial(self._send, client)
        return _Loop(client, listener, Notifier(self._channels, self._token, send))

    async def _connection(self, where: Target) -> Connection[Any]:
        options: dict[str, Any] = {"dsn": where.dsn, "timeout": self._connect_seconds}
        if where.ssl is not None:
            options["ssl"] = where.ssl
        if self._cache_size is not None:
            options["statement_cache_size"] = self._cache_size
        if self._cache_size != 0:  # a pooler would refuse settings it does not know
            options["server_settings"] = PLANS
        connection: Connection[Any] = await load_driver().connect(**options)
        keep_alive(connection)
        return connection

    async def _send(self, client: Client, messages: list[tuple[str, str]]) -> None:
        query = (
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify(m.channel, m.message) "
            "FROM unnest($1::text[], $2::text[]) AS m(channel, message)"
        )
        columns = [list(column) for column in zip(*messages, strict=True)]
        await self._run(
            client, lambda connection: connection.fetch(query, *columns), self._command_seconds
        )

    def _leave_parent(self) -> None:
        """In a forked child, forget the parent's connections without closing them."""
        if self._pid != os.getpid():
            _inherited.append((self._loops, self.waiters))
            self._guard = threading.Lock()
            self._forget()


_inherited: list[Any] = []
"""Connections of the parent process, kept so that a forked child never closes them."""


def _refuse_rest(given: dict[str, Any], pool_size: int) -> None:
    if given:
        raise ConfigError(f"PostgreSQL has no option {', '.join(sorted(given))}")
    if pool_size < 1:
        raise ConfigError(f"pool_size {pool_size} is not at least 1")


async def _close(parts: _Loop) -> None:
    await parts.notifier.close()
    await parts.listener.stop()
    await parts.client.close()


async def _close_elsewhere(loop: asyncio.AbstractEventLoop, parts: _Loop) -> None:
    """Close what belongs to a loop of another thread, in that loop."""
    future = asyncio.run_coroutine_threadsafe(_close(parts), loop)
    done = asyncio.wrap_future(future)
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await done
    except TimeoutError:
        logger.warning("the connections of another event loop could not be closed in time")
