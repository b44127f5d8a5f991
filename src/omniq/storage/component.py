"""What every stored component shares: opening and closing, in both faces."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from omniq.blocking import blocking
from omniq.exceptions import OmniQError
from omniq.loops import PerLoop
from omniq.models.finding import Finding
from omniq.storage.schemas import VersionedSchema

logger = logging.getLogger(__name__)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend promises beyond the contract; whatever it lacks it refuses, never ignores.

    Attributes:
        durable: what was acknowledged survives the end of the process.
        shared: several processes may use the same store at once.
        priorities: number of distinct priority levels; None for any integer.
        detects_death: a killed worker is noticed before its leases end.
        wakes: waiting is ended by a signal of the store rather than by polling.
        lease_seconds: how long a task stays with a silent worker, unless it says otherwise.
        heartbeat_seconds: how often a worker extends its leases at most.
        poll_seconds: how often a scheduler looks for new schedules at most.
        transactions: tasks can be stored as part of a transaction of the caller's.
    """

    durable: bool = True
    shared: bool = True
    priorities: int | None = None
    detects_death: bool = False
    wakes: bool = False
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 2.0
    poll_seconds: float = 1.0
    transactions: bool = False


C = TypeVar("C", bound="Component")


class Watch(Protocol):
    """Knows whether a store has moved; see `omniq.moving`."""

    @property
    def is_idle(self) -> bool:
        """Whether it is known at this moment that nothing moves: then nobody need be asked."""
        ...

    async def serving(self, component: C) -> C:
        """Return what serves the calls of this component now: itself, or what took its place."""
        ...

    async def confirm(self, task_ids: Sequence[str]) -> None:
        """See to tasks just written, should the queue have begun to move meanwhile."""
        ...

    async def findings(self) -> list[Finding]:
        """Return what is to be said of the move, if the store moves."""
        ...

    async def close(self) -> None:
        """Close what took the place of the components."""
        ...


class Component:
    """A queue or storage that is opened and closed; every method also opens it on first use."""

    capabilities: Capabilities = Capabilities()
    monitor_url: str | None = None
    """Where the server tells more about itself than in-band, for `findings`; only NATS needs it."""
    watch: Watch | None = None
    """Set by an application, so that its stores follow `omniq move`."""
    _is_open: bool = False

    async def connect(self) -> None:
        """Open the store. Idempotent.

        Raises:
            StorageError: the store cannot be opened; nothing is left half open.
        """
        if self._is_open:
            return
        gates: PerLoop[asyncio.Lock] = self.__dict__.setdefault("_gates", PerLoop(asyncio.Lock))
        async with gates.get():
            if not self._is_open:
                await self._open()
                self._is_open = True
                _open_components.add(self)

    async def disconnect(self) -> None:
        """Finish pending writes and close. Idempotent; a later call opens it again."""
        if self._is_open:
            self._is_open = False
            _open_components.discard(self)
            await self._close()

    async def close(self) -> None:
        """Close: another name of `disconnect`."""
        await self.disconnect()

    async def findings(self) -> list[Finding]:
        """Return what is fine, risky or broken about this component and its store, as found now.

        Changes nothing in the store, and ends within seconds, however much is stored.

        Raises:
            StorageError: the store cannot be opened or asked.
        """
        await self.connect()
        return await self._findings()

    async def is_missing(self) -> bool:
        """Whether there is no such store yet. Makes nothing; False where only opening can tell."""
        return not self._is_open and await self._is_missing()

    async def store_time(self) -> datetime | None:
        """Return what the store's own clock says; None where it has none of its own."""
        await self.connect()
        return await self._store_time()

    @property
    def store_name(self) -> str:
        """How findings call the store: its kind and place, without a password."""
        return repr(self)

    @property
    def examined(self) -> object:
        """What `findings` looks at: the same object for components that share a store."""
        return self

    async def _serving(self) -> Self:
        """Open; return the store that serves a call: this one, or what took its place."""
        if not self._is_open:
            await self.connect()
        watch = self.watch
        return self if watch is None or watch.is_idle else await watch.serving(self)

    @property
    def versioned_schema(self) -> VersionedSchema | None:
        """What keeps the versions of the tables; None where the store has none."""
        return None

    async def _open(self) -> None:
        """Make ready for use. Must bear being called again while open or by two at once."""

    async def _close(self) -> None:
        """Give back what `_open` took."""

    async def _findings(self) -> list[Finding]:
        """Look at the store; a finding about it names the store, not the component."""
        return []

    async def _store_time(self) -> datetime | None:
        """Ask the store for the time, if it keeps one."""
        return None

    async def _is_missing(self) -> bool:
        """Look, without opening, whether there is no such store; a look makes nothing."""
        schema = self.versioned_schema
        if schema is None:
            return False
        try:
            return (await schema.schema_state()).standing == "missing"
        finally:
            await schema.close(None)

    findings_sync = blocking(findings)
    is_missing_sync = blocking(is_missing)
    store_time_sync = blocking(store_time)
    connect_sync = blocking(connect)
    disconnect_sync = blocking(disconnect)
    close_sync = blocking(close)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def __enter__(self) -> Self:
        self.connect_sync()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disconnect_sync()


_open_components: weakref.WeakSet[Component] = weakref.WeakSet()


def _close_all() -> None:
    """Close what the program left open, so that nothing written is lost at exit."""
    for component in list(_open_components):
        try:
            component.disconnect_sync()
        except (OmniQError, RuntimeError) as error:
            logger.warning("closing %s at exit: %s", type(component).__name__, error)


# Functions registered with atexit run when threads can no longer be started; this hook of the
# interpreter, the one concurrent.futures uses, runs while they can. Last registered, first run:
# that of concurrent.futures has to be there before.
import_module("concurrent.futures.thread")
_at_exit: Any = getattr(threading, "_register_atexit", atexit.register)
_at_exit(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_components.clear)
