"""The file backend: a folder a person can look into with `ls`, with all four components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.models.backend_configs import misfit
from omniq.models.config import FileConfig
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
)
from omniq.storage.file import (
    FileEventStorage,
    FileQueue,
    FileResultStorage,
    FileScheduleStorage,
)
from omniq.storage.file.location import Location, locate, refuse_no_tree

if TYPE_CHECKING:
    from omniq.storage.objectstore.driver import ObjectDriver

_LOCAL = ("allow_network", "compression", "durability", "serialization_format")
_REMOTE = ("compression", "serialization_format")
"""The options that mean something on a local disk, and in an object store."""
_URL_OPTIONS = (*_LOCAL, "tree")


class FileBackend(BaseBackend):
    """Tasks, results, events and schedules in the folders of one base directory.

    Args:
        base_dir: a folder, made if missing; or a bucket path or URL. Without it,
            ``OMNIQ_FSSPEC_URI`` and ``OMNIQ_BASE_DIR`` decide, else ``omniq_data``.
        fs_protocol: the file system, as fsspec calls it; a scheme in `base_dir` says the same.
        fs_kwargs: options for the file system of fsspec; a local disk needs none and ignores them.
        options: the other fields of `FileConfig`.

    Raises:
        ConfigError: an option makes no sense.
    """

    capabilities = FileQueue.capabilities

    def __init__(
        self,
        base_dir: str | Path | None = None,
        fs_protocol: str = "file",
        fs_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        place = FileConfig.from_env().location if base_dir is None else str(base_dir)
        self.config = _config(place, dict(fs_kwargs or {}), options)
        self.location: Location = locate(place, fs_protocol, fs_kwargs)
        if self.location.is_local:
            refuse_no_tree(self.location, tree=self.config.tree)
        self.driver = None if self.location.is_local else _driver_of(self.location)
        if self.driver is not None:
            self.capabilities = self.driver.capabilities

    def __repr__(self) -> str:
        return f"FileBackend({str(self.location)!r})"

    @classmethod
    def from_url(cls, url: str) -> FileBackend:
        """Return the backend of a URL such as ``file:///var/jobs`` or ``s3://bucket/jobs``.

        ``?durability=fast``, ``?tree=false`` and the like set options.

        Raises:
            ConfigError: an option is unknown or makes no sense.
        """
        place, _, query = url.partition("?")
        options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
        unknown = options.keys() - set(_URL_OPTIONS)
        if unknown:
            valid = ", ".join(_URL_OPTIONS)
            raise ConfigError(f"{place}: no option {min(unknown)!r}; valid are: {valid}")
        return cls(place, **options)

    @classmethod
    def from_config(cls, config: FileConfig) -> FileBackend:
        """Return the backend of a configuration."""
        fields = msgspec.structs.asdict(config)
        for name in ("base_dir", "fsspec_uri", "storage_options"):
            fields.pop(name)
        return cls(config.location, fs_kwargs=config.storage_options, **fields)

    def _make_queue(self) -> BaseQueue:
        tasks_dir = self.config.tasks_dir
        if self.driver is None:
            return FileQueue(self.location.local_path(), tasks_dir=tasks_dir, **self._options())
        from omniq.storage.objectstore.queue import ObjectQueue

        return ObjectQueue(
            self.driver, tasks_dir=tasks_dir, tree=self.config.tree, **self._formats()
        )

    def _make_results(self) -> BaseResultStorage:
        results_dir = self.config.results_dir
        if self.driver is None:
            return FileResultStorage(
                self.location.local_path(), results_dir=results_dir, **self._options()
            )
        from omniq.storage.objectstore.results import ObjectResultStorage

        return ObjectResultStorage(self.driver, results_dir=results_dir, **self._formats())

    def _make_events(self) -> BaseEventStorage:
        events_dir = self.config.events_dir
        if self.driver is None:
            return FileEventStorage(
                self.location.local_path(), events_dir=events_dir, **self._options()
            )
        from omniq.storage.objectstore.events import ObjectEventStorage

        return ObjectEventStorage(self.driver, events_dir=events_dir, **self._formats())

    def _make_schedules(self) -> BaseScheduleStorage:
        schedules_dir = self.config.schedules_dir
        if self.driver is None:
            return FileScheduleStorage(
                self.location.local_path(), schedules_dir=schedules_dir, **self._options()
            )
        from omniq.storage.objectstore.schedules import ObjectScheduleStorage

        return ObjectScheduleStorage(
            self.driver, schedules_dir=schedules_dir, tree=self.config.tree, **self._formats()
        )

    async def _open(self) -> None:
        await super()._open()
        if self.driver is not None:
            self.capabilities = self.driver.capabilities

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self.config, name) for name in _LOCAL}

    def _formats(self) -> dict[str, Any]:
        return {name: getattr(self.config, name) for name in _REMOTE}


def _driver_of(location: Location) -> ObjectDriver:
    from omniq.storage.objectstore.connect import driver_of

    return driver_of(location)


def _config(place: str, storage_options: dict[str, Any], options: dict[str, Any]) -> FileConfig:
    fields = {"base_dir": place, "storage_options": storage_options, **options}
    try:
        return msgspec.convert(fields, FileConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"file backend: {misfit(error, FileConfig)}") from error


AsyncFileBackend = FileBackend
