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
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

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

    def twin(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(getattr(self, name), *args, **kwargs)
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
    if _loop_runs_here():
        raise SyncInAsyncError(
            f"{name}_sync() would block the running event loop; use `await {name}(…)` instead"
        )
    future = _portal.get().start_task_soon(cast("Callable[[], Awaitable[R]]", call))
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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
        self._context: AbstractContextManager[BlockingPortal] | None = None

    def get(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 - 25 ms

                self._context = start_blocking_portal(name="omniq-sync")
                self._portal = self._context.__enter__()
            return self._portal

    def stop(self) -> None:
        with self._lock:
            context, self._context, self._portal = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)


_portal = _Portal()
