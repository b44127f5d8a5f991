"""Deleting what is over, found by the modification times of files without holding any lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from omniq.storage.file.errors import translated
from omniq.storage.file.folders import Folders
from omniq.storage.file.ops import Op
from omniq.storage.file.store import Batch, FileStore

Found = tuple[int, str, str]
"""Modification time in microseconds, folder, name."""
Wanted = Callable[[int, int], bool]
"""Whether a file of this modification time and mode may be over."""
IsOver = Callable[[Batch, str, str], list[Op]]
"""The changes that delete a file; none if it is not over. Called under the lock."""

_OWNER_MAY_WRITE = 0o200


class Sweep:
    """Remembers what one look found, so that deleting in batches looks once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: list[Found] = []

    async def delete(
        self,
        store: FileStore,
        folders: Iterable[str],
        wanted: Wanted,
        is_over: IsOver,
        limit: int,
    ) -> int:
        """Delete up to `limit` files that are over, those first that were over first."""
        names = list(folders)
        deleted = await self._delete_found(store, is_over, limit) if self._found else 0
        if deleted < limit:
            self._found = await asyncio.to_thread(self._look, names, wanted)
            deleted += await self._delete_found(store, is_over, limit - deleted)
        return deleted

    async def _delete_found(self, store: FileStore, is_over: IsOver, limit: int) -> int:
        found, self._found = self._found, []

        def job(batch: Batch) -> tuple[int, list[Found]]:
            deleted = 0
            for place, (_, folder, name) in enumerate(found):
                if deleted == limit:
                    return deleted, found[place:]
                ops = is_over(batch, folder, name)
                batch.ops += ops
                deleted += bool(ops)
            return deleted, []

        deleted, self._found = await store.run(job)
        return deleted

    def _look(self, folders: list[str], wanted: Wanted) -> list[Found]:
        try:
            files = Folders(self._root)
            try:
                return sorted(
                    (status.st_mtime_ns // 1000, folder, name)
                    for folder in folders
                    for name, status in files.entries(folder)
                    if not name.startswith(".")
                    and wanted(status.st_mtime_ns // 1000, status.st_mode)
                )
            finally:
                files.close()
        except OSError as error:
            raise translated(error, self._root) from error


def expired_before(micros: int) -> Wanted:
    """Want files with an end, which they are not read-only for, at that moment or earlier."""
    return lambda modified, mode: modified <= micros and bool(mode & _OWNER_MAY_WRITE)


def modified_before(micros: int) -> Wanted:
    """Want files whose moment is earlier."""
    return lambda modified, _: modified < micros
