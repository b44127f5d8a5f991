"""The snapshots of a log, and what may be deleted because of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from omniq.storage.objectstore.driver import ABSENT, PAGE, Entry, ObjectDriver
from omniq.storage.objectstore.frames import Content, unpack

_PAGES_TRIMMED = 4


class Snapshots:
    """Objects with the whole state as of a segment, named by its number.

    Args:
        driver: open.
        segments, folder: the folders of the segments and of the snapshots.
        trim_age: how old a snapshot must be before what it covers is deleted.
    """

    def __init__(
        self, driver: ObjectDriver, *, segments: str, folder: str, trim_age: timedelta
    ) -> None:
        self._driver = driver
        self._segments = segments
        self._folder = folder
        self._trim_age = trim_age
        self._sizes: dict[int, int] = {}

    async def numbers(self) -> list[int]:
        """Return the numbers of the snapshots there are, ascending."""
        self._sizes = {_number(entry): entry.size for entry in await self._entries()}
        return list(self._sizes)

    async def read(self, number: int) -> Content | None:
        """Return what is in a snapshot; None if it was deleted."""
        size = self._sizes.get(number, 0)  # may be large: a deadline that knows
        stored = await self._driver.get(self.key(number), size=size)
        return None if stored is None else unpack(stored.data)

    async def save(self, number: int, data: bytes) -> None:
        """Write a snapshot, then delete what the store no longer needs."""
        await self._driver.put(self.key(number), data, expected=ABSENT)
        await self.trim()

    async def trim(self) -> None:
        """Delete what is covered by a snapshot that is old enough; a bounded number at a time.

        Snapshots go first: one that is listed has all its later segments.
        """
        entries = await self._entries()
        covered = self._covered(entries)
        if not covered:
            return
        await self._driver.delete([entry.key for entry in entries if _number(entry) < covered])
        for _ in range(_PAGES_TRIMMED):
            page = await self._driver.list(f"{self._segments}/", limit=PAGE)
            old = [entry.key for entry in page if _number(entry) <= covered]
            await self._driver.delete(old)
            if len(old) < PAGE:
                break

    def key(self, number: int) -> str:
        """Return the key of a snapshot."""
        return key_of(self._folder, number)

    def _covered(self, entries: Sequence[Entry]) -> int:
        """Return the newest number that nobody who is current needs; 0 if there is none.

        The age of a snapshot is that of the youngest beside it, by the clock of the store: rather
        too little than too much. Where one process is alone, age does not matter.
        """
        if not self._driver.is_conditional:
            return max(map(_number, entries), default=0)
        moments = [entry.modified_at for entry in entries if entry.modified_at is not None]
        youngest = max(moments, default=None)
        if youngest is None:
            return 0
        return max(
            (
                _number(entry)
                for entry in entries
                if entry.modified_at is not None and youngest - entry.modified_at > self._trim_age
            ),
            default=0,
        )

    async def _entries(self) -> list[Entry]:
        found: list[Entry] = []
        while True:
            after = found[-1].key if found else ""
            page = await self._driver.list(f"{self._folder}/", after=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                return [entry for entry in found if _name(entry).isdecimal()]


def key_of(folder: str, number: int) -> str:
    """Return the key of a numbered object; keys sort as their numbers do."""
    return f"{folder}/{number:012d}"


def _name(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _number(entry: Entry) -> int:
    return int(_name(entry))
