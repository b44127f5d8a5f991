"""Natural batching: single calls made at the same time become one batch.

While a batch is in flight, later calls gather into the next one. There are no timers: an idle
coalescer adds no latency, a busy one batches as much as arrived meanwhile ("group commit").

A batch begins one turn of the loop after its first call, so that calls of the same moment join it.
Not so where one task calls again and again, and nobody else: then nobody is waited for, and the
batch runs in that task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from omniq.exceptions import ValidationError
from omniq.loops import PerLoop

T = TypeVar("T")
R = TypeVar("R")


class Coalescer(Generic[T, R]):
    """Gathers concurrent `submit` calls into calls of `run`, which takes and returns many.

    `run` must return one result per item, in order. When it raises, every call of that batch gets
    the exception; but a ValidationError, before which `run` must have done nothing, only reaches
    the calls at fault. Of a caller that is cancelled nobody knows whether its item is done; the
    other calls of its batch do not notice.
    """

    def __init__(
        self, run: Callable[[list[T]], Awaitable[Sequence[R]]], *, max_batch: int = 1000
    ) -> None:
        self._lanes: PerLoop[_Lane[T, R]] = PerLoop(lambda: _Lane(run, max_batch))

    def begin(self, item: T) -> asyncio.Future[R]:
        """Put `item` into the next batch; the future gets what `run` returns for it."""
        return self._lanes.get().begin(item)

    async def submit(self, item: T) -> R:
        """Return what `run` returned for `item`."""
        lane = self._lanes.get()
        if lane.is_of_one_caller():
            return await lane.run_alone(item)
        return await lane.begin(item)


class _Lane(Generic[T, R]):
    """The waiting items of one event loop."""

    def __init__(self, run: Callable[[list[T]], Awaitable[Sequence[R]]], max_batch: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._runs_alone = False
        self._caller: int | None = None

    def is_of_one_caller(self) -> bool:
        """Whether nothing is in flight, and the batch before was a call of this very task."""
        if self._runs_alone or self._flusher is not None:
            return False
        before, self._caller = self._caller, id(asyncio.current_task())
        return before == self._caller

    async def run_alone(self, item: T) -> R:
        """Run a batch of one here and now; calls made meanwhile are the next batch."""
        self._runs_alone = True
        try:
            (result,) = await self._run([item])
            return result
        finally:
            self._runs_alone = False
            if self._waiting:
                self._start()

    def begin(self, item: T) -> asyncio.Future[R]:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flusher is None and not self._runs_alone:
            self._start()
        return future

    def _start(self) -> None:
        self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        """Run batches until nothing waits. Started as a task, so calls of this tick join it.

        Those whose batch is done get a turn before the next one: what they call then joins it, so
        that many who call in a loop stay together.
        """
        try:
            while self._waiting:
                batch = self._waiting[: self._max_batch]
                del self._waiting[: self._max_batch]
                if len(batch) > 1:
                    self._caller = None
                await self._run_batch(batch)
                if self._waiting:
                    await asyncio.sleep(0)
        finally:
            self._flusher = None

    async def _run_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except ValidationError as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            middle = len(batch) // 2
            await self._run_batch(batch[:middle])
            await self._run_batch(batch[middle:])
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
            _fail(batch, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
