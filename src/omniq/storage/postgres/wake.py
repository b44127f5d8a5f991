"""Who waits for what in this process, whatever its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Literal
from zlib import crc32

from omniq.models.task import Task, TaskStatus

Topic = Literal["ready", "final"]
SCHEDULES = ":schedules"
"""Announced as a queue is, but no name of one: a schedule was stored, changed or deleted."""
_READY = (TaskStatus.PENDING, TaskStatus.SCHEDULED)
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[bool]"]


def digest(task_id: str) -> str:
    """Return the short form a task's id is announced in; another id sharing it does no harm."""
    return f"{crc32(task_id.encode()):x}"


class Waiters:
    """Futures by topic and name.

    Attributes:
        heard: grows with each announcement of something to do, and whenever some were missed.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._lock = threading.Lock()
        self._by_name: dict[Topic, dict[str, set[_Waiter]]] = {"ready": {}, "final": {}}

    def register(self, topic: Topic, names: Iterable[str]) -> Waiting:
        """Start to listen for any of these names; what is announced from now on is not missed."""
        return Waiting(self, topic, list(names))

    def wake(self, topic: Topic, names: Iterable[str]) -> None:
        """Wake those who wait for one of these names."""
        if topic == "ready":
            self.heard += 1
        self._finish(self._found(topic, names), heard=True)

    def look_again(self) -> None:
        """Wake everybody to look for themselves: announcements may have been missed."""
        self.heard += 1
        self._finish(self._found("ready", None) | self._found("final", None), heard=False)

    def add(self, topic: Topic, names: list[str], waiter: _Waiter) -> None:
        """Add a waiter under each of its names."""
        with self._lock:
            for name in names:
                self._by_name[topic].setdefault(name, set()).add(waiter)

    def remove(self, topic: Topic, names: list[str], waiter: _Waiter) -> None:
        """Take a waiter out again."""
        with self._lock:
            for name in names:
                waiting = self._by_name[topic].get(name)
                if waiting is not None:
                    waiting.discard(waiter)
                    if not waiting:
                        del self._by_name[topic][name]

    def _found(self, topic: Topic, names: Iterable[str] | None) -> set[_Waiter]:
        waiting = self._by_name[topic]
        if not waiting:
            return set()
        with self._lock:
            wanted = list(waiting) if names is None else names
            return {waiter for name in wanted for waiter in waiting.get(name, ())}

    def _finish(self, found: set[_Waiter], *, heard: bool) -> None:
        if not found:
            return
        here: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):  # a thread without a loop
            here = asyncio.get_running_loop()
        for loop, future in found:
            if loop is here:
                _finish(future, heard)
                continue
            with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there
                loop.call_soon_threadsafe(_finish, future, heard)


class Waiting:
    """One waiter; use it as a context manager. After a wake-up it can wait again."""

    def __init__(self, waiters: Waiters, topic: Topic, names: list[str]) -> None:
        self._waiters, self._names = waiters, names
        self._topic: Topic = topic
        loop = asyncio.get_running_loop()
        self._waiter: _Waiter = (loop, loop.create_future())

    async def wait(self, seconds: float) -> bool:
        """Return when woken or after `seconds`; True if a name of ours was announced."""
        loop, future = self._waiter
        timer = loop.call_later(seconds, _finish, future, False)
        try:
            return await future
        finally:
            timer.cancel()
            self.__exit__(None, None, None)
            self._waiter = (loop, loop.create_future())
            self.__enter__()

    def __enter__(self) -> Waiting:
        self._waiters.add(self._topic, self._names, self._waiter)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiters.remove(self._topic, self._names, self._waiter)


def _finish(future: asyncio.Future[bool], heard: bool) -> None:
    if not future.done():
        future.set_result(heard)


class Wakes:
    """Whom to wake once a transaction is committed."""

    def __init__(self) -> None:
        self.ready: dict[str, bool] = {}
        self.final: list[str] = []

    def note(self, tasks: Iterable[Task]) -> None:
        """Note tasks in the state they were brought to."""
        for task in tasks:
            if task.is_final:
                self.final.append(task.id)
            elif task.status in _READY:
                self.ready.setdefault(task.queue_name, False)

    def note_ready(self, queues: Iterable[str]) -> None:
        """Note queues whose next moment may have changed: tasks came, or a lease began."""
        for queue in queues:
            self.ready.setdefault(queue, False)

    def was_empty(self, queues: Iterable[str]) -> None:
        """Note that these queues had nothing in line before, so that haste is worth while."""
        self.ready.update((queue, True) for queue in queues if queue in self.ready)
