"""Being told: subscriptions that end a wait early. Nothing is lost with a signal but time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from omniq.storage.nats.frames import Delivery, Frame
from omniq.storage.nats.link import NATSServer

if TYPE_CHECKING:
    from omniq.storage.nats.wire import Wire

Heard = Callable[[float], Awaitable[bool]]


class Signals:
    """Listens and speaks on plain subjects of a server."""

    def __init__(self, server: NATSServer) -> None:
        self._server = server

    @asynccontextmanager
    async def listening(self, subjects: Sequence[str]) -> AsyncGenerator[Heard]:
        """Listen within the block: ``await heard(seconds)`` is whether something came in time.

        Whatever is asked of the server within the block sees all that was stored before the
        listening began.
        """
        event = asyncio.Event()

        async def begin(wire: Wire) -> tuple[Wire, list[int]]:
            return wire, [wire.listen(subject, _setter(event), once=True) for subject in subjects]

        async def heard(seconds: float) -> bool:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
            return event.is_set()

        wire, sids = await self._server.call(begin)
        wire.when_lost(event.set)
        try:
            yield heard
        finally:
            wire.when_lost(event.set, forget=True)
            for sid in sids:
                wire.unlisten(sid)

    async def tell(self, subjects: Sequence[str]) -> None:
        """Say something on each subject, to whoever listens now."""

        async def speak(wire: Wire) -> None:
            wire.post([Frame(subject) for subject in subjects])

        if subjects:
            await self._server.call(speak)


def _setter(event: asyncio.Event) -> Callable[[Delivery], None]:
    def hear(_: Delivery) -> None:
        event.set()

    return hear


class Ears:
    """Subscriptions of one event loop that outlast a wait, so that no signal falls between two.

    Each hears one signal at most before it is renewed: a busy process is told once, not each time.
    """

    def __init__(self, server: NATSServer) -> None:
        self._server = server
        self._listening: dict[str, tuple[asyncio.Event, Wire]] = {}

    async def listen(self, patterns: Sequence[str]) -> bool:
        """Listen on each pattern; whether that is new for one of them.

        If so, what came before may have gone unheard: look once.
        """
        silent = [pattern for pattern in patterns if pattern not in self._listening]
        if not silent:
            return False

        async def begin(wire: Wire) -> None:
            for pattern in silent:
                event = asyncio.Event()
                wire.listen(pattern, _setter(event), once=True)
                wire.when_lost(event.set)
                self._listening[pattern] = event, wire

        await self._server.call(begin)
        return True

    async def heard(self, patterns: Sequence[str], seconds: float) -> set[str]:
        """Wait until something is heard; return on which patterns, which ends their listening.

        The end of the connection ends it too, but nothing was heard then.
        """
        events = {pattern: self._listening[pattern][0] for pattern in patterns}
        waits = [asyncio.ensure_future(event.wait()) for event in events.values()]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        heard: set[str] = set()
        for pattern, event in events.items():
            known = self._listening.get(pattern)
            if not event.is_set():
                continue
            if known is not None and known[0] is event:
                del self._listening[pattern]
                known[1].when_lost(event.set, forget=True)
            if known is None or not known[1].is_closed:
                heard.add(pattern)
        return heard
