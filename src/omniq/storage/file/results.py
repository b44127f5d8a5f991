"""`FileResultStorage`: a file for each result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from omniq.clock import to_micros, utcnow
from omniq.exceptions import SerializationError
from omniq.models.finding import Finding
from omniq.models.result import ResultStatus, TaskResult
from omniq.serialization import MAX_RESULT_BYTES, SerializationFormat
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.elsewhere import LocalOrElsewhere
from omniq.storage.file.folders import FILE_MODE, KEPT_MODE, Folders
from omniq.storage.file.listing import Listing
from omniq.storage.file.location import (
    IN_FILES,
    Durability,
    check_durability,
    check_folder_name,
    locate,
)
from omniq.storage.file.ops import SUFFIX, Drop, Op, Put
from omniq.storage.file.store import Batch, FileStore, View
from omniq.storage.file.sweep import Sweep, expired_before
from omniq.storage.local.wake import FINAL
from omniq.storage.results import BaseResultStorage

logger = logging.getLogger("omniq.storage.file")

FOLDERS = tuple(status.value for status in ResultStatus)
LONGEST_WAIT_SECONDS = 30.0


class FileResultStorage(LocalOrElsewhere, BaseResultStorage):
    """Results in a folder, shared by any number of threads and processes of one machine.

    ``<base_dir>/results/success/<task id>.json`` and ``…/failed/…``. The modification time of a
    file is the moment it expires; what never expires is read-only.

    Args:
        base_dir: the folder, made if missing; or the URL of a folder in an object store.
        fs_kwargs: options of the file system of an object store.
        results_dir: name of the folder inside it.
        durability: ``full`` (what was stored is on the disk) or ``fast`` (a power cut may lose or
            damage the last half minute; a crash of the program loses nothing).
        serialization_format, compression: of new results; each says its own format when read.
        allow_network: work on a network file system too; only for a single process.
    """

    capabilities = IN_FILES

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - `__new__` takes them all
        self,
        base_dir: str | Path | None = None,
        *,
        fs_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002 - for object stores, see `__new__`
        results_dir: str = "results",
        durability: Durability = "full",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        allow_network: bool = False,
    ) -> None:
        super().__init__()
        self._codec = FileCodec(
            TaskResult,
            ("result",),
            format=serialization_format,
            compression=compression,
            limit=MAX_RESULT_BYTES,
        )
        self._view = _ResultView()
        self._store = FileStore(
            locate(base_dir).local_path() / check_folder_name("results_dir", results_dir),
            durability=check_durability(durability),
            view=self._view,
            allow_network=allow_network,
            wakes=True,
        )
        self._sweep = Sweep(self._store.root)

    @classmethod
    def _elsewhere(cls) -> type[Any]:
        from omniq.storage.objectstore.results import ObjectResultStorage

        return ObjectResultStorage

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._store)!r})"

    async def _open(self) -> None:
        await self._store.open()
        await self._store.run(_make_folders)

    async def _close(self) -> None:
        await self._store.close()

    @property
    def folder(self) -> Path:
        """See `LocalOrElsewhere.folder`."""
        return self._store.root

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return f"files {self._store}"

    async def _findings(self) -> list[Finding]:
        return await self._store.findings()

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskResult | None:
        """Return the result as soon as there is one; None after `timeout` seconds (None: never)."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        await self.connect()
        while True:
            hub = self._store.hub
            if hub is None:
                return await super().wait(task_id, timeout)
            with hub.register(FINAL, [task_id]) as waiting:
                found = await self.get(task_id)
                left = LONGEST_WAIT_SECONDS if ends_at is None else ends_at - time.monotonic()
                if found is not None or left <= 0:
                    return found
                await waiting.wait(min(left, LONGEST_WAIT_SECONDS))

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        encoded = [self._codec.encode(result) for result in results]
        now = utcnow()

        def job(batch: Batch) -> list[bool]:
            writes = _Writes(batch, self._codec, now)
            writes.look_up([result.task_id for result in results])
            return [writes.put(*pair) for pair in zip(results, encoded, strict=True)]

        return await self._store.run(job)

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        found = await self._store.run(
            lambda batch: [_read(batch.files, task_id) for task_id in task_ids]
        )
        moment = now or utcnow()
        return [_living(self._codec, data, moment) for data in found]

    async def _delete(self, task_ids: list[str]) -> int:
        now = utcnow()

        def job(batch: Batch) -> int:
            writes = _Writes(batch, self._codec, now)
            return sum(writes.drop(task_id) for task_id in dict.fromkeys(task_ids))

        return await self._store.run(job)

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        moment = now or utcnow()

        def prepare() -> None:
            self._view.load(self._store.files)

        def job(batch: Batch) -> list[TaskResult]:
            prepare()  # forgotten meanwhile if changes were missed
            page: list[TaskResult] = []
            for task_id in self._view.listing.after(after):
                result = self._tolerant(task_id, _read(batch.files, task_id), moment)
                if result is not None:
                    page.append(result)
                    if len(page) == limit:
                        break
            return page

        return await self._store.run(job, prepare=prepare)

    async def _purge(self, now: datetime | None, limit: int) -> int:
        moment = now or utcnow()

        def is_over(batch: Batch, folder: str, name: str) -> list[Op]:
            data = batch.files.read(folder, name)
            if data is None or self._tolerant(name, data, moment) is not None:
                return []
            return [Drop(folder, name)]

        wanted = expired_before(to_micros(moment))
        return await self._sweep.delete(self._store, FOLDERS, wanted, is_over, limit)

    def _tolerant(self, task_id: str, data: bytes | None, now: datetime) -> TaskResult | None:
        """Return a result unless it is absent, expired or damaged: one must not hide the others."""
        try:
            return _living(self._codec, data, now)
        except SerializationError as error:
            logger.warning("skipped result %s in %s: %s", task_id, self._store, error)
            return None


class _ResultView(View):
    """The ids of all results, while somebody lists them."""

    def __init__(self) -> None:
        self.listing = Listing()

    def load(self, files: Folders) -> None:
        if not self.listing.is_loaded:
            names = {name for folder in FOLDERS for name in files.names(folder)}
            ids = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
            self.listing.load(item for item in ids if not item.startswith("."))

    def observe(self, ops: Sequence[Op]) -> None:
        for op in ops:
            if isinstance(op, Put):
                self.listing.add(op.name.removesuffix(SUFFIX))

    def forget(self) -> None:
        self.listing.forget()


class _Writes:
    """The changes of one job, each seeing those before it."""

    def __init__(self, batch: Batch, codec: FileCodec, now: datetime) -> None:
        self._batch = batch
        self._codec = codec
        self._now = now
        self._changed: dict[str, _Found] = {}

    def look_up(self, task_ids: list[str]) -> None:
        """Note which of these have no result, nearly all as a rule, by as few calls as can be."""
        names = [task_id + SUFFIX for task_id in task_ids]
        found = set[str]().union(*(self._batch.files.present(folder, names) for folder in FOLDERS))
        absent = (task_id for task_id in task_ids if task_id + SUFFIX not in found)
        self._changed |= dict.fromkeys(absent, _NOTHING)

    def put(self, result: TaskResult, data: bytes) -> bool:
        """Write a result unless one of a later claim stands."""
        task_id, folder = result.task_id, result.status.value
        found = self._find(task_id)
        standing = self._living(found)
        if standing is not None and standing.claim_count > result.claim_count:
            return False
        if found.folder not in (None, folder):
            self._batch.ops.append(Drop(found.folder, task_id + SUFFIX))
        expires_at = result.expires_at
        micros = None if expires_at is None else to_micros(expires_at)
        mode = KEPT_MODE if expires_at is None else FILE_MODE
        self._batch.ops.append(Put(folder, task_id + SUFFIX, data, micros, mode))
        self._changed[task_id] = _Found(folder, data)
        self._batch.final_ids.append(task_id)
        return True

    def drop(self, task_id: str) -> bool:
        """Delete a result; return whether there was one."""
        found = self._find(task_id)
        if found.folder is not None:
            self._batch.ops.append(Drop(found.folder, task_id + SUFFIX))
            self._changed[task_id] = _NOTHING
        return self._living(found) is not None

    def _find(self, task_id: str) -> _Found:
        return self._changed.get(task_id) or _find(self._batch.files, task_id)

    def _living(self, found: _Found) -> TaskResult | None:
        try:
            return _living(self._codec, found.data, self._now)
        except SerializationError:
            return None  # damaged: may be replaced


class _Found(NamedTuple):
    """What there is for a task id, and in which folder."""

    folder: str | None
    data: bytes | None


_NOTHING = _Found(None, None)


def _make_folders(batch: Batch) -> None:
    for folder in FOLDERS:
        batch.files.make(folder)


def _find(files: Folders, task_id: str) -> _Found:
    name = task_id + SUFFIX
    for folder in FOLDERS:
        if files.exists(folder, name):
            data = files.read(folder, name)
            if data is not None:
                return _Found(folder, data)
    return _NOTHING


def _read(files: Folders, task_id: str) -> bytes | None:
    return _find(files, task_id).data


def _living(codec: FileCodec, data: bytes | None, now: datetime) -> TaskResult | None:
    if data is None:
        return None
    result: TaskResult = codec.decode(data)
    return result if result.expires_at is None or result.expires_at > now else None


AsyncFileResultStorage = FileResultStorage
