"""Where a file store lies: one normal form for paths, bucket paths and URLs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from omniq.exceptions import ConfigError
from omniq.models.config import DEFAULT_BASE_DIR
from omniq.models.masking import masked
from omniq.storage.component import Capabilities
from omniq.storage.local.filesystem import network_filesystem_of

Durability = Literal["full", "fast"]
IN_FILES = Capabilities(detects_death=True, wakes=True)

LOCAL = "file"
_ALIASES = {
    "local": "file",
    "gcs": "gs",
    "azure": "abfs",
    "az": "abfs",
    "abfss": "abfs",
    "s3a": "s3",
}


class Location(NamedTuple):
    """A folder in some file system.

    Attributes:
        protocol: of fsspec, in one spelling (``file``, ``s3``, ``gs``, ``abfs``, ``memory`` …).
        path: without the protocol; absolute where local.
        options: for the file system of fsspec.
    """

    protocol: str
    path: str
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return masked(f"{self.protocol}://{self.path}")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.protocol == LOCAL

    def local_path(self) -> Path:
        """Return the folder as a path. Raises ConfigError where it is not local."""
        if not self.is_local:
            raise ConfigError(f"{self!r} is no folder of this machine")
        return Path(self.path)


def locate(
    base_dir: str | Path | None = None,
    fs_protocol: str | None = None,
    fs_kwargs: Mapping[str, Any] | None = None,
) -> Location:
    """Return where a store lies.

    `base_dir` may be a path, a bucket path or a URL; a scheme equal to `fs_protocol` says nothing
    new, and ``file``, the usual value, gives way to one.

    Raises:
        ConfigError: empty, or `fs_protocol` contradicts the scheme of `base_dir`.
    """
    text = str(base_dir) if base_dir is not None else DEFAULT_BASE_DIR
    if not text or "\0" in text:
        raise ConfigError(f"base_dir {text!r} is no folder")
    asked = _canonical(fs_protocol or LOCAL)
    scheme, found, rest = text.partition("://")
    protocol = _canonical(scheme) if found else asked
    if found and asked not in (LOCAL, protocol):
        raise ConfigError(
            f"base_dir {text!r} and fs_protocol {fs_protocol!r} contradict each other"
        )
    path = rest if found else text
    if protocol == LOCAL:
        path = str(Path(path or ".").expanduser().absolute())
    return Location(protocol, path.rstrip("/") or "/", dict(fs_kwargs or {}))


def check_durability(durability: str) -> Durability:
    """Return a usable durability. Raises ConfigError."""
    if durability in get_args(Durability):
        return durability  # type: ignore[return-value]  # just checked
    raise ConfigError(f"durability {durability!r} is not 'full' or 'fast'")


def check_folder_name(field: str, name: str) -> str:
    """Return `name` if it can name the folder of a component. Raises ConfigError."""
    parts = name.split("/")
    if name and all(part and not part.startswith(".") and "\0" not in part for part in parts):
        return name
    raise ConfigError(f"{field} {name!r} is no name of a folder inside base_dir")


def refuse_no_tree(place: Location, *, tree: bool) -> None:
    """Refuse to go without the tree on a local disk. Raises ConfigError."""
    if not tree:
        raise ConfigError(
            f"{place!r}: tree=False is for object stores; on a local disk the tree is the store"
        )


def refuse_network(root: Path) -> None:
    """Refuse a folder on a network file system.

    Raises:
        ConfigError: it is mounted from a network (known on Linux only).
    """
    kind = network_filesystem_of(root)
    if kind:
        raise ConfigError(
            f"file storage {root} lies on a network file system ({kind}), whose locks several "
            "machines cannot trust; use a local disk, a server backend, or, for one process "
            "alone, allow_network=True"
        )


def _canonical(protocol: str) -> str:
    lowered = protocol.lower()
    return _ALIASES.get(lowered, lowered)
