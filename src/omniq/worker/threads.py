"""Synchronous functions, run in daemon threads that can be interrupted.

A thread cannot be killed. It can be made to raise: `RunInterrupted` is set as its asynchronous
exception, which Python raises at the next bytecode. Code blocked in C (a socket, `time.sleep`) is
reached when that returns; until then its slot stays taken.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any

from omniq.worker.runs import Run, RunInterrupted

_Call = tuple[Run, Callable[[], Any], contextvars.Context, "asyncio.Future[Any]"]
IDLE_SECONDS = 30.0


class ThreadPool:
    """Daemon threads, made as needed up to one for each call under way; idle ones end."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self.busy = 0

    async def run(self, run: Run, call: Callable[[], Any]) -> Any:
        """Return what `call` returns, from a thread.

        When the awaiting task is cancelled, the thread is interrupted; the call returns only when
        the thread has really ended, so that a slot is never given away twice. Cancelled again, as
        an event loop does when it closes, it leaves the thread to itself.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        run.guard = threading.Lock()
        self._start((run, call, contextvars.copy_context(), future))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.done():
                raise
            interrupt(run)
        return await asyncio.shield(future)

    def _start(self, call: _Call) -> None:
        with self._lock:
            self.busy += 1
            if self._threads < self.busy:
                self._threads += 1
                threading.Thread(target=self._serve, name="omniq-task", daemon=True).start()
        self._calls.put(call)

    def _serve(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._threads > self.busy:
                        self._threads -= 1
                        return
            else:
                self._perform(*call)

    def _perform(
        self,
        run: Run,
        call: Callable[[], Any],
        context: contextvars.Context,
        future: asyncio.Future[Any],
    ) -> None:
        value, error = None, None
        try:
            value = context.run(_guarded, run, call)
        except BaseException as raised:  # noqa: BLE001 - handed to the awaiting task
            error = raised
        with self._lock:
            self.busy -= 1
        loop = future.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, future, value, error)


def interrupt(run: Run) -> None:
    """Raise `RunInterrupted` in the thread of a run, if its function is running or will be."""
    if run.guard is None:
        return
    with run.guard:
        run.interrupted = True
        if run.thread is not None:
            _set_exception(run.thread, RunInterrupted)


def _guarded(run: Run, call: Callable[[], Any]) -> Any:
    """Run `call` where `interrupt` can reach it, and nowhere else."""
    guard = run.guard
    assert guard is not None  # noqa: S101 - set by ThreadPool.run
    with guard:
        if run.interrupted:
            raise RunInterrupted
        run.thread = threading.get_ident()
    try:
        return call()
    finally:
        with guard:
            _set_exception(threading.get_ident(), None)
            run.thread = None


def _set_exception(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )


def _finish(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, (StopIteration, GeneratorExit)):  # would end who awaits it instead
        future.set_exception(RuntimeError(f"the task raised {error!r}"))
    else:
        future.set_exception(error)
