"""The blocking twins: `await x()` is the coroutine, `x_sync()` blocks.

All twins of a process are served by one background event loop (an anyio blocking portal). It is
started by the first call, rebuilt after a fork and stopped at exit.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from omniq.exceptions import SyncInAsyncError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def blocking(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], R]:
    """Return the `_sync` twin of an async method, with the same parameters.

    The twin calls the method of that name on the object, so overriding the coroutine is enough.

    Raises (the twin):
        SyncInAsyncError: called in a thread where an event loop runs.
    """
    name = method.__name__

    def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        call: Callable[[], Awaitable[R]] = functools.partial(getattr(self, name), *args, **kwargs)
        return run_blocking(call, f"{type(self).__name__}.{name}")

    twin.__name__ = f"{name}_sync"
    owner = method.__qualname__.rpartition(".")[0]
    twin.__qualname__ = f"{owner}.{name}_sync"
    twin.__module__ = method.__module__
    twin.__wrapped__ = method  # type: ignore[attr-defined]  # so that inspect shows the parameters
    twin.__doc__ = f"Block until `await {name}(…)` is done and return its result."
    return twin


def run_blocking(call: Callable[[], Awaitable[R]], name: str) -> R:
    """Run a coroutine function in the background loop and wait for it.

    KeyboardInterrupt in the waiting thread cancels the call.

    Raises:
        SyncInAsyncError: called in a thread where an event loop runs; the message names `name`.
    """
    refuse_in_loop(name)
    once = _Call(call)
    try:
        return _portal.get().start_task_soon(once.run).result()
    except BaseException:
        once.give_up()
        raise


def run_soon(call: Callable[[], Awaitable[object]]) -> None:
    """Run a coroutine function in the background loop; nobody waits for it."""
    _portal.get().start_task_soon(call)


def refuse_in_loop(name: str) -> None:
    """Refuse to block a thread where an event loop runs.

    Raises:
        SyncInAsyncError: one runs here; the message names `name`, the coroutine to await.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInAsyncError(
        f"{name}_sync() would block the running event loop; use `await {name}(…)` instead"
    )


class _Call(Generic[R]):
    """One call in the background loop, that can be given up at any time, begun or not."""

    def __init__(self, call: Callable[[], Awaitable[R]]) -> None:
        self._call = call
        self._is_given_up = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    async def run(self) -> R:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running = (asyncio.get_running_loop(), task)
        try:
            if self._is_given_up:
                raise asyncio.CancelledError
            return await self._call()
        finally:
            self._running = None

    def give_up(self) -> None:
        self._is_given_up = True
        if self._running is not None:
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)


class _Portal:
    """The process-wide portal, made on demand."""

    def __init__(self) -> None:
        self._reset()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Forget the portal of the parent: its thread does not exist in a forked child."""
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                self._portal = self._start()
            return self._portal

    def _start(self) -> BlockingPortal:
        """Start the thread by hand: anyio's context manager, left alone in a child, hangs it."""
        ready: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=_run, args=(ready,), name="omniq-sync", daemon=True)
        self._thread.start()
        return ready.result()

    def stop(self) -> None:
        with self._lock:
            portal, self._portal = self._portal, None
            thread, self._thread = self._thread, None
        if portal is not None and thread is not None:
            portal.start_task_soon(portal.stop, True)
            thread.join()


def _run(ready: Future[BlockingPortal]) -> None:
    import anyio  # 25 ms

    try:
        anyio.run(_serve, ready)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _serve(ready: Future[BlockingPortal]) -> None:
    from anyio.from_thread import BlockingPortal  # see `_run`

    async with BlockingPortal() as portal:
        ready.set_result(portal)
        await portal.sleep_until_stopped()


_portal = _Portal()
