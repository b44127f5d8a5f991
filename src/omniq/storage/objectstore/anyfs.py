"""`AnyFileSystem`: objects as files of any file system fsspec knows, for one process alone."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, ParamSpec, TypeVar, cast
from uuid import uuid4

import fsspec
from fsspec.asyn import AsyncFileSystem

from omniq.exceptions import ConfigError, StorageError
from omniq.storage.objectstore.driver import Entry, ObjectDriver, Page, Stored
from omniq.storage.objectstore.errors import unreachable, without_credentials

P = ParamSpec("P")
T = TypeVar("T")

_url_to_fs = cast("Callable[..., tuple[Any, str]]", fsspec.core.url_to_fs)  # has no types
UNCACHED = {"use_listings_cache": False, "skip_instance_cache": True}
_MISPLACED = (FileExistsError, IsADirectoryError, NotADirectoryError)
_TEMPORARY = ".omniq-writing-"
_IN_MEMORY = "memory"


class AnyFileSystem(ObjectDriver):
    """Files of a file system without conditional writes; their version is a hash of their bytes."""

    has_conditions: ClassVar[bool] = False

    _fs: Any = None

    async def _connect(self) -> None:
        self._fs = await _in_thread(self._made)

    def _made(self) -> Any:
        protocol, path, options = self.location
        url = f"{protocol}://{path}"
        try:
            return _url_to_fs(url, **UNCACHED, **options)[0]
        except (ImportError, ValueError, TypeError) as error:
            raise ConfigError(f"{self}: the file system {protocol!r}: {error}") from error

    async def _shut(self) -> None:
        self._fs = None

    async def _get(self, key: str) -> Stored | None:
        try:
            data: bytes = await self._call("cat_file", self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(data, _hash(data))

    async def _put(self, key: str, data: bytes, expected: str | None) -> str:  # noqa: ARG002 - emulated
        path = self._path(key)
        folder, name = posixpath.split(path)
        await self._call("makedirs", folder, exist_ok=True)
        if self.location.protocol == _IN_MEMORY:
            await self._call("pipe_file", path, data)
        else:
            whole = f"{folder}/{_TEMPORARY}{uuid4().hex}-{name}"
            await self._call("pipe_file", whole, data)
            await self._call("mv", whole, path)
        return _hash(data)

    async def _remove(self, key: str, version: str) -> bool:
        raise NotImplementedError(f"{key} {version}: emulated")  # pragma: no cover

    async def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self._call("rm_file", self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                continue

    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page:
        after = token or after
        folder = self._path(posixpath.dirname(prefix)) if "/" in prefix else self._root
        found: dict[str, dict[str, Any]] = await self._call("find", folder, detail=True)
        cut = len(self._root.rstrip("/")) + 1
        keys = sorted((path[cut:], info) for path, info in found.items() if _TEMPORARY not in path)
        wanted = [
            Entry(key, int(info.get("size") or 0), _moment(info))
            for key, info in keys
            if key.startswith(prefix) and key > after
        ]
        last = wanted[limit - 1].key if len(wanted) > limit else ""
        return Page(wanted[:limit], last)

    def _translated(self, error: Exception, what: str) -> StorageError | ConfigError:
        if isinstance(error, PermissionError):
            return without_credentials(error, str(self), what)
        if isinstance(error, _MISPLACED):
            return StorageError(f"{self}: {what} failed: {error} stands in the way")
        return unreachable(error, str(self), what)

    @property
    def _root(self) -> str:
        return str(self._fs._strip_protocol(self.location.path))

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    async def _call(self, name: str, *args: Any, **options: Any) -> Any:
        if isinstance(self._fs, AsyncFileSystem):
            method = getattr(self._fs, f"_{name}", None)
            if method is not None:
                return await method(*args, **options)
        return await _in_thread(getattr(self._fs, name), *args, **options)


async def _in_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    return await asyncio.to_thread(work, *args, **options)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _moment(info: dict[str, Any]) -> datetime | None:
    for name in ("created", "mtime", "modified", "LastModified"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None
