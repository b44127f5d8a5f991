"""A thread that does what event loops ask of it, several at a time."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from omniq.exceptions import StorageUnavailableError

logger = logging.getLogger("omniq.storage.file")

JOBS_AT_ONCE = 128
ANSWER_SECONDS = 60.0


class Job(NamedTuple):
    """Something to do, and who waits for it."""

    run: Callable[[Any], Any]
    prepare: Callable[[], None] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


Answer = tuple[Job, Any, BaseException | None]
Serve = Callable[[list[Job]], list[Answer]]


class StoppedError(Exception):
    """The thread has ended in order; the store must be opened anew."""


class JobThread:
    """Takes all jobs that wait and hands them to `serve`, which answers each.

    Args:
        serve: does the jobs; whatever it raises goes to all of them.
        at_end: called in the thread when it ends.
        name: of the thread, and of what it serves, for messages.
        patience: returns after how many seconds without a job `at_rest` is called; None: never.
        at_rest: see there.
    """

    def __init__(
        self,
        serve: Serve,
        at_end: Callable[[], None],
        name: str,
        *,
        patience: Callable[[], float | None],
        at_rest: Callable[[], None],
    ) -> None:
        self._serve = serve
        self._at_end = at_end
        self._patience = patience
        self._at_rest = at_rest
        self._name = name
        self._guard = threading.Lock()
        self._is_stopped = False
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="omniq-file", daemon=True)
        self._thread.start()

    async def ask(self, run: Callable[[Any], Any], prepare: Callable[[], None] | None) -> Any:
        """Return what `run` returned.

        Raises:
            StoppedError: the thread takes no more jobs; nothing was done.
            StorageUnavailableError: no answer within a minute; it may still be carried out.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._guard:
            if self._is_stopped:
                raise StoppedError
            self._inbox.put(Job(run, prepare, loop, future))
        timer = loop.call_later(ANSWER_SECONDS, _give_up, future, self._name)
        try:
            return await future
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Do what waits, then end."""
        with self._guard:
            self._is_stopped = True
            self._inbox.put(None)
        self._thread.join()

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            jobs: list[Job] = []
            job = self._first()
            while job is not None:
                jobs.append(job)
                if len(jobs) >= JOBS_AT_ONCE or self._inbox.empty():
                    break
                job = self._inbox.get_nowait()
            stopping = job is None
            wanted = [job for job in jobs if not job.future.cancelled()]
            if wanted:
                _answer(self._serve(wanted))
        self._at_end()

    def _first(self) -> Job | None:
        while True:
            try:
                return self._inbox.get(timeout=self._patience())
            except queue.Empty:
                self._at_rest()


def _answer(answers: list[Answer]) -> None:
    """Hand results to their callers, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, items)
        except RuntimeError:
            logger.debug("an event loop was closed before its answer came")


def _settle(items: list[Answer]) -> None:
    for job, result, error in items:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def _give_up(future: asyncio.Future[Any], name: str) -> None:
    if not future.done():
        future.set_exception(
            StorageUnavailableError(
                f"file storage {name}: no answer within {ANSWER_SECONDS:g} s; another process "
                "holds the lock, or the disk hangs. The call may still be carried out."
            )
        )
