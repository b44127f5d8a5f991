"""What the drivers of S3, Google Cloud Storage and Azure share: buckets, packages and options."""

from __future__ import annotations

import asyncio
import inspect
import re
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from omniq.exceptions import ConfigError, StorageError
from omniq.models.backend_configs import nearest
from omniq.storage.factory import DISTRIBUTION
from omniq.storage.file.location import Location
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.errors import Refusal, refused
from omniq.storage.objectstore.keys import check_key

NOT_FOUND = 404
MISSED = frozenset({409, 412})
"""The condition of a write did not hold, or another write was under way."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
_COMMON = ("use_listings_cache", "skip_instance_cache", "listings_expiry_time", "max_paths")
_OURS = ("asynchronous", "loop")
_WITHOUT_EFFECT = ("auto_mkdir", "cache_size", "cache_type", "debug")
"""Options of local file systems and of open files, which the same configuration may hold."""


class BucketDriver(ObjectDriver):
    """A bucket (or container), and a path in it, by the client of a file system of fsspec."""

    module: ClassVar[str]
    file_system: ClassVar[str]
    extra: ClassVar[str]
    more_options: ClassVar[tuple[str, ...]] = ()
    """Options that the file system takes without naming them."""

    def __init__(self, location: Location, **limits: Any) -> None:
        super().__init__(location, **limits)
        self._bucket, self._prefix = self._split(location.path)
        self._fs: Any = None

    async def _connect(self) -> None:
        await asyncio.to_thread(self._make)
        await self._prepare()

    def _make(self) -> None:
        made = self._class()
        options = self._checked(made, self.location.options)
        try:
            self._fs = made(
                **self._defaults(options), use_listings_cache=False, skip_instance_cache=True
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self}: an option makes no sense: {_said(error)}") from error

    async def _prepare(self) -> None:
        """Make the client, where that needs the event loop."""

    def _defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with those added that this driver wants."""
        return options

    @abstractmethod
    def _refusal(self, error: Exception) -> Refusal | None:
        """Return what the store answered, if the error of the library is an answer."""

    def _refused(self, refusal: Refusal, what: str) -> StorageError:
        return refused(refusal, str(self), what)

    def _class(self) -> Any:
        try:
            return getattr(import_module(self.module), self.file_system)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self} needs the module {error.name!r}; install it with: "
                f"pip install '{DISTRIBUTION}[{self.extra}]'"
            ) from error

    def _checked(self, made: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without those that have no effect here. Raises ConfigError."""
        named = inspect.signature(made.__init__).parameters.values()
        known = {one.name for one in named if one.kind is not one.VAR_KEYWORD}
        known -= {"self", *_OURS}
        known |= {*self.more_options, *_COMMON, *_WITHOUT_EFFECT}
        for name in options:
            if name not in known:
                raise ConfigError(f"{self}: no option {name!r}; {nearest(name, known)}")
        dropped = (*_COMMON, *_WITHOUT_EFFECT)
        return {name: value for name, value in options.items() if name not in dropped}

    def _split(self, path: str) -> tuple[str, str]:
        """Return bucket and prefix, which is empty or ends in a slash. Raises ConfigError."""
        bucket, _, rest = path.strip("/").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ConfigError(
                f"{self.location.protocol}: the path begins with no name of a bucket (3 or more of "
                f"A-Z a-z 0-9 . _ -); write {self.location.protocol}://bucket/folder, and "
                "credentials as options"
            )
        if not rest:
            return bucket, ""
        check_key(rest)
        return bucket, f"{rest}/"

    def _name(self, key: str) -> str:
        return self._prefix + key

    def _key(self, name: str) -> str:
        return name.removeprefix(self._prefix)


def _said(error: Exception) -> str:
    """Return what a library says is wrong; it repeats no value of an option."""
    return str(error).strip("'\"") or type(error).__name__
