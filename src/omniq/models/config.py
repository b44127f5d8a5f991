"""Configuration as data: typed, checked, readable from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from omniq.exceptions import ConfigError

DEFAULT_BASE_DIR = "omniq_data"


class FileConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where and how a `FileBackend` keeps its files.

    Attributes:
        base_dir: a folder, a bucket path or a URL.
        fsspec_uri: the same as a URL; wins over `base_dir`.
        storage_options: for the file system of fsspec (keys, endpoint …); unused on a local disk.
        tasks_dir, results_dir, events_dir, schedules_dir: names of the folders of the components.
        serialization_format: ``json`` (readable), ``msgpack`` or ``pickle`` for new records.
        compression: ``zlib`` compresses new records of over 512 bytes.
        durability: ``full`` (what was acknowledged is on the disk) or ``fast`` (a power cut may
            lose the last half minute).
        allow_network: use a network file system too; only for a single process.
    """

    base_dir: str = DEFAULT_BASE_DIR
    fsspec_uri: str | None = None
    storage_options: dict[str, Any] = {}
    tasks_dir: str = "tasks"
    results_dir: str = "results"
    events_dir: str = "events"
    schedules_dir: str = "schedules"
    serialization_format: Literal["json", "msgpack", "pickle"] = "json"
    compression: Literal["none", "zlib"] = "none"
    durability: Literal["full", "fast"] = "full"
    allow_network: bool = False

    @property
    def location(self) -> str:
        """Where the files are: `fsspec_uri` if given, else `base_dir`."""
        return self.fsspec_uri or self.base_dir

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> FileConfig:
        """Read ``OMNIQ_BASE_DIR``, ``OMNIQ_FSSPEC_URI`` and the other fields, upper-cased alike.

        Raises:
            ConfigError: a variable cannot be that field.
        """
        variables = os.environ if environment is None else environment
        given = {
            name: variables[f"OMNIQ_{name.upper()}"]
            for name in cls.__struct_fields__
            if variables.get(f"OMNIQ_{name.upper()}") and name != "storage_options"
        }
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"OMNIQ_* of the file backend: {error}") from error
