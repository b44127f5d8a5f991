"""`LogService`: a log in a thread of its own, for callers in any thread and event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from omniq.clock import utcnow
from omniq.exceptions import StorageUnavailableError
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.leaves import Leaves
from omniq.storage.objectstore.log import Damage, ObjectLog
from omniq.storage.objectstore.logstate import LogState
from omniq.storage.objectstore.loopthread import LoopThread, StoppedError
from omniq.storage.objectstore.poller import Poller
from omniq.storage.objectstore.publisher import Publisher
from omniq.storage.objectstore.tree import Tree, published

LEAST_OFFSET = timedelta(seconds=2)
"""Stores tell when an object was written in whole seconds: less than this is no difference."""

R = TypeVar("R")
S = TypeVar("S", bound=LogState)


class LogService(Generic[S]):
    """Opens and closes a log and hands jobs to it. Nothing crosses a fork: a child opens anew.

    Args:
        driver: of the store; opened by the first use.
        folder: of the log.
        make_state: returns a new, empty state.
        keeps_time: find out about the clock of the store.
        leaves: how what is in the log is shown to people; None: it is not.
    """

    def __init__(
        self,
        driver: ObjectDriver,
        folder: str,
        make_state: Callable[[], S],
        *,
        keeps_time: bool = False,
        leaves: Leaves[Any] | None = None,
    ) -> None:
        self.driver = driver
        self.folder = folder
        self._make_state = make_state
        self._keeps_time = keeps_time
        self._leaves = leaves
        self._session: _Session[S] | None = None
        self._forget()

    def __repr__(self) -> str:
        return f"{self.driver}/{self.folder}"

    @property
    def damages(self) -> list[Damage]:
        """The records that cannot be read, as far as this process met them."""
        return [] if self._session is None else list(self._session.log.damages)

    @property
    def has_tree(self) -> bool:
        """Whether this process takes part in publishing the tree."""
        return self._leaves is not None

    async def progress(self) -> tuple[int, int | None]:
        """Return the last commit known here, and the last one in the tree, if there is one."""
        seq = 0 if self._session is None else self._session.log.seq
        return seq, await published(self.driver, self.folder)

    def now(self) -> datetime:
        """Return the time by the clock of the store."""
        return utcnow() + self.offset

    @property
    def offset(self) -> timedelta:
        """By how much the clock of the store is ahead of ours."""
        return timedelta() if self._session is None else self._session.offset

    async def open(self) -> None:
        """Start the thread, connect and read what there is. Idempotent."""
        session = self._present()
        try:
            await session.thread.do(session.get_ready(keeps_time=self._keeps_time))
        except StoppedError:
            self._drop(session)
            await self.open()  # closed in this moment by another thread
        except BaseException as error:
            if not session.is_ready:
                await self._end(session)
            if isinstance(error, asyncio.CancelledError) and not _is_cancelled():
                raise self._closed() from None
            raise

    async def close(self) -> None:
        """Finish all jobs and end the thread. Idempotent."""
        session = self._session
        if session is not None and self._pid == os.getpid():
            await self._end(session)

    async def run(self, job: Callable[[S], R]) -> R:
        """Do a job on the current state, as `ObjectLog.run`, with the same errors."""

        async def work(session: _Session[S]) -> R:
            return await session.log.run(job)

        try:
            return await self._do(work)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise self._closed() from None

    async def wait(self, wait: Callable[[S], Awaitable[None]]) -> None:
        """Wait in the thread, and look for news meanwhile. Returns early if the log is closed."""

        async def work(session: _Session[S]) -> None:
            session.take_part()
            with session.poller.waiting():
                await wait(session.log.state)

        try:
            await self._do(work)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise

    async def _do(self, work: Callable[[_Session[S]], Coroutine[Any, Any, R]]) -> R:
        while True:
            if self._session is None or self._pid != os.getpid():
                await self.open()
            session = self._session
            if session is not None:
                try:
                    return await session.thread.do(work(session))
                except StoppedError:
                    self._drop(session)

    def _present(self) -> _Session[S]:
        if self._pid != os.getpid():
            _inherited.append(self._session)
            self._forget()
        with self._guard:
            if self._session is None:
                self._session = _Session(self.driver, self.folder, self._make_state(), self._leaves)
            return self._session

    async def _end(self, session: _Session[S]) -> None:
        self._drop(session)
        try:
            await session.thread.do(session.finish())
        except StoppedError:
            return
        finally:
            await session.thread.stop()

    def _closed(self) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{self!r} was closed meanwhile; the call may or may not have been carried out"
        )

    def _drop(self, session: _Session[S]) -> None:
        with self._guard:
            if self._session is session:
                self._session = None

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._session = None


class _Session(Generic[S]):
    """What there is from opening to closing. All but `thread` belongs to that thread."""

    def __init__(
        self, driver: ObjectDriver, folder: str, state: S, leaves: Leaves[Any] | None
    ) -> None:
        self.is_ready = False
        self.offset = timedelta()
        self._driver = driver
        self._folder = folder
        self._gate = asyncio.Lock()
        self.log = ObjectLog(driver, folder, state, on_look=self._looked, on_commit=self.take_part)
        self.poller = Poller(self.log.look)
        self._publisher = (
            None if leaves is None else Publisher(Tree(driver, folder, self.log, leaves))
        )
        self.thread = LoopThread("omniq-objects")

    async def get_ready(self, *, keeps_time: bool) -> None:
        """Connect and read what there is. Idempotent."""
        async with self._gate:
            if self.is_ready:
                return
            await self._driver.open(self)
            await self.log.look()
            if keeps_time and self._driver.is_conditional:
                offset = await _offset(self._driver, self._folder)
                self.offset = offset if abs(offset) > LEAST_OFFSET else timedelta()
            self.is_ready = True

    async def finish(self) -> None:
        """Finish all jobs and let the store go."""
        try:
            await self.log.close()
            if self._publisher is not None:
                await self._publisher.close()
        finally:
            await self._driver.close(self)

    def take_part(self) -> None:
        """Hear that this process works on the store: somebody is to publish what it does."""
        if self._publisher is not None:
            self._publisher.take_part()

    def _looked(self, is_news: bool) -> None:
        if is_news:
            self.poller.notice()
        else:
            self.poller.looked()
        if self._publisher is not None:
            self._publisher.notice()


async def _offset(driver: ObjectDriver, folder: str) -> timedelta:
    """Return by how much the clock of the store is ahead of ours."""
    key = f"{folder}/.clock"
    sent_at = utcnow()
    await driver.put(key, uuid4().hex.encode())
    written_at = sent_at + (utcnow() - sent_at) / 2
    listed = await driver.list(key, limit=1)
    moment = listed[0].modified_at if listed else None
    return timedelta() if moment is None else moment - written_at


def _is_cancelled() -> bool:
    """Whether it is the caller that was cancelled, not what it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


_inherited: list[Any] = []
"""What a forked child has of its parent, kept so that nothing of it is closed."""
