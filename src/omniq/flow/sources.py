"""Where the items of a loop come from: its producer function, or its queues."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, cast

from omniq.flow.nodes import NodeType, Pool
from omniq.flow.plan import Loop
from omniq.flow.pools import Pools
from omniq.flow.wires import Item, Stop, Wires

_END = object()


async def produced(
    kind: NodeType, config: dict[str, Any], pools: Pools
) -> AsyncGenerator[Any, None]:
    """Yield what a producer function makes, whichever form it has."""
    if inspect.isasyncgenfunction(kind.func):
        async for item in kind.func(**config):
            yield item
        return
    if inspect.isgeneratorfunction(kind.func):
        made: Any = kind.func(**config)
    else:
        made = await pools.call(kind, **config)
    if hasattr(made, "__aiter__"):
        async for item in cast("AsyncIterator[Any]", made):
            yield item
        return
    pool = _pool_of_iterator(kind, made)
    steps: Iterator[Any] = iter(made)
    try:
        while (item := await pools.run(pool, next, steps, _END)) is not _END:
            yield item
    finally:
        if inspect.isgenerator(made):
            with suppress(ValueError):  # its thread is still in it
                made.close()


def _pool_of_iterator(kind: NodeType, made: object) -> Pool:
    """Return where to ask for the next item: a list never blocks, and no iterator leaves us."""
    if isinstance(made, list | tuple):
        return Pool.ASYNC
    return Pool.THREAD if kind.pool is Pool.PROCESS else kind.pool


async def until_stopped(
    items: AsyncGenerator[Any, None], wait_for_stop: Callable[[], Any]
) -> AsyncGenerator[Any, None]:
    """Yield the items, until `wait_for_stop` returns."""
    stopped = asyncio.ensure_future(wait_for_stop())
    coming: asyncio.Future[Any] | None = None
    try:
        while not stopped.done():
            coming = asyncio.ensure_future(anext(items, _END))
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                break
            item, coming = coming.result(), None
            if item is _END:
                break
            yield item
        if stopped.done():
            stopped.result()  # a store that refuses us is no stop
    finally:
        await _end(stopped)
        if coming is not None:
            await _end(coming)
        await items.aclose()


async def received(loop: Loop, wires: Wires) -> AsyncGenerator[Item, None]:
    """Yield what arrives in the queues of a loop, until all who push to them have stopped.

    If a run before this one died, also what it had not finished, which comes back later.
    """
    stops = await wires.stops_of(loop.id)
    ends_at = await wires.begin(loop.id)
    if not (loop.stops and loop.stops <= stops):
        async with aclosing(wires.incoming(loop)) as incoming:
            async for found in incoming:
                if isinstance(found, Item):
                    yield found
                    continue
                if found.loop is None:
                    return
                await _note(found, loop, wires, stops)
                if loop.stops and loop.stops <= stops:
                    break
    async with aclosing(wires.returned(loop, ends_at)) as returned:
        async for found in returned:
            if isinstance(found, Item):
                yield found
            else:
                await _note(found, loop, wires, stops)


async def _note(stop: Stop, loop: Loop, wires: Wires, stops: set[tuple[str, str]]) -> None:
    """Remember a stop signal for a later run too, before its queue forgets it."""
    if stop.loop is not None:
        stops.add((stop.queue, stop.loop))
        await wires.keep_stops(loop.id, stops)
    if stop.delivery is not None:
        await stop.delivery.acknowledge()


async def _end(future: asyncio.Future[Any]) -> None:
    """Cancel and wait; what it had to say came too late."""
    future.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await future
