"""Where node functions run: in the event loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

from omniq.flow.nodes import NodeType, Pool

THREADS = 8


class Pools:
    """The threads and processes of one runner, started when first needed. Close when done."""

    def __init__(self, *, threads: int = THREADS, processes: int | None = None) -> None:
        self._sizes = {Pool.THREAD: threads, Pool.PROCESS: processes or os.cpu_count() or 1}
        self._executors: dict[Pool, Executor] = {}

    async def call(self, kind: NodeType, *args: Any, **kwargs: Any) -> Any:
        """Return what the function of a node type returns, called where its pool says."""
        return await self.run(kind.pool, kind.func, *args, **kwargs)

    async def run(self, pool: Pool, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns, called in that pool."""
        if pool is Pool.ASYNC:
            value = func(*args, **kwargs)
        else:
            call = partial(_called, func, *args, **kwargs)
            loop = asyncio.get_running_loop()
            value = await loop.run_in_executor(self._executor(pool), call)
        return await value if inspect.isawaitable(value) else value

    async def close(self) -> None:
        """Wait for what still runs, off the event loop, and end all threads and processes."""
        executors, self._executors = list(self._executors.values()), {}
        for executor in executors:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    def _executor(self, pool: Pool) -> Executor:
        executor = self._executors.get(pool)
        if executor is None:
            executor = self._executors[pool] = self._make(pool)
        return executor

    def _make(self, pool: Pool) -> Executor:
        if pool is Pool.THREAD:
            return ThreadPoolExecutor(self._sizes[pool], thread_name_prefix="omniq-node")
        # Not forked: a fork of a process with threads may hang.
        return ProcessPoolExecutor(self._sizes[pool], mp_context=get_context("spawn"))


def _called(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the function; a StopIteration of it would never reach the one who awaits it."""
    try:
        return func(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"the node raised {error!r}") from error
