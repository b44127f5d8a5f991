"""`FileScheduleStorage`: a file for each schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omniq.exceptions import SerializationError
from omniq.models.finding import Finding
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.serialization import SerializationFormat
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.elsewhere import LocalOrElsewhere
from omniq.storage.file.folders import Folders
from omniq.storage.file.location import (
    IN_FILES,
    Durability,
    check_durability,
    check_folder_name,
    locate,
    refuse_no_tree,
)
from omniq.storage.file.ops import SUFFIX, Drop, Put
from omniq.storage.file.store import Batch, FileStore
from omniq.storage.schedules import BaseScheduleStorage, fence

logger = logging.getLogger("omniq.storage.file")

FOLDERS = tuple(status.value for status in ScheduleStatus)


class FileScheduleStorage(LocalOrElsewhere, BaseScheduleStorage):
    """Schedules in a folder, shared by any number of threads and processes of one machine.

    ``<base_dir>/schedules/active/<id>.json``, ``…/paused/…``, ``…/completed/…``. Arguments as those
    of `FileResultStorage`.
    """

    capabilities = IN_FILES

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - `__new__` takes them all
        self,
        base_dir: str | Path | None = None,
        *,
        fs_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002 - for object stores, see `__new__`
        schedules_dir: str = "schedules",
        durability: Durability = "full",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        allow_network: bool = False,
        tree: bool = True,
    ) -> None:
        super().__init__()
        place = locate(base_dir)
        refuse_no_tree(place, tree=tree)
        self._codec = FileCodec(
            Schedule,
            ("args", "kwargs", "metadata"),
            format=serialization_format,
            compression=compression,
        )
        self._store = FileStore(
            place.local_path() / check_folder_name("schedules_dir", schedules_dir),
            durability=check_durability(durability),
            allow_network=allow_network,
        )

    @classmethod
    def _elsewhere(cls) -> type[Any]:
        from omniq.storage.objectstore.schedules import ObjectScheduleStorage

        return ObjectScheduleStorage

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

    async def _save(self, schedule: Schedule) -> None:
        data = self._codec.encode(schedule)
        await self._store.run(lambda batch: _put(batch, schedule, data))

    async def _add(self, schedule: Schedule) -> bool:
        data = self._codec.encode(schedule)

        def job(batch: Batch) -> bool:
            if _read(batch.files, schedule.id) is not None:
                return False
            _put(batch, schedule, data)
            return True

        return await self._store.run(job)

    async def _get(self, schedule_id: str) -> Schedule | None:
        data = await self._store.run(lambda batch: _read(batch.files, schedule_id))
        return None if data is None else self._codec.decode(data)

    async def _list(self) -> list[Schedule]:
        texts = await self._store.run(_read_all)
        schedules: list[Schedule] = []
        for name, data in texts:
            try:
                schedules.append(self._codec.decode(data))
            except SerializationError as error:
                logger.warning("skipped schedule %s in %s: %s", name, self._store, error)
        return sorted(schedules, key=lambda schedule: schedule.id)

    async def _delete(self, schedule_id: str) -> bool:
        def job(batch: Batch) -> bool:
            batch.ops += _drops(batch.files, schedule_id)
            return bool(batch.ops)

        return await self._store.run(job)

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        data = self._codec.encode(after)

        def job(batch: Batch) -> bool:
            standing = _read(batch.files, before.id)
            if standing is None or fence(self._codec.decode(standing)) != fence(before):
                return False
            _put(batch, after, data)
            return True

        return await self._store.run(job)


def _make_folders(batch: Batch) -> None:
    for folder in FOLDERS:
        batch.files.make(folder)


def _put(batch: Batch, schedule: Schedule, data: bytes) -> None:
    folder = schedule.status.value
    batch.ops += _drops(batch.files, schedule.id, but=folder)
    batch.ops.append(Put(folder, schedule.id + SUFFIX, data))


def _drops(files: Folders, schedule_id: str, but: str = "") -> list[Drop]:
    name = schedule_id + SUFFIX
    return [
        Drop(folder, name) for folder in FOLDERS if folder != but and files.exists(folder, name)
    ]


def _read(files: Folders, schedule_id: str) -> bytes | None:
    for folder in FOLDERS:
        data = files.read(folder, schedule_id + SUFFIX)
        if data is not None:
            return data
    return None


def _read_all(batch: Batch) -> list[tuple[str, bytes]]:
    found = (
        (name, batch.files.read(folder, name))
        for folder in FOLDERS
        for name in batch.files.names(folder)
        if name.endswith(SUFFIX) and not name.startswith(".")
    )
    return [(name, data) for name, data in found if data is not None]


AsyncFileScheduleStorage = FileScheduleStorage
