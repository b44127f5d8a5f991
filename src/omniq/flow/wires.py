"""What a flow keeps in its data store, under names of its namespace."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from random import uniform
from typing import Any, TypeVar

import msgspec

from omniq.clock import utcnow
from omniq.datastore import DataStore, Delivery, serialize
from omniq.exceptions import (
    SerializationError,
    StorageError,
    StorageUnavailableError,
    ValidationError,
)
from omniq.flow.events import DeadLetter
from omniq.flow.plan import Loop
from omniq.flow.queues import DEAD_LETTERS
from omniq.ids import check_name
from omniq.models.result import ErrorInfo

logger = logging.getLogger(__name__)
T = TypeVar("T")
WAIT_SECONDS = 5.0
PAUSES = (0.1, 5.0)
SHORTEST_SECONDS = 0.001
MARGIN_SECONDS = 0.2
TEXT_LIMIT = 2000
STOP_KEY = "__omniq_stop__"
"""An item with this key is a stop signal: the loop it comes from, or None for stop at once."""


class Item(msgspec.Struct):
    """An item out of a queue; `delivery` is there while the queue still remembers it."""

    data: Any
    delivery: Delivery | None = None


class Stop(msgspec.Struct):
    """A stop signal out of a queue; `loop` is who stopped, None stands for: stop now."""

    loop: str | None
    queue: str = ""
    delivery: Delivery | None = None


class Wires:
    """The queues, the stop signals and the cache of one flow in one namespace.

    When the store goes away, pushing and popping wait for it to come back.

    Args:
        store: where all is kept.
        namespace: keeps flows and runs apart; None for the plain names.
        lease_seconds: with it, an item stays in the queue until its loop is done with it; when the
            process dies, another gets it after so many seconds.
    """

    def __init__(
        self, store: DataStore, namespace: str | None = None, lease_seconds: float | None = None
    ) -> None:
        if namespace is not None and "." in check_name("namespace", namespace):
            raise ValidationError("namespace", f"{namespace!r} holds a dot, which ends it")
        self._store = store
        self._start = "" if namespace is None else f"{namespace}."
        self.lease_seconds = lease_seconds

    def name(self, short: str) -> str:
        """Return the full name of a queue or key."""
        return self._start + short

    async def connect(self) -> None:
        """Open the store. Raises StorageError, if that cannot be done now."""
        await self._store.connect()

    # Items

    async def push(self, queue: str, data: Any) -> None:
        """Push an item. Raises SerializationError, if it is not JSON."""
        if _is_stop(data):
            raise ValidationError("item", f"the key {STOP_KEY} is the stop signal's")
        await patiently(lambda: self._store.queue.push(self.name(queue), data))

    async def bury(self, loop_id: str, node_id: str, data: Any, error: ErrorInfo) -> None:
        """Push an item a node failed on to the dead letters, as text if it cannot be stored."""
        letter = DeadLetter(
            loop_id=loop_id, node_id=node_id, item=data, error=error, failed_at=utcnow()
        )
        try:
            serialize(data)
        except SerializationError:
            letter.item, letter.item_text = None, repr(data)[:TEXT_LIMIT]
        entry = msgspec.to_builtins(letter)
        await patiently(lambda: self._store.queue.push(self.name(DEAD_LETTERS), entry))

    async def take_dead_letter(self) -> DeadLetter | None:
        """Take out the oldest dead letter; None if there is none."""
        found = await self._store.queue.pop_nowait(self.name(DEAD_LETTERS))
        return None if found is None else msgspec.convert(found, DeadLetter)

    async def take_waiting(self, queue: str) -> Any:
        """Take an item of a queue without waiting; None if there is none."""
        return await self._store.queue.pop_nowait(self.name(queue))

    async def incoming(self, loop: Loop) -> AsyncGenerator[Item | Stop, None]:
        """Yield what arrives in the queues of a loop and in its control queue, for ever."""
        if self.lease_seconds is None:
            names = [self.name(queue) for queue in loop.reads]
            while True:
                asked = [self._control(loop.id), *names]
                found = await patiently(lambda: self._store.queue.pop_any(asked, WAIT_SECONDS))  # noqa: B023 - used at once
                names.append(names.pop(0))  # so that no queue starves another
                if found is not None:
                    yield _opened(found[1])
        async with aclosing(self._held(loop, self.lease_seconds)) as held:
            async for item in held:
                yield item

    async def _held(self, loop: Loop, lease: float) -> AsyncGenerator[Item | Stop, None]:
        """Ask all queues at once; what came in too late to be used is put back."""
        queue = self._store.queue
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            name: partial(queue.receive, name, WAIT_SECONDS, lease_seconds=lease)
            for name in map(self.name, loop.reads)
        }
        control = self._control(loop.id)
        calls[control] = partial(queue.pop, control, WAIT_SECONDS)
        asked = {asyncio.ensure_future(patiently(call)): name for name, call in calls.items()}
        try:
            while True:
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    found = future.result()
                    if found is not None:
                        yield _opened(found)
                    name = asked.pop(future)
                    asked[asyncio.ensure_future(patiently(calls[name]))] = name
        finally:
            await _give_back(list(asked))

    async def returned(self, loop: Loop, ends_at: float) -> AsyncGenerator[Item | Stop, None]:
        """Yield what comes back, by that moment of the monotonic clock, from a run that died."""
        for queue in loop.reads:
            found: Delivery | None = None
            while found is not None or time.monotonic() < ends_at:
                left = max(ends_at - time.monotonic(), SHORTEST_SECONDS)
                found = await patiently(
                    partial(
                        self._store.queue.receive,
                        self.name(queue),
                        left,
                        lease_seconds=self.lease_seconds or left,
                    )
                )
                if found is not None:
                    yield _opened(found)

    async def begin(self, loop_id: str) -> float:
        """Note that a loop runs; return until when what a run before had leased may come back.

        That is a moment of the monotonic clock, long past if no run was broken off.
        """
        if self.lease_seconds is None:
            return 0.0
        key = self.name(f"{loop_id}_running")
        is_takeover = await patiently(lambda: self._store.cache.exists(key))
        await patiently(lambda: self._store.cache.set(key, True))
        return time.monotonic() + self.lease_seconds + MARGIN_SECONDS if is_takeover else 0.0

    async def break_off(self, loop_id: str) -> None:
        """Note that a loop ended early and gave back all it had, if the store can be reached."""
        with suppress(StorageError):
            await self._store.cache.delete(self.name(f"{loop_id}_running"))

    # Stop signals

    async def push_stop(self, queue: str, loop_id: str) -> None:
        """Say behind the last item of a queue that no more come from this loop."""
        marker = {STOP_KEY: loop_id, "queue": queue}
        await patiently(lambda: self._store.queue.push(self.name(queue), marker))

    async def ask_to_stop(self, loop_id: str) -> None:
        """Ask a loop to take no more items."""
        await self._store.queue.push(self._control(loop_id), {STOP_KEY: None})

    async def wait_for_stop(self, loop_id: str) -> None:
        """Return when the loop is asked to stop."""
        control = self._control(loop_id)
        while await patiently(lambda: self._store.queue.pop(control, WAIT_SECONDS)) is None:
            pass

    async def stops_of(self, loop_id: str) -> set[tuple[str, str]]:
        """Return the stops a loop has got so far, in an earlier run that was broken off too."""
        kept = await patiently(lambda: self._store.cache.get(self.name(f"{loop_id}_stops")))
        return {(queue, sender) for queue, sender in kept or ()}

    async def keep_stops(self, loop_id: str, stops: set[tuple[str, str]]) -> None:
        """Remember the stops a loop has got."""
        kept = [list(stop) for stop in sorted(stops)]
        await patiently(lambda: self._store.cache.set(self.name(f"{loop_id}_stops"), kept))

    async def forget_loop(self, loop_id: str) -> None:
        """Leave nothing behind of a loop that ended."""
        for kind in ("stops", "running"):
            await patiently(partial(self._store.cache.delete, self.name(f"{loop_id}_{kind}")))
        await patiently(lambda: self._store.queue.clear(self._control(loop_id)))

    def _control(self, loop_id: str) -> str:
        return self.name(f"control:{loop_id}")

    # Outputs of development mode, and the end

    async def output(self, node_id: str) -> tuple[Any, str | None]:
        """Return the cached output of a node and the exit it took; None if there is none."""
        keys = [self.name(f"{node_id}_output"), self.name(f"{node_id}_handle")]
        found = await self._store.cache.get_many(keys)
        return found.get(keys[0]), found.get(keys[1])

    async def keep_output(
        self, node_id: str, data: Any, handle: str | None, ttl: float | None
    ) -> None:
        """Cache the output of a node; None takes away the one before."""
        key, exit_key = self.name(f"{node_id}_output"), self.name(f"{node_id}_handle")
        if data is None:
            await self._store.cache.delete(key)
        elif handle is None:
            await self._store.cache.set(key, data, ttl=ttl)
        else:
            await self._store.cache.set_many({key: data, exit_key: handle}, ttl=ttl)

    async def clear(self, queues: list[str], loops: list[str], nodes: list[str]) -> None:
        """Remove everything that is kept for these, and the dead letters."""
        for queue in [*queues, DEAD_LETTERS]:
            await self._store.queue.clear(self.name(queue))
        for loop_id in loops:
            await self.forget_loop(loop_id)
        for node_id in nodes:
            for kind in ("output", "handle"):
                await self._store.cache.delete(self.name(f"{node_id}_{kind}"))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return what the call returns, trying again while the store cannot be reached."""
    pause = PAUSES[0]
    while True:
        try:
            return await call()
        except StorageUnavailableError as error:
            logger.warning("the data store is away: %s; trying again", error)
        await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - jitter
        pause = min(pause * 2, PAUSES[1])


def _opened(found: Any) -> Item | Stop:
    delivery = found if isinstance(found, Delivery) else None
    data: Any = found.data if isinstance(found, Delivery) else found
    if _is_stop(data):
        return Stop(data[STOP_KEY], data.get("queue", ""), delivery)
    return Item(data, delivery)


def _is_stop(data: object) -> bool:
    return isinstance(data, dict) and STOP_KEY in data


async def _give_back(asked: list[asyncio.Future[Any]]) -> None:
    """Put back what was received and not used; a store that is away does so by itself, later."""
    for future in asked:
        future.cancel()
    for found in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(found, Delivery):
            with suppress(StorageError):
                await found.release()
