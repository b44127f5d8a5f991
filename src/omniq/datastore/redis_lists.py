"""Queues as Redis lists: LPUSH, BRPOP, LLEN; scripts for what is on approval."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from omniq.datastore.connection import Lists, Text
from omniq.datastore.redis_taking import Taking, Undo
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.storage.redis.server import LONGEST_BLOCK_SECONDS

if TYPE_CHECKING:
    from omniq.datastore.redis import RedisConnection

logger = logging.getLogger(__name__)

TEXTS_PER_PUSH = 10_000
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class RedisLists(Lists):
    """Lists as Redis lists. See `Lists`."""

    def __init__(self, prefix: str, connection: RedisConnection) -> None:
        super().__init__(prefix)
        self._connection = connection

    async def push(self, name: str, texts: Sequence[str]) -> None:
        """See `Lists.push`."""
        key = self.key(name)
        if len(texts) <= TEXTS_PER_PUSH:
            await self._connection.call("LPUSH", key, *texts)
            return
        starts = range(0, len(texts), TEXTS_PER_PUSH)
        await self._connection.atomically(
            [("LPUSH", key, *texts[start : start + TEXTS_PER_PUSH]) for start in starts]
        )

    async def take(self, names: Sequence[str], seconds: float | None) -> tuple[str, Text] | None:
        """See `Lists.take`."""
        by_key = {self.key(name).encode(): name for name in names}
        if seconds == 0:
            return await self._take_now(by_key)
        wait = _Wait(self._connection, seconds)
        while (held := wait.slice()) is not None:
            taking = Taking(self._connection, self._put_back_popped, blocks=True)
            try:
                found = await taking.run("BRPOP", *by_key, f"{held:.3f}", seconds=held)
            except StorageUnavailableError as error:
                wait.has_reached |= taking.was_sent
                await wait.after(error)
                continue
            wait.answered()
            if found is not None:
                return by_key[found[0]], found[1]
        return None

    async def length(self, name: str) -> int:
        """See `Lists.length`."""
        return int(await self._connection.call("LLEN", self.key(name), again=True))

    async def clear(self, name: str) -> int:
        """See `Lists.clear`."""
        keys = self._keys(name)
        count, _ = await self._connection.atomically([("LLEN", keys[0]), ("DEL", *keys)])
        return int(count)

    async def lease(
        self, name: str, receipt: str, lease_seconds: float, seconds: float | None
    ) -> Text | None:
        """See `Lists.lease`."""
        wait = _Wait(self._connection, seconds)
        while True:
            try:
                text, pause = await self._lease_now(name, receipt, lease_seconds, wait)
                wait.answered()
                held = wait.slice(pause)
                if text is not None or held is None:
                    return text
                await self._wait_for_items(name, held)
            except StorageUnavailableError as error:
                await wait.after(error)

    async def settle(self, name: str, receipt: str, *, put_back: bool) -> bool:
        """See `Lists.settle`."""
        return bool(await self._run("settle", name, receipt, int(put_back)))

    async def extend(self, name: str, receipt: str, lease_seconds: float) -> bool:
        """See `Lists.extend`."""
        return bool(await self._run("extend", name, receipt, _micros(lease_seconds)))

    def _keys(self, name: str) -> tuple[str, str, str]:
        """Return the keys of the list and of what is leased from it: ends, items."""
        return self.key(name), f"{self._prefix}leases:{name}", f"{self._prefix}leased:{name}"

    async def _run(self, script: str, name: str, *arguments: str | int) -> Any:
        return await self._connection.call(*_evaluation(script, self._keys(name), *arguments))

    async def _take_now(self, by_key: dict[bytes, str]) -> tuple[str, Text] | None:
        for key, name in by_key.items():
            undo: Undo = partial(self._put_back, key)
            text = await Taking(self._connection, undo).run("RPOP", key)
            if text is not None:
                return name, text
        return None

    async def _lease_now(
        self, name: str, receipt: str, lease_seconds: float, wait: _Wait
    ) -> tuple[Text | None, float]:
        """Return an item, or None and the seconds until the next lease ends.

        Asked again with the same receipt, it finds what an answer that got lost had brought.
        """

        async def undo(answer: Any) -> None:
            if answer[0] is not None:
                await self.settle(name, receipt, put_back=True)

        command = _evaluation("lease", self._keys(name), receipt, _micros(lease_seconds))
        taking = Taking(self._connection, undo)
        try:
            answer = await taking.run(*command)
        finally:
            wait.has_reached |= taking.was_sent
        text: Text | None = answer[0]
        if text is None and answer[1] > 0:
            return None, answer[1] / 1_000_000
        return text, LONGEST_BLOCK_SECONDS

    async def _wait_for_items(self, name: str, held: float) -> None:
        """Return when the list has an item, after `held` seconds at the latest.

        Moving the last item of a list to where it is changes nothing, but waits for one. So
        nothing is lost with the connection, or if this call is cancelled.
        """

        async def undo(_: Any) -> None:
            pass

        key = self.key(name)
        taking = Taking(self._connection, undo, blocks=True)
        await taking.run("BLMOVE", key, key, "RIGHT", "RIGHT", f"{held:.3f}", seconds=held)

    async def _put_back_popped(self, answer: Any) -> None:
        await self._put_back(*answer)

    async def _put_back(self, key: bytes, text: bytes) -> None:
        try:
            await self._connection.call("RPUSH", key, text)
        except StorageError as error:
            logger.error("an item of the cancelled pop from %s is lost: %s", key, error)  # noqa: TRY400 - the cause is in it


class _Wait:
    """The time a call may take, in slices, with growing pauses while the server is away.

    Attributes:
        has_reached: whether the server was there once, so that it is worth waiting for.
    """

    def __init__(self, connection: RedisConnection, seconds: float | None) -> None:
        self._connection = connection
        self._closings = connection.closings
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self.has_reached = False
        self._pause = FIRST_PAUSE_SECONDS
        self._error: StorageUnavailableError | None = None

    def answered(self) -> None:
        """Note that the server is there."""
        self.has_reached = True
        self._pause = FIRST_PAUSE_SECONDS
        self._error = None

    def slice(self, longest: float = LONGEST_BLOCK_SECONDS) -> float | None:
        """Return how long the server may hold the next call; None when the time is up.

        Raises:
            StorageUnavailableError: the time is up, and the server is still away.
        """
        longest = max(0.001, min(longest, LONGEST_BLOCK_SECONDS))
        left = longest if self._ends_at is None else self._ends_at - time.monotonic()
        if left > 0:
            return max(0.001, min(left, longest))
        if self._error is not None:
            raise self._error
        return None

    async def after(self, error: StorageUnavailableError) -> None:
        """Let a server that went away come back; one that was never reached is an error at once."""
        self._connection.check_not_closed(self._closings)
        held = self.slice(self._pause)
        if held is None or not self.has_reached:
            raise error
        if self._error is None:
            logger.warning("waiting for the server to come back: %s", error)
        self._error = error
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(held)


def _evaluation(script: str, keys: tuple[str, ...], *arguments: str | int) -> tuple[Any, ...]:
    """Return the command that runs a script; the server compiles each one only once."""
    return ("EVAL", _source(script), len(keys), *keys, *arguments)


@cache
def _source(script: str) -> str:
    return files(__package__ or "").joinpath("lua", f"{script}.lua").read_text(encoding="utf-8")


def _micros(seconds: float) -> int:
    return max(1, round(seconds * 1_000_000))
