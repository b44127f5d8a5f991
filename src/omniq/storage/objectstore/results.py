"""`ObjectResultStorage`: an object for each result.

``results/success/<task id>`` and ``results/failed/<task id>``. A result that follows one of the
other kind is written first, then the older is deleted; in between, and for good after a crash,
there are both, and the one of the later claim counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from random import uniform
from typing import NamedTuple

from omniq.clock import utcnow
from omniq.exceptions import SerializationError, StorageUnavailableError
from omniq.models.finding import Finding
from omniq.models.result import ResultStatus, TaskResult
from omniq.serialization import MAX_RESULT_BYTES, SerializationFormat
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.location import check_folder_name
from omniq.storage.objectstore.component import ObjectComponent
from omniq.storage.objectstore.damages import Damages
from omniq.storage.objectstore.driver import ABSENT, PAGE, Entry, ObjectDriver, Stored
from omniq.storage.objectstore.expiries import Expiries, Expiry
from omniq.storage.objectstore.known import KnownObjects
from omniq.storage.objectstore.together import commonprefix, rounds, together
from omniq.storage.results import BaseResultStorage

logger = logging.getLogger("omniq.storage.objectstore")

FOLDERS = tuple(status.value for status in ResultStatus)
TRIES = 50
MANY = 500
"""How many of each kind the doctor reads."""
READ_AT_ONCE = 64
LIST_FROM = 13
"""From so many keys on, one listing costs less than asking for each."""
RESTORE_SECONDS = 1.0
"""The longest pause before a result is written again that another writer deleted."""
_POLL_SECONDS = (0.05, 1.0)


class Written(NamedTuple):
    """A result as it was written."""

    key: str
    result: TaskResult
    data: bytes
    version: str


class Standing(NamedTuple):
    """A result as it was found, and where."""

    key: str
    data: bytes
    version: str
    result: TaskResult | None
    """None if it is damaged."""


class ObjectResultStorage(ObjectComponent, BaseResultStorage):
    """Results in an object store.

    Args:
        driver: of the store.
        results_dir: name of the folder.
        serialization_format, compression: of new results; each says its own format when read.
    """

    def __init__(
        self,
        driver: ObjectDriver,
        *,
        results_dir: str = "results",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
    ) -> None:
        ObjectComponent.__init__(self, driver)
        BaseResultStorage.__init__(self)
        self._folder = check_folder_name("results_dir", results_dir)
        self._known = KnownObjects()
        self._damages = Damages(driver, self._folder)
        self._expiries = Expiries(driver, f"{self._folder}/.expiry/", self._damages)
        self._codec = FileCodec(
            TaskResult,
            ("result",),
            format=serialization_format,
            compression=compression,
            limit=MAX_RESULT_BYTES,
        )

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskResult | None:
        """Return the result as soon as there is one; None after `timeout` seconds (None: never)."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        pause, longest = _POLL_SECONDS
        while True:
            found = await self.get(task_id)
            left = longest if ends_at is None else ends_at - time.monotonic()
            if found is not None or left <= 0:
                return found
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        encoded = [self._codec.encode(result) for result in results]
        now = utcnow()
        await self._expiries.announce(
            Expiry(self._key(result.status.value, result.task_id), result.expires_at)
            for result in results
            if result.expires_at is not None
        )
        stands = [False] * len(results)
        for places in rounds([result.task_id for result in results]):
            made = await together(self._write(results[n], encoded[n], now) for n in places)
            written = {n: version for n, version in zip(places, made, strict=True) if version}
            rivals = await self._rivals([results[n] for n in written])
            kept = await together(
                self._outdo(self._written(results[n], encoded[n], version), rival, now)
                for (n, version), rival in zip(written.items(), rivals, strict=True)
            )
            for n, stays in zip(written, kept, strict=True):
                stands[n] = stays
        return stands

    async def _write(self, result: TaskResult, data: bytes, now: datetime) -> str | None:
        """Write a result; return the version, or None if one of a later claim stands."""
        key = self._key(result.status.value, result.task_id)
        version = await self._driver.put(key, data, expected=ABSENT)
        if version is None:
            version = await self._replace(key, result, data, now)
        if version is not None:
            self._known.add(key, Stored(data, version))
        return version

    def _written(self, result: TaskResult, data: bytes, version: str) -> Written:
        return Written(self._key(result.status.value, result.task_id), result, data, version)

    async def _rivals(self, results: list[TaskResult]) -> list[Standing | None]:
        """Return the results of the other kind that stand for these tasks.

        Looked for after writing: of two that write at once at least one finds the other.
        """
        keys = [self._key(_other(result.status), result.task_id) for result in results]
        if len(keys) >= LIST_FROM:
            start = commonprefix(keys)
            entries = await self._driver.list(start, limit=PAGE)
            if len(entries) < PAGE:
                there = {entry.key for entry in entries}
                return await together(self._standing(key, key in there) for key in keys)
        return await together(self._standing(key) for key in keys)

    async def _outdo(self, ours: Written, rival: Standing | None, now: datetime) -> bool:
        """Delete an older result of the other kind, or our own if that is of a later claim.

        Whoever wrote the other at the same time may take ours for older, too. So who deleted one
        looks whether its own is still there.
        """
        while rival is not None:
            if _is_later(rival, ours.result, now):
                await self._driver.remove(ours.key, ours.version)
                return False
            if not await self._driver.remove(rival.key, rival.version):
                rival = await self._standing(rival.key)
            elif await self._driver.get(ours.key) is not None:
                return True
            else:
                return await self._restore(ours, rival.key, now)
        return True

    async def _restore(self, ours: Written, rival_key: str, now: datetime) -> bool:
        """Write a result again where two writers deleted each other's, unless the other did so."""
        await asyncio.sleep(uniform(0, RESTORE_SECONDS))  # noqa: S311 - so that one is first
        rival = await self._standing(rival_key)
        if rival is not None and _lives(rival, now) and _is_of_claim(rival, ours.result):
            return True
        version = await self._write(ours.result, ours.data, now)
        if version is None:
            return False
        restored = ours._replace(version=version)
        return await self._outdo(restored, await self._standing(rival_key), now)

    async def _replace(
        self, key: str, result: TaskResult, data: bytes, now: datetime
    ) -> str | None:
        """Write over a result; return the version, or None if one of a later claim stands."""
        for _ in range(TRIES):
            standing = await self._standing(key)
            if standing is not None and _is_later(standing, result, now):
                return None
            expected = ABSENT if standing is None else standing.version
            version = await self._driver.put(key, data, expected=expected)
            if version is not None:
                return version
        raise StorageUnavailableError(
            f"{self._driver}: result {result.task_id} kept changing; try again"
        )

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        moment = now or utcnow()
        return await together(self._fresh(task_id, moment) for task_id in task_ids)

    async def _delete(self, task_ids: list[str]) -> int:
        now = utcnow()
        found = await together(self._all(task_id) for task_id in dict.fromkeys(task_ids))
        await self._driver.delete([one.key for standing in found for one in standing])
        return sum(any(_lives(one, now) for one in standing) for standing in found)

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        moment = now or utcnow()
        page: list[TaskResult] = []
        while len(page) < limit:
            ids, last = await self._ids(after or "", limit)
            found = await together(self._tolerant(*pair, moment) for pair in ids)
            page += [result for result in found if result is not None]
            if last is None:
                break
            after = last
        return page[:limit]

    async def _ids(
        self, after: str, limit: int
    ) -> tuple[list[tuple[str, list[Entry]]], str | None]:
        """Return ids greater than `after` with what lies there for each, and where to go on."""
        lists = await together(self._listed(folder, after, limit) for folder in FOLDERS)
        found: dict[str, list[Entry]] = {}
        for entry in (entry for entries in lists for entry in entries):
            found.setdefault(_id(entry), []).append(entry)
        # Beyond the end of a full list the other list knows only a part.
        ends = [_id(entries[-1]) for entries in lists if len(entries) == limit]
        last = min(ends) if ends else None
        wanted = sorted(task_id for task_id in found if last is None or task_id <= last)
        return [(task_id, found[task_id]) for task_id in wanted], last

    async def _listed(self, folder: str, after: str, limit: int) -> list[Entry]:
        start = self._key(folder, "")
        return await self._driver.list(start, after=after and start + after, limit=limit)

    async def _purge(self, now: datetime | None, limit: int) -> int:
        moment = now or utcnow()

        async def is_deleted(expiry: Expiry) -> bool:
            standing = await self._standing(expiry.key)
            if standing is None or _lives(standing, moment):
                return False
            if standing.result is None:
                await self._damages.set_aside(expiry.key, standing.data)
            return await self._driver.remove(expiry.key, standing.version)

        return await self._expiries.purge(moment, limit, is_deleted)

    async def _findings(self) -> list[Finding]:
        """Read what is there, a page at most, and report what cannot be read."""
        lists = await together(self._listed(folder, "", MANY) for folder in FOLDERS)
        entries = [entry for found in lists for entry in found]
        for start in range(0, len(entries), READ_AT_ONCE):
            part = entries[start : start + READ_AT_ONCE]
            read = await together(map(self._read, part))
            for entry, stored in zip(part, read, strict=True):
                self._check(entry.key, stored)
        hint = "run its task again, which replaces it, or delete it: `omniq tasks retry ID`"
        return await self._damages.findings(repr(self), hint)

    def _check(self, key: str, stored: Stored | None) -> None:
        """Note whether an object is a result."""
        self._damages.forget(key)
        if stored is not None:
            self._decoded(key, stored)

    async def _tolerant(
        self, task_id: str, entries: list[Entry], now: datetime
    ) -> TaskResult | None:
        """Return a result unless it is gone, expired or damaged: one must not hide the others."""
        try:
            return self._newest(await together(map(self._read, entries)), now)
        except SerializationError as error:
            logger.warning("skipped result %s in %s: %s", task_id, self._driver, error)
            return None

    async def _read(self, entry: Entry) -> Stored | None:
        """Return what was listed, without asking if that very version is known."""
        known = self._known.get(entry.key)
        if known is not None and known.version == entry.version:
            return known
        found = await self._driver.get(entry.key)
        if found is not None:
            self._known.add(entry.key, found)
        return found

    async def _fresh(self, task_id: str, now: datetime) -> TaskResult | None:
        keys = (self._key(folder, task_id) for folder in FOLDERS)
        return self._newest(await together(map(self._driver.get, keys)), now)

    def _newest(self, stored: list[Stored | None], now: datetime) -> TaskResult | None:
        found = [self._codec.decode(one.data) for one in stored if one is not None]
        newest: TaskResult | None = max(found, key=_order, default=None)
        return newest if newest is None or _is_current(newest, now) else None

    async def _all(self, task_id: str) -> list[Standing]:
        keys = [self._key(folder, task_id) for folder in FOLDERS]
        found = await together(self._standing(key) for key in keys)
        return [one for one in found if one is not None]

    async def _standing(self, key: str, is_there: bool = True) -> Standing | None:
        stored = await self._driver.get(key) if is_there else None
        return None if stored is None else Standing(key, *stored, self._decoded(key, stored))

    def _decoded(self, key: str, stored: Stored) -> TaskResult | None:
        try:
            result: TaskResult = self._codec.decode(stored.data)
        except SerializationError as error:
            self._damages.note(key, error.problem)
            return None  # damaged: may be replaced
        return result

    def _key(self, folder: str, task_id: str) -> str:
        return f"{self._folder}/{folder}/{task_id}"


def _other(status: ResultStatus) -> str:
    """Return the folder of results that ended in the other way."""
    return next(folder for folder in FOLDERS if folder != status.value)


def _id(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _order(result: TaskResult) -> tuple[int, datetime]:
    return result.claim_count, result.stored_at


def _is_current(result: TaskResult, now: datetime) -> bool:
    return result.expires_at is None or result.expires_at > now


def _lives(standing: Standing, now: datetime) -> bool:
    return standing.result is not None and _is_current(standing.result, now)


def _is_later(standing: Standing, result: TaskResult, now: datetime) -> bool:
    """Whether what stands keeps this result out."""
    found = standing.result
    return found is not None and _is_current(found, now) and found.claim_count > result.claim_count


def _is_of_claim(standing: Standing, result: TaskResult) -> bool:
    """Whether both are of the same claim."""
    found = standing.result
    return found is not None and found.claim_count == result.claim_count
