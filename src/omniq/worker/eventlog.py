"""Events on their way to the store, in batches, without holding up what they report."""

from __future__ import annotations

import asyncio
import logging

from omniq.exceptions import OmniQError
from omniq.models.event import TaskEvent
from omniq.storage.base import BaseEventStorage

logger = logging.getLogger(__name__)
BATCH = 2000
LAZY_SECONDS = 0.02


class EventLog:
    """Appends events in order, one batch in flight at a time.

    Events tell of what is stored elsewhere: a batch the store refuses is logged and dropped.
    """

    def __init__(self, events: BaseEventStorage | None) -> None:
        self._events = events
        self._waiting: list[TaskEvent] = []
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, events: list[TaskEvent], *, lazily: bool = False) -> None:
        """Take events; `lazily` waits a moment (20 ms) for others to share the batch."""
        if self._events is None or not events:
            return
        self._waiting += events
        if self._flusher is not None:
            return
        if not lazily:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_SECONDS, self._start)

    async def drain(self) -> None:
        """Return when everything taken so far is stored."""
        self._start()
        while self._flusher is not None:
            await asyncio.shield(self._flusher)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flusher is None and self._waiting:
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        assert self._events is not None  # noqa: S101 - `add` takes nothing without a store
        try:
            while self._waiting:
                batch = self._waiting[:BATCH]
                del self._waiting[:BATCH]
                try:
                    await self._events.append(batch)
                except OmniQError as error:
                    logger.warning("%d events were not stored: %s", len(batch), error)
        finally:
            self._flusher = None
