"""When results expire: a small object for each batch, so that purging lists no results.

``<folder>/<moment of the first>-<nonce>`` holds a line ``[key, moment]`` for each result of the
batch (moments in microseconds). It is written before the results: a result nobody would purge
cannot come about, and a line without a result does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

import msgspec

from omniq.clock import from_micros, to_micros
from omniq.storage.objectstore.damages import Damages
from omniq.storage.objectstore.driver import ABSENT, PAGE, ObjectDriver, Stored
from omniq.storage.objectstore.together import together

_DIGITS = 17
_AT_ONCE = 100
_IS_OURS = re.compile(rf"\d{{{_DIGITS}}}-\w+", re.ASCII).fullmatch
_decode = msgspec.json.Decoder(list[tuple[int, str]]).decode


class Expiry(NamedTuple):
    """When what is at a key expires."""

    key: str
    at: datetime


class Expiries:
    """The moments at which objects expire, in the order of these moments.

    Args:
        driver: of the store.
        folder: with a slash at its end.
        damages: takes batches that cannot be read.
    """

    def __init__(self, driver: ObjectDriver, folder: str, damages: Damages) -> None:
        self._driver = driver
        self._folder = folder
        self._damages = damages

    async def announce(self, expiries: Iterable[Expiry]) -> None:
        """Write down when the objects of a batch, still to be written, expire."""
        lines = sorted((to_micros(one.at), one.key) for one in expiries)
        if lines:
            await self._driver.put(self._name(lines[0][0]), _encoded(lines), expected=ABSENT)

    async def purge(
        self, now: datetime, limit: int, delete: Callable[[Expiry], Awaitable[bool]]
    ) -> int:
        """Offer what is due to `delete` until it took `limit`; return how many it took."""
        taken, moment = 0, to_micros(now)
        while names := await self._batches():
            for name in names:
                if taken >= limit or self._moment(name) > moment:
                    return taken
                stored = await self._driver.get(name)
                if stored is not None:
                    taken += await self._work_off(name, stored, moment, limit - taken, delete)
        return taken

    async def _batches(self) -> list[str]:
        """Return the names of the first batches; what has no name of ours is left alone."""
        names = [entry.key for entry in await self._driver.list(self._folder, limit=PAGE)]
        return [name for name in names if _IS_OURS(name.removeprefix(self._folder))]

    async def _work_off(
        self,
        name: str,
        stored: Stored,
        moment: int,
        limit: int,
        delete: Callable[[Expiry], Awaitable[bool]],
    ) -> int:
        """Offer the due lines of one batch; what is left of it is written anew, then it goes."""
        try:
            lines = _decode(stored.data)
        except msgspec.MsgspecError:
            await self._damages.set_aside(name, stored.data)
            lines = []
        due = [line for line in lines if line[0] <= moment]
        taken = done = 0
        while done < len(due) and taken < limit:
            offered = due[done : done + min(_AT_ONCE, limit - taken)]
            taken += sum(
                await together(_offer(delete, Expiry(key, from_micros(at))) for at, key in offered)
            )
            done += len(offered)
        rest = due[done:] + lines[len(due) :]
        if rest:
            await self._driver.put(self._name(rest[0][0]), _encoded(rest), expected=ABSENT)
        await self._driver.delete([name])
        return taken

    def _name(self, micros: int) -> str:
        return f"{self._folder}{max(micros, 0):0{_DIGITS}d}-{uuid4().hex}"

    def _moment(self, name: str) -> int:
        return int(name.removeprefix(self._folder).partition("-")[0])


async def _offer(delete: Callable[[Expiry], Awaitable[bool]], expiry: Expiry) -> bool:
    return await delete(expiry)


def _encoded(lines: list[tuple[int, str]]) -> bytes:
    return msgspec.json.encode(lines)
