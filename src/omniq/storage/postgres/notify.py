"""Telling other processes: coalesced NOTIFYs, each in a transaction of its own.

A NOTIFY holds a lock of the whole database while it commits, so none is ever part of a transaction
that writes to disk. A queue that seemed empty is announced at once, one that had tasks waiting
already (whoever works on it is busy) at most 20 times a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from omniq.exceptions import StorageError
from omniq.storage.postgres.schema import Tables, lock_key
from omniq.storage.postgres.wake import Topic, Waiters

logger = logging.getLogger(__name__)

BUSY_QUEUE_SECONDS = 0.05
FINAL_SECONDS = 0.002
MOST_BYTES = 7_800
"""PostgreSQL takes 8,000 bytes a notification."""
Send = Callable[[list[tuple[str, str]]], Awaitable[None]]


class Channels(NamedTuple):
    """The notification channels of one namespace; named by a hash, as names may be long."""

    ready: str
    final: str

    @classmethod
    def of(cls, names: Tables) -> Channels:
        """Return the channels of this namespace."""
        key = lock_key(names, "channel") & 0xFFFF_FFFF_FFFF_FFFF
        return cls(f"omniq_ready_{key:016x}", f"omniq_final_{key:016x}")


class Notifier:
    """Gathers announcements of one event loop and sends them, one batch at a time.

    Args:
        channels: where to.
        token: marks what this process sent, so that it need not listen to itself.
        send: sends pairs of channel and message.
    """

    def __init__(self, channels: Channels, token: str, send: Send) -> None:
        self._channels, self._token, self._send = channels, token, send
        self._ready: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._final: list[str] = []
        self._final_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._sooner = asyncio.Event()

    def announce(self, ready: Mapping[str, bool], final: Iterable[str]) -> None:
        """Send soon: queues with work (True: it seemed empty before) and digests of final tasks."""
        now = time.monotonic()
        for queue, was_empty in ready.items():
            due = now if was_empty else self._sent.get(queue, 0.0) + BUSY_QUEUE_SECONDS
            if due < self._ready.get(queue, float("inf")):
                self._ready[queue] = due
                self._sooner.set()
        if final:
            self._final += final
        if self._task is None and (self._ready or self._final):
            self._task = asyncio.create_task(self._run(), name="omniq-postgres-notify")

    async def close(self) -> None:
        """Send what is left."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        """Send until nothing is left. Cancelled, it sends the rest at once: the loop is ending."""
        hurry = False
        try:
            while self._ready or self._final:
                try:
                    if not hurry:
                        await self._pause()
                    await self._send_due(time.monotonic() + (3600.0 if hurry else 0.0))
                except asyncio.CancelledError:
                    if hurry:
                        raise
                    hurry = True
        finally:
            self._task = None

    async def _pause(self) -> None:
        """Wait until the first announcement is due."""
        self._sooner.clear()
        due = min(self._ready.values(), default=float("inf"))
        if self._final:
            due = min(due, self._final_at + FINAL_SECONDS)
        delay = due - time.monotonic()
        if delay > 0:
            timer = asyncio.get_running_loop().call_later(delay, self._sooner.set)
            try:
                await self._sooner.wait()
            finally:
                timer.cancel()

    async def _send_due(self, now: float) -> None:
        queues = [queue for queue, due in self._ready.items() if due <= now]
        final: list[str] = []
        if self._final_at + FINAL_SECONDS <= now:
            final, self._final, self._final_at = self._final, [], time.monotonic()
        for queue in queues:
            del self._ready[queue]
            self._sent[queue] = time.monotonic()
        if len(self._sent) > 10_000:
            self._sent.clear()
        messages = [(self._channels.ready, text) for text in self._messages(queues)]
        messages += [(self._channels.final, text) for text in self._messages(final)]
        if messages:
            try:
                await self._send(messages)
            except StorageError as error:
                logger.debug("a wake-up was not sent: %s", error)

    def _messages(self, names: list[str]) -> list[str]:
        """Return the names as few messages as they fit in."""
        messages: list[str] = []
        start = 0
        while start < len(names):
            end, size = start, len(self._token) + 1
            while end < len(names) and size + len(names[end]) < MOST_BYTES:
                size += len(names[end]) + 1
                end += 1
            messages.append(f"{self._token};{','.join(names[start:end])}")
            start = end
        return messages


def hear(waiters: Waiters, own_token: str, topic: Topic, message: str) -> None:
    """Wake those whom a message concerns; what this process sent itself, they heard already."""
    token, _, names = message.partition(";")
    if token != own_token:
        waiters.wake(topic, names.split(","))
