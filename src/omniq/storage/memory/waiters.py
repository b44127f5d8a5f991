"""Waiting for a name to be announced, in any thread and event loop, without polling."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from omniq.clock import utcnow

LONGEST_SLEEP_SECONDS = 86_400.0
Due = Callable[[datetime], datetime | None]


class Waiters:
    """Futures by the names they wait for.

    `announce` is called while holding the lock given, `wait` takes it: a name announced between
    the last look of a waiter and its sleep is never missed.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._by_name: dict[str, dict[asyncio.Future[None], datetime]] = {}

    async def wait(self, names: Iterable[str], seconds: float, due: Due) -> None:
        """Return when one of `names` is announced, after `seconds` at the latest.

        Args:
            names: any of these.
            seconds: the longest sleep; capped to a day.
            due: asked once, under the lock and with the present moment, from which moment on there
                is nothing to wait for; None when only an announcement can bring it.
        """
        now = utcnow()
        until = now + timedelta(seconds=min(seconds, LONGEST_SLEEP_SECONDS))
        names = list(names)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            until = min(until, due(now) or until)
            if until > now:
                self._add(names, future, until)
        if until <= now:
            await asyncio.sleep(0)  # callers loop: let others run
            return
        try:
            await _sleep(future, (until - now).total_seconds())
        finally:
            with self._lock:
                self._remove(names, future)

    def announce(self, name: str, due: datetime | None = None) -> None:
        """Wake who waits for `name`; with `due`, only those who meant to sleep beyond it."""
        waiting = self._by_name.get(name)
        if not waiting:
            return
        for future in [one for one, until in waiting.items() if due is None or due < until]:
            del waiting[future]
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits there
                future.get_loop().call_soon_threadsafe(_finish, future)

    def _add(self, names: list[str], future: asyncio.Future[None], until: datetime) -> None:
        for name in names:
            self._by_name.setdefault(name, {})[future] = until

    def _remove(self, names: list[str], future: asyncio.Future[None]) -> None:
        for name in names:
            waiting = self._by_name.get(name)
            if waiting is not None:
                waiting.pop(future, None)
                if not waiting:
                    del self._by_name[name]


async def _sleep(future: asyncio.Future[None], seconds: float) -> None:
    timer = future.get_loop().call_later(seconds, _finish, future)
    try:
        await future
    finally:
        timer.cancel()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
