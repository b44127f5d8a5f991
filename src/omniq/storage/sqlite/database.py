"""One SQLite file: a writer thread with group commit, a reader thread, wake-ups after commit.

A job is a function of the connection. The writer thread takes all jobs that wait and runs them in
one transaction, so N calls cost one fsync; each caller gets its own result or error. The reader
has its own connection and never waits for an fsync. Nothing crosses a fork: a child opens anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from omniq.exceptions import ConfigError, StorageUnavailableError
from omniq.storage.local.filesystem import companion_folder, refuse_network_disk
from omniq.storage.local.wake import WakeHub
from omniq.storage.local.writelock import WriteLock
from omniq.storage.sqlite.errors import is_busy, translated
from omniq.storage.sqlite.probe import DataVersion
from omniq.storage.sqlite.schema import ensure_schema, tables

R = TypeVar("R")
Durability = Literal["full", "fast"]
logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
ANSWER_SECONDS = 60.0
JOBS_PER_COMMIT = 128
CHECKPOINT_BYTES = 32 << 20
CHECKPOINT_RETRY_BYTES = 8 << 20
WRITING_CACHE_KIB = 4 << 10
READING_CACHE_KIB = 1 << 10


class Transaction:
    """What a write job works with: the connection, and whom to wake once it is committed."""

    __slots__ = ("connection", "final_ids", "ready_queues")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.ready_queues: set[str] = set()
        self.final_ids: list[str] = []


class _Job(NamedTuple):
    run: Callable[[Any], Any]
    worth: Callable[[sqlite3.Connection], bool] | None
    idle: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Database:
    """A shared handle on one file, open as long as one of its users is.

    Args:
        path: the file; made if missing, its folder must exist.
        durability: ``full`` syncs each commit to disk (nothing acknowledged is ever lost);
            ``fast`` leaves that to checkpoints: a power cut may lose the last moments, a crash of
            the program loses nothing. The file stays intact either way.
        namespace: prefix of the tables.
    """

    def __init__(
        self, path: str | Path, *, durability: Durability = "full", namespace: str = "omniq"
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
        self._guard = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._users: set[object] = set()
        self._writer: _Thread | None = None
        self._reader: _Thread | None = None
        self.hub: WakeHub | None = None

    async def open(self, user: object) -> None:
        """Open for this user. Idempotent."""
        await asyncio.to_thread(self._open, user)

    async def close(self, user: object) -> None:
        """Forget this user; after the last one, finish all jobs and close. Idempotent."""
        await asyncio.to_thread(self._close, user)

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
        self._put(_Job(run, worth, idle, loop, future), reads=reads)
        handle = loop.call_later(ANSWER_SECONDS, _give_up, future, str(self.path))
        try:
            return await future
        finally:
            handle.cancel()

    def _put(self, job: _Job, *, reads: bool) -> None:
        """Hand a job to its thread: under the guard, so that it never comes after the order to end."""
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
            _inherited.append((self._writer, self._reader, self.hub))
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
        folder = companion_folder(self.path)
        with ExitStack() as undo:
            lock = WriteLock(folder / "write.lock")
            undo.callback(lock.close)
            connection = self._connect(WRITING_CACHE_KIB)
            undo.callback(connection.close)
            with lock:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                ensure_schema(connection, self.tables)
                connection.execute("COMMIT")
            reading = self._connect()
            undo.callback(reading.close)
            reading.execute("PRAGMA query_only = ON")
            undo.pop_all()
        self.hub = WakeHub(folder, lambda: DataVersion(self._connect()))
        self._writer = _Writer(self.path, connection, lock, self.hub)
        self._reader = _Reader(self.path, reading)

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
            writer, reader, hub = self._writer, self._reader, self.hub
            self._writer = self._reader = self.hub = None
        reader.stop()
        writer.stop()
        if hub is not None:
            hub.close()


_inherited: list[Any] = []
"""Handles of the parent process, kept so that a forked child never closes its parent's files."""


class _Thread(ABC):
    """A thread that serves jobs from an inbox with its own connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection, name: str) -> None:
        self.inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._path = str(path)
        self._connection = connection
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve what waits, then end and close."""
        self.inbox.put(None)
        self._thread.join()
        self._connection.close()

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            jobs: list[_Job] = []
            job = self.inbox.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) >= JOBS_PER_COMMIT or self.inbox.empty():
                    break
                job = self.inbox.get_nowait()
            stopping = job is None
            wanted = [job for job in jobs if not job.future.cancelled()]
            if wanted:
                self._serve(wanted)

    @abstractmethod
    def _serve(self, jobs: list[_Job]) -> None: ...

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error | OSError):
            ours = translated(error, self._path)
            ours.__cause__ = error
            return ours
        return error


class _Reader(_Thread):
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection, "omniq-sqlite-read")

    def _serve(self, jobs: list[_Job]) -> None:
        for job in jobs:
            try:
                result = job.run(self._connection)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                _answer([(job, None, self._failure(error))])
            else:
                _answer([(job, result, None)])


class _Writer(_Thread):
    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: WriteLock, hub: WakeHub
    ) -> None:
        self._lock = lock
        self._hub = hub
        self._wal = Path(f"{path}-wal")
        self._checkpoint_at = CHECKPOINT_BYTES
        super().__init__(path, connection, "omniq-sqlite-write")

    def stop(self) -> None:
        super().stop()
        self._lock.close()

    def _serve(self, jobs: list[_Job]) -> None:
        jobs = self._worthwhile(jobs)
        if not jobs:
            return
        try:
            transaction, results = self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            if len(jobs) > 1 and not is_busy(error):
                for job in jobs:
                    self._serve([job])
            else:
                _answer([(job, None, self._failure(error)) for job in jobs])
            return
        _answer([(job, result, None) for job, result in zip(jobs, results, strict=True)])
        self._hub.announce(transaction.ready_queues, transaction.final_ids)
        self._checkpoint_if_due()

    def _worthwhile(self, jobs: list[_Job]) -> list[_Job]:
        """Answer the jobs that a look shows to have nothing to do; return the others."""
        wanted: list[_Job] = []
        for job in jobs:
            try:
                if job.worth is None or job.worth(self._connection):
                    wanted.append(job)
                else:
                    _answer([(job, job.idle, None)])
            except Exception as error:  # noqa: BLE001 - handed to the caller
                _answer([(job, None, self._failure(error))])
        return wanted

    def _commit(self, jobs: list[_Job]) -> tuple[Transaction, list[Any]]:
        connection = self._connection
        transaction = Transaction(connection)
        with self._lock:
            connection.execute("BEGIN IMMEDIATE")
            try:
                # What was given up while the locks were waited for is not done any more.
                results = [None if job.future.done() else job.run(transaction) for job in jobs]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return transaction, results

    def _checkpoint_if_due(self) -> None:
        """Bring the WAL back into the file once it is large; a long reader only delays it."""
        try:
            size = self._wal.stat().st_size
            if size < CHECKPOINT_BYTES:
                self._checkpoint_at = CHECKPOINT_BYTES
            if size >= self._checkpoint_at:
                self._checkpoint_at = size + CHECKPOINT_RETRY_BYTES
                self._checkpoint()
        except (sqlite3.Error, OSError) as error:
            logger.warning("checkpoint of %s: %s", self._path, error)

    def _checkpoint(self) -> None:
        """Bring back what readers let go of now; they are not waited for."""
        with self._lock:
            self._connection.execute("PRAGMA busy_timeout = 50")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _answer(answers: list[tuple[_Job, Any, BaseException | None]]) -> None:
    """Hand results to their callers, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any, BaseException | None]]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_futures, items)
        except RuntimeError:
            logger.debug("an event loop was closed before its answer came")


def _settle_futures(items: list[tuple[_Job, Any, BaseException | None]]) -> None:
    for job, result, error in items:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def _give_up(future: asyncio.Future[Any], path: str) -> None:
    if not future.done():
        future.set_exception(
            StorageUnavailableError(
                f"sqlite database {path}: no answer within {ANSWER_SECONDS:g} s; another process "
                "holds the write lock, or the disk hangs. The call may still be carried out."
            )
        )
