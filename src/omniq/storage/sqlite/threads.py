"""The two threads of a database: one writes with group commit, one reads."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from omniq.storage.local.forks import fork_gate
from omniq.storage.local.wake import WakeHub
from omniq.storage.local.writelock import WriteLock
from omniq.storage.sqlite.errors import is_busy, translated

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
JOBS_PER_COMMIT = 128
CHECKPOINT_BYTES = 32 << 20
CHECKPOINT_RETRY_BYTES = 8 << 20
CHECKPOINT_PATIENCE_MS = 50


class Transaction:
    """What a write job works with: the connection, and whom to wake once it is committed."""

    __slots__ = ("connection", "final_ids", "ready_queues")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.ready_queues: set[str] = set()
        self.final_ids: list[str] = []


class Job(NamedTuple):
    """A call of one of the threads, and where its caller waits for the answer.

    Attributes:
        run: takes a `Transaction` (the writer) or a connection (the reader).
        worth: a cheap look that tells whether to run it at all; else `idle` is the answer.
        idle: see `worth`.
        loop, future: of the caller.
    """

    run: Callable[[Any], Any]
    worth: Callable[[sqlite3.Connection], bool] | None
    idle: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class JobThread(ABC):
    """A thread that serves jobs from an inbox with its own connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection, name: str) -> None:
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._path = str(path)
        self._connection = connection
        self._gate = fork_gate()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve what waits, then end and close."""
        self.inbox.put(None)
        self._thread.join()
        with self._gate:
            self._connection.close()

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            jobs: list[Job] = []
            job = self.inbox.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) >= JOBS_PER_COMMIT or self.inbox.empty():
                    break
                job = self.inbox.get_nowait()
            stopping = job is None
            wanted = [job for job in jobs if not job.future.done()]
            if wanted:
                self._serve(wanted)

    @abstractmethod
    def _serve(self, jobs: list[Job]) -> None: ...

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error | OSError):
            ours = translated(error, self._path)
            ours.__cause__ = error
            return ours
        return error


class Reader(JobThread):
    """Runs each job by itself."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection, "omniq-sqlite-read")

    def _serve(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                with self._gate:
                    result = job.run(self._connection)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                _answer([(job, None, self._failure(error))])
            else:
                _answer([(job, result, None)])


class Writer(JobThread):
    """Runs all jobs that wait in one transaction, and brings the WAL back in time."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        lock: WriteLock,
        hub: WakeHub,
        connect: Callable[[], sqlite3.Connection],
    ) -> None:
        self._lock = lock
        self._connect = connect
        self._hub = hub
        self._wal = Path(f"{path}-wal")
        self._checkpoint_at = CHECKPOINT_BYTES
        super().__init__(path, connection, "omniq-sqlite-write")

    def stop(self) -> None:
        """Commit what waits, then end and close."""
        super().stop()
        self._lock.close()

    def _serve(self, jobs: list[Job]) -> None:
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

    def _worthwhile(self, jobs: list[Job]) -> list[Job]:
        """Answer the jobs that a look shows to have nothing to do; return the others."""
        wanted: list[Job] = []
        for job in jobs:
            try:
                if job.worth is None or self._is_worth(job.worth):
                    wanted.append(job)
                else:
                    _answer([(job, job.idle, None)])
            except Exception as error:  # noqa: BLE001 - handed to the caller
                _answer([(job, None, self._failure(error))])
        return wanted

    def _is_worth(self, look: Callable[[sqlite3.Connection], bool]) -> bool:
        with self._gate:
            return look(self._connection)

    def _commit(self, jobs: list[Job]) -> tuple[Transaction, list[Any]]:
        connection = self._connection
        transaction = Transaction(connection)
        with self._lock, self._gate:
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
        """Bring back what readers let go of now; they are not waited for.

        A second connection keeps everybody from committing meanwhile, also those that do not take
        the lock file: programs that are not OmniQ. (A TRUNCATE would go on without that lock when
        it cannot have it.) The next commit begins the WAL anew, and shortens it.
        """
        with self._lock, self._gate, closing(self._connect()) as guard:
            guard.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE_MS}")
            try:
                guard.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if is_busy(error):
                    return  # somebody is writing: after the next commit, perhaps
                raise
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            guard.execute("ROLLBACK")


def _answer(answers: list[tuple[Job, Any, BaseException | None]]) -> None:
    """Hand results to their callers, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Any, BaseException | None]]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_futures, items)
        except RuntimeError:
            logger.debug("an event loop was closed before its answer came")


def _settle_futures(items: list[tuple[Job, Any, BaseException | None]]) -> None:
    for job, result, error in items:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
