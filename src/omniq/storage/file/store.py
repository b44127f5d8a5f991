"""One folder of files: a thread with group commit, a lock shared by all processes, wake-ups.

All jobs that wait are done under one hold of the lock and made durable by one fsync; each caller
gets its own result or error. Nothing crosses a fork: a child opens anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from omniq.exceptions import CapabilityError
from omniq.models.finding import Finding
from omniq.storage.file.control import META, ControlProbe
from omniq.storage.file.doctor import folder_findings
from omniq.storage.file.errors import translated
from omniq.storage.file.folders import Folders
from omniq.storage.file.jobs import Answer, Job, JobThread, StoppedError
from omniq.storage.file.journal import Journal
from omniq.storage.file.lag import IDLE_SECONDS
from omniq.storage.file.location import Durability, refuse_network
from omniq.storage.file.ops import Op
from omniq.storage.local.wake import WakeHub
from omniq.storage.local.writelock import WriteLock

logger = logging.getLogger("omniq.storage.file")

R = TypeVar("R")


class Batch:
    """What a job works with.

    Attributes:
        files: the files as they are.
        ops: the changes it wants, made together after it returns; none when it raises.
        ready_queues, final_ids: whom to wake then.
        must_last: whether the changes must be on the disk before the caller hears of them. A claim
            or a heartbeat need not: after a power loss all leases are void anyway.
        after: called once the changes are made.
    """

    __slots__ = ("_journal", "after", "files", "final_ids", "must_last", "ops", "ready_queues")

    def __init__(self, files: Folders, journal: Journal) -> None:
        self.files = files
        self._journal = journal
        self.ops: list[Op] = []
        self.ready_queues: set[str] = set()
        self.final_ids: list[str] = []
        self.must_last = True
        self.after: Callable[[], None] | None = None

    def catch_up(self, task_id: str | None = None) -> None:
        """Bring the files up to date, those of one task or all: changes may wait in the journal."""
        self._journal.make_all(task_id)


class View:
    """What a component remembers of its files; all methods are called by the store's thread."""

    def observe(self, ops: Sequence[Op]) -> None:
        """Hear of changes made, by this process or another; each once, in order."""

    def forget(self) -> None:
        """Look at everything anew: changes were missed, or could not be made."""


class FileStore:
    """A shared handle on one folder. `open` and `close` are counted: the last close closes.

    Args:
        root: the folder; made if missing.
        durability: ``full`` or ``fast``.
        view: told what changes.
        allow_network: work on a network file system too; only for a single process.
        wakes: whether processes tell each other of changes.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Durability,
        view: View | None = None,
        allow_network: bool = False,
        wakes: bool = False,
    ) -> None:
        self.root = root
        self._durability = durability
        self._view = view or View()
        self._allow_network = allow_network
        self._wakes = wakes
        self._guard = threading.Lock()
        self._forget()

    def __repr__(self) -> str:
        return str(self.root)

    @property
    def companion(self) -> Path:
        """The folder of locks, sockets and the journal."""
        return self.root / META

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._users = 0
        self._thread: JobThread | None = None
        self.hub: WakeHub | None = None

    async def open(self) -> None:
        """Open, or count one more user."""
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Count one user less; the last one finishes all jobs and closes."""
        await asyncio.to_thread(self._close)

    async def run(
        self, job: Callable[[Batch], R], *, prepare: Callable[[], None] | None = None
    ) -> R:
        """Do a job alone among all processes; return what it returned, once that is durable.

        `prepare` is called before the lock is taken, in the same thread.
        """
        while True:
            await self.ensure_open()
            thread = self._thread
            if thread is not None:
                with contextlib.suppress(StoppedError):  # closed in this moment by another thread
                    return cast("R", await thread.ask(job, prepare))

    async def findings(self) -> list[Finding]:
        """Look at the folder and its disk."""
        try:
            return await asyncio.to_thread(folder_findings, self.root, self._durability)
        except OSError as error:
            raise translated(error, self.root) from error

    async def ensure_open(self) -> None:
        """Open if that was not done, or not in this process."""
        if self._pid != os.getpid():
            _inherited.append(self.__dict__.copy())
            self._guard = threading.Lock()
            self._forget()
        if self._thread is None:
            await asyncio.to_thread(self._open)

    @property
    def files(self) -> Folders:
        """The files, for `prepare`."""
        return self._files

    def _open(self) -> None:
        with self._guard:
            self._users += 1
            if self._thread is not None:
                return
            try:
                self._start()
            except OSError as error:
                self._users -= 1
                raise translated(error, self.root) from error
            except BaseException:
                self._users -= 1
                raise

    def _start(self) -> None:
        if os.name != "posix":
            raise CapabilityError(
                "file storage needs POSIX locks, which Windows lacks; use sqlite:// there"
            )
        self._files = Folders(self.root)
        try:
            if not self._allow_network:
                refuse_network(self.root)
            self._files.make(META)
            self._lock = WriteLock(self.companion / "lock")
            with self._lock:
                self._view.forget()
                self._journal = Journal(
                    self._files,
                    durable=self._durability == "full",
                    observe=self._view.observe,
                    lost=self._view.forget,
                )
        except BaseException:
            self._files.close()
            raise
        self._thread = JobThread(
            self._serve,
            self._end,
            str(self.root),
            patience=lambda: IDLE_SECONDS if self._journal.lags else None,
            at_rest=self._rest,
        )
        if self._wakes:
            self.hub = WakeHub(self.companion, lambda: ControlProbe(self.root))

    def _close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._guard:
            self._users = max(0, self._users - 1)
            if self._users or self._thread is None:
                return
            thread, hub = self._thread, self.hub
            self._thread = self.hub = None
            thread.stop()
            if hub is not None:
                hub.close()

    def make_all(self) -> None:
        """Bring the files up to date; for the store's thread, which does not hold the lock."""
        if self._journal.lags:
            with self._lock:
                self._journal.catch_up()
                self._journal.make_all()

    def _rest(self) -> None:
        try:
            self.make_all()
        except OSError as error:
            self._view.forget()
            logger.warning("files %s are behind their journal: %s; next time", self.root, error)

    def _end(self) -> None:
        self._rest()
        self._journal.close()
        self._files.close()
        self._lock.close()

    def _serve(self, jobs: list[Job]) -> list[Answer]:
        refused: list[Answer] = []
        done = Batch(self._files, self._journal)
        done.must_last = False
        ready = [job for job in jobs if self._is_prepared(job, refused)]
        try:
            with self._lock, _one_at_a_time:
                self._journal.catch_up()
                answers = [self._one(job, done) for job in ready]
                self._tidy()
            if done.must_last:
                self._journal.sync()
        except Exception as error:  # noqa: BLE001 - handed to the callers
            self._view.forget()
            failed = self._failure(error)
            return [*refused, *((job, None, failed) for job in ready)]
        if self.hub is not None:
            self.hub.announce(done.ready_queues, done.final_ids)
        return refused + answers

    def _tidy(self) -> None:
        """Do what has waited. What fails here is in the journal, and done by who comes next."""
        try:
            self._journal.make_due()
            self._journal.rotate_if_full()
        except OSError as error:
            self._view.forget()
            logger.warning("files %s are behind their journal: %s; next time", self.root, error)

    def _is_prepared(self, job: Job, refused: list[Answer]) -> bool:
        """Prepare a job; answer it if that fails."""
        try:
            if job.prepare is not None:
                job.prepare()
        except Exception as error:  # noqa: BLE001 - handed to the caller
            refused.append((job, None, self._failure(error)))
            return False
        return True

    def _one(self, job: Job, done: Batch) -> Answer:
        batch = Batch(self._files, self._journal)
        try:
            result = job.run(batch)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            return job, None, self._failure(error)
        try:
            if batch.ops:
                self._journal.commit(batch.ops)
            if batch.after is not None:
                batch.after()
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._view.forget()
            return job, None, self._failure(error)
        done.must_last |= batch.must_last and bool(batch.ops)
        done.ready_queues |= batch.ready_queues
        done.final_ids += batch.final_ids
        return job, result, None

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, OSError):
            ours = translated(error, self.root)
            ours.__cause__ = error
            return ours
        return error


_inherited: list[Any] = []
"""Handles of the parent process, kept so that a forked child never closes its parent's files."""

_one_at_a_time = threading.Lock()
"""Held while a job's many short system calls are made, each of which lets other threads run.

Two threads at it would hand the interpreter to each other at every call; one after the other, they
need a third less. Taken after the lock of a store, so who holds it waits for nobody: a process that
hangs with one store locked holds up no other.
"""


def _renew_lock() -> None:
    """In a forked child: the thread that held it is not there."""
    global _one_at_a_time  # noqa: PLW0603 - the child's only way
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
