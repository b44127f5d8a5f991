"""One SQLite file: a writer thread with group commit, a reader thread, wake-ups after commit.

A job is a function of the connection. The writer thread takes all jobs that wait and runs them in
one transaction, so N calls cost one fsync; each caller gets its own result or error. The reader
has its own connection and never waits for an fsync. Nothing crosses a fork: a child opens anew.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from omniq.exceptions import ConfigError, StorageUnavailableError
from omniq.models.finding import Finding
from omniq.storage.labels import store_label
from omniq.storage.local.filesystem import companion_folder, refuse_network_disk
from omniq.storage.local.forks import fork_gate
from omniq.storage.local.wake import WakeHub
from omniq.storage.local.writelock import WriteLock
from omniq.storage.schemas import Progress, SchemaState, refuse_unfit
from omniq.storage.sqlite import schema
from omniq.storage.sqlite.doctor import database_findings
from omniq.storage.sqlite.errors import is_other_file, not_a_database, translated, translating
from omniq.storage.sqlite.probe import DataVersion
from omniq.storage.sqlite.schema import migrate_schema, migration_sql, schema_version, tables
from omniq.storage.sqlite.threads import BUSY_SECONDS, Job, Reader, Transaction, Writer

R = TypeVar("R")
Durability = Literal["full", "fast"]

ANSWER_SECONDS = 60.0
WRITING_CACHE_KIB = 4 << 10
READING_CACHE_KIB = 1 << 10


class Database:
    """A shared handle on one file, open as long as one of its users is.

    Args:
        path: the file; made if missing, its folder must exist.
        durability: ``full`` syncs each commit to disk (nothing acknowledged is ever lost);
            ``fast`` leaves that to checkpoints: a power cut may lose the last moments, a crash of
            the program loses nothing. The file stays intact either way.
        namespace: prefix of the tables.
        migrate: False neither makes the file nor its tables, and refuses older ones.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "full",
        namespace: str = "omniq",
        migrate: bool = True,
    ) -> None:
        if durability not in ("full", "fast"):
            raise ConfigError(f"durability {durability!r} is not 'full' or 'fast'")
        if not str(path) or str(path) == ":memory:":
            raise ConfigError("sqlite needs a file; for a queue in memory use memory://")
        # Symbolic links are followed as SQLite does, so that all find the same WAL and locks.
        self.path = Path(path).expanduser().resolve()
        self.namespace = namespace
        self.tables = tables(namespace)
        self.durability = durability
        self._may_migrate = migrate
        self._guard = threading.Lock()
        self._looking = fork_gate()
        self._forget()

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._users: set[object] = set()
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._hub: WakeHub | None = None

    @property
    def name(self) -> str:
        """How findings call it."""
        return store_label("sqlite", self.path, self.namespace)

    @property
    def hub(self) -> WakeHub:
        """Those who wait in this process; opens what is not open, or not since a fork."""
        self._leave_parent()
        while (hub := self._hub) is None:
            self._open(None)
        return hub

    @property
    def tables_shown(self) -> str:
        """The file, and whose tables in it."""
        return f"{self.path} ({self.namespace})"

    async def schema_state(self) -> SchemaState:
        """Look how the tables stand; nothing is made or changed."""
        with translating(self.path):
            return await asyncio.to_thread(self._look_at_schema)

    async def migration_script(self) -> str:
        """Return all statements still to be run, as a script for the shell of SQLite."""
        sql = migration_sql(self.tables, (await self.schema_state()).found)
        return f"PRAGMA journal_mode = WAL;\nBEGIN IMMEDIATE;\n{sql}COMMIT;\n" if sql else ""

    async def migrate(self, progress: Progress | None = None) -> SchemaState:
        """Bring the tables to this version, all or nothing; return how they stood.

        Raises:
            SchemaError: they are of a newer version, or another program's.
        """
        with translating(self.path):
            return await asyncio.to_thread(self._migrate_now, progress)

    async def open(self, user: object) -> None:
        """Open for this user. Idempotent."""
        await asyncio.to_thread(self._open, user)

    async def close(self, user: object) -> None:
        """Forget this user; after the last one, finish all jobs and close. Idempotent."""
        await asyncio.to_thread(self._close, user)

    async def findings(self) -> list[Finding]:
        """Look at the file and its disk."""

        def look() -> list[Finding]:
            try:
                with self._looking:
                    return database_findings(self.name, self.path, self.durability, self._connect)
            except (sqlite3.Error, OSError) as error:
                raise translated(error, str(self.path)) from error

        return await asyncio.to_thread(look)

    def announce(self, transaction: Transaction) -> None:
        """Wake whom a transaction made elsewhere concerns; nobody if this is not open."""
        hub = self._hub
        if hub is not None and self._pid == os.getpid():
            hub.announce(transaction.ready_queues, transaction.final_ids)

    def worker_folder(self) -> Path:
        """Return the folder of the lock files of this namespace's workers, made if needed."""
        folder = companion_folder(self.path) / self.namespace
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    async def write(
        self,
        run: Callable[[Transaction], R],
        *,
        worth: Callable[[sqlite3.Connection], bool] | None = None,
        idle: R | None = None,
    ) -> R:
        """Run a job in a write transaction (shared with others); return what it returned.

        It may run twice when another job of the same transaction failed, so it must have no effect
        but on the database. With `worth`, a cheap look decides first whether to write at all; if
        not, `idle` is returned.
        """
        result: R = await self._ask(run, worth, idle, reads=False)
        return result

    async def read(self, run: Callable[[sqlite3.Connection], R]) -> R:
        """Run a job that only reads; return what it returned."""
        result: R = await self._ask(run, None, None, reads=True)
        return result

    async def _ask(self, run: Any, worth: Any, idle: Any, *, reads: bool) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._put(Job(run, worth, idle, loop, future), reads=reads)
        handle = loop.call_later(ANSWER_SECONDS, _give_up, future, str(self.path))
        try:
            return await future
        finally:
            handle.cancel()

    def _put(self, job: Job, *, reads: bool) -> None:
        """Hand a job to its thread, under the guard: never behind the order to end."""
        self._leave_parent()
        while True:
            with self._guard:
                thread = self._reader if reads else self._writer
                if thread is not None:
                    thread.inbox.put(job)
                    return
            self._open(None)

    def _leave_parent(self) -> None:
        """In a forked child: leave all that is open to the parent, and start anew."""
        if self._pid != os.getpid():
            _inherited.append((self._writer, self._reader, self._hub))
            self._guard = threading.Lock()
            self._forget()

    def _open(self, user: object) -> None:
        """Open for this user; None stands for calls made while nobody has it open."""
        self._leave_parent()
        with self._guard:
            if self._writer is None:
                try:
                    self._start()
                except (sqlite3.Error, OSError) as error:
                    raise translated(error, str(self.path)) from error
            self._users.add(user)

    def _start(self) -> None:
        refuse_network_disk(self.path)
        if self.path.exists() and not os.access(self.path, os.W_OK):
            # SQLite would open it all the same, and make a WAL that can never be written to.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._refuse_other_file()
        if not self._may_migrate:
            refuse_unfit(self._look_at_schema(), self.tables_shown, migrate=False)
        folder = companion_folder(self.path)
        with fork_gate(), ExitStack() as undo:
            lock = WriteLock(folder / "write.lock")
            undo.callback(lock.close)
            connection = self._connect(WRITING_CACHE_KIB)
            undo.callback(connection.close)
            if not self._is_laid_out(connection):
                self._lay_out(connection, lock)
            reading = self._connect()
            undo.callback(reading.close)
            reading.execute("PRAGMA query_only = ON")
            undo.pop_all()
        self._hub = WakeHub(folder, lambda: DataVersion(self._connect))
        self._writer = Writer(self.path, connection, lock, self._hub, self._connect)
        self._reader = Reader(self.path, reading)

    def _refuse_other_file(self) -> None:
        """Refuse what is no database, before anything is made beside it.

        SQLite is asked: to read the file here would give up, on closing it, all locks that other
        connections of this process have on it.
        """
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise not_a_database()
        with fork_gate():
            try:
                with self._read_only(0) as connection:
                    connection.execute("PRAGMA schema_version").fetchone()
            except sqlite3.Error as error:
                if is_other_file(error):
                    raise

    def _is_laid_out(self, connection: sqlite3.Connection) -> bool:
        """Look, without a lock: a caller's transaction may hold SQLite's own at this moment."""
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        return mode == "wal" and schema_version(connection, self.tables) == len(schema.MIGRATIONS)

    def _lay_out(
        self, connection: sqlite3.Connection, lock: WriteLock, progress: Progress | None = None
    ) -> SchemaState:
        with lock:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            state = migrate_schema(connection, self.tables, self.tables_shown, progress)
            connection.execute("COMMIT")
        return state

    def _read_only(self, busy_seconds: float) -> closing[sqlite3.Connection]:
        place = f"file:{quote(str(self.path))}?mode=ro"
        return closing(sqlite3.connect(place, uri=True, timeout=busy_seconds))

    def _look_at_schema(self) -> SchemaState:
        found = 0
        if self.path.exists():
            with self._read_only(BUSY_SECONDS) as connection:
                found = schema_version(connection, self.tables)
        return SchemaState(found, len(schema.MIGRATIONS))

    def _migrate_now(self, progress: Progress | None) -> SchemaState:
        refuse_network_disk(self.path)
        with fork_gate(), ExitStack() as undo:
            connection = undo.enter_context(closing(self._connect()))
            lock = WriteLock(companion_folder(self.path) / "write.lock")
            undo.callback(lock.close)
            return self._lay_out(connection, lock, progress)

    def _connect(self, cache_kib: int = READING_CACHE_KIB) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        level = "FULL" if self.durability == "full" else "NORMAL"
        for pragma in (
            f"synchronous = {level}",
            f"cache_size = -{cache_kib}",
            "mmap_size = 0",
            "foreign_keys = ON",
            "wal_autocheckpoint = 0",
            "journal_size_limit = 0",  # a WAL begun anew is no longer than what it holds
            "temp_store = MEMORY",
        ):
            try:
                connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                connection.close()
                raise
        return connection

    def _close(self, user: object) -> None:
        if self._pid != os.getpid():
            return
        with self._guard:
            self._users -= {user, None}
            if self._users or self._writer is None or self._reader is None:
                return
            writer, reader, hub = self._writer, self._reader, self._hub
            self._writer = self._reader = self._hub = None
        reader.stop()
        writer.stop()
        if hub is not None:
            hub.close()


_inherited: list[Any] = []
"""Handles of the parent process, kept so that a forked child never closes its parent's files."""


def _give_up(future: asyncio.Future[Any], path: str) -> None:
    if not future.done():
        future.set_exception(
            StorageUnavailableError(
                f"sqlite database {path}: no answer within {ANSWER_SECONDS:g} s; another process "
                "holds the write lock, or the disk hangs. The call may still be carried out."
            )
        )
