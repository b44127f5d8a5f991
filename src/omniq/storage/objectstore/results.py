"""`ObjectResultStorage`: an object for each result.

``results/success/<task id>`` and ``results/failed/<task id>``. A result that follows one of the
other kind is written first, then the older is deleted; in between, and for good after a crash,
there are both, and the one of the later claim counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from omniq.clock import utcnow
from omniq.exceptions import SerializationError, StorageUnavailableError
from omniq.models.result import ResultStatus, TaskResult
from omniq.serialization import MAX_RESULT_BYTES, SerializationFormat
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.location import check_folder_name
from omniq.storage.objectstore.component import ObjectComponent
from omniq.storage.objectstore.driver import ABSENT, ObjectDriver, Stored
from omniq.storage.objectstore.expiries import Expiries, Expiry
from omniq.storage.objectstore.together import both, together
from omniq.storage.results import BaseResultStorage

logger = logging.getLogger("omniq.storage.objectstore")

FOLDERS = tuple(status.value for status in ResultStatus)
TRIES = 50
_POLL_SECONDS = (0.05, 1.0)


class Standing(NamedTuple):
    """A result as it was found, and where."""

    key: str
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
        self._expiries = Expiries(driver, f"{self._folder}/.expiry/")
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
        places: dict[str, list[int]] = {}
        for n, result in enumerate(results):
            places.setdefault(result.task_id, []).append(n)
        stands = [False] * len(results)

        async def put_in_order(numbers: list[int]) -> None:
            for n in numbers:
                stands[n] = await self._put(results[n], encoded[n], now)

        await together(put_in_order(numbers) for numbers in places.values())
        return stands

    async def _put(self, result: TaskResult, data: bytes, now: datetime) -> bool:
        """Write a result unless one of a later claim stands."""
        own, other = (self._key(folder, result.task_id) for folder in _folders(result.status))
        version, rival = await both(
            self._driver.put(own, data, expected=ABSENT), self._standing(other)
        )
        if version is None:
            version = await self._replace(own, result, data, now)
        while version is not None and rival is not None:
            if _is_later(rival, result, now):
                await self._driver.remove(own, version)
                return False
            if await self._driver.remove(other, rival.version):
                break
            rival = await self._standing(other)
        return version is not None

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
        return await together(self._newest(task_id, FOLDERS, moment) for task_id in task_ids)

    async def _delete(self, task_ids: list[str]) -> int:
        now = utcnow()
        found = await together(self._all(task_id, FOLDERS) for task_id in dict.fromkeys(task_ids))
        await self._driver.delete([one.key for standing in found for one in standing])
        return sum(any(_lives(one, now) for one in standing) for standing in found)

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        moment = now or utcnow()
        page: list[TaskResult] = []
        while len(page) < limit:
            ids, last = await self._ids(after or "", limit)
            found = await together(
                self._tolerant(task_id, folders, moment) for task_id, folders in ids
            )
            page += [result for result in found if result is not None]
            if last is None:
                break
            after = last
        return page[:limit]

    async def _ids(self, after: str, limit: int) -> tuple[list[tuple[str, list[str]]], str | None]:
        """Return ids greater than `after` with the folders they are in, and where to go on."""
        lists = await both(*(self._listed(folder, after, limit) for folder in FOLDERS))
        folders: dict[str, list[str]] = {}
        for folder, ids in zip(FOLDERS, lists, strict=True):
            for task_id in ids:
                folders.setdefault(task_id, []).append(folder)
        # Beyond the end of a full list the other list knows only a part.
        ends = [ids[-1] for ids in lists if len(ids) == limit]
        last = min(ends) if ends else None
        wanted = sorted(task_id for task_id in folders if last is None or task_id <= last)
        return [(task_id, folders[task_id]) for task_id in wanted], last

    async def _listed(self, folder: str, after: str, limit: int) -> list[str]:
        start = self._key(folder, "")
        entries = await self._driver.list(start, after=after and start + after, limit=limit)
        return [entry.key.removeprefix(start) for entry in entries]

    async def _purge(self, now: datetime | None, limit: int) -> int:
        moment = now or utcnow()

        async def is_deleted(expiry: Expiry) -> bool:
            standing = await self._standing(expiry.key)
            if standing is None or standing.result is None or _lives(standing, moment):
                return False
            return await self._driver.remove(expiry.key, standing.version)

        return await self._expiries.purge(moment, limit, is_deleted)

    async def _tolerant(
        self, task_id: str, folders: Iterable[str], now: datetime
    ) -> TaskResult | None:
        """Return a result unless it is absent, expired or damaged: one must not hide the others."""
        try:
            return await self._newest(task_id, folders, now)
        except SerializationError as error:
            logger.warning("skipped result %s in %s: %s", task_id, self._driver, error)
            return None

    async def _newest(
        self, task_id: str, folders: Iterable[str], now: datetime
    ) -> TaskResult | None:
        keys = [self._key(folder, task_id) for folder in folders]
        stored = await together(self._driver.get(key) for key in keys)
        found = [self._codec.decode(one.data) for one in stored if one is not None]
        newest: TaskResult | None = max(found, key=_order, default=None)
        return newest if newest is None or _is_current(newest, now) else None

    async def _all(self, task_id: str, folders: Iterable[str]) -> list[Standing]:
        keys = [self._key(folder, task_id) for folder in folders]
        found = await together(self._standing(key) for key in keys)
        return [one for one in found if one is not None]

    async def _standing(self, key: str) -> Standing | None:
        stored = await self._driver.get(key)
        return None if stored is None else Standing(key, stored.version, self._decoded(stored))

    def _decoded(self, stored: Stored) -> TaskResult | None:
        try:
            result: TaskResult = self._codec.decode(stored.data)
        except SerializationError:
            return None  # damaged: may be replaced
        return result

    def _key(self, folder: str, task_id: str) -> str:
        return f"{self._folder}/{folder}/{task_id}"


def _folders(status: ResultStatus) -> tuple[str, str]:
    """Return the folder of results that ended so, and the other one."""
    first, second = FOLDERS
    return (first, second) if status.value == first else (second, first)


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
