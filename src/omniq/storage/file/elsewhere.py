"""The classes of local files stand for those of object stores, too: the place decides."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

from omniq.storage.component import Component
from omniq.storage.file.control import META
from omniq.storage.file.location import locate


class LocalOrElsewhere(Component):
    """A component of local files, whose constructor returns that of an object store for a URL."""

    def __new__(cls, base_dir: str | Path | None = None, **options: Any) -> Self:
        """Return the class for the place: in an object store things are kept differently."""
        place = locate(base_dir, None, options.pop("fs_kwargs", None))
        if place.is_local:
            return super().__new__(cls)
        from omniq.storage.objectstore.component import made_at

        return made_at(cls._elsewhere(), place, **options)  # type: ignore[no-any-return]  # a class of its own

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its files are."""

    async def _is_missing(self) -> bool:
        return not await asyncio.to_thread((self.folder / META).exists)

    @classmethod
    @abstractmethod
    def _elsewhere(cls) -> type[Any]:
        """Return the class for object stores, imported only when it is needed."""
