"""From a URL to a backend.

    memory://                                   this process only
    sqlite:///jobs.db  sqlite:////var/jobs.db   a file, relative or absolute
    jobs.db                                     the same, for short
    sqlite:///jobs.db?durability=fast           with options

Backends are named by dotted paths and imported when first asked for. Other packages add theirs as
entry points of the group ``omniq.backends`` (name = scheme, object = a `BaseBackend` with a class
method `from_url`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from omniq.exceptions import ConfigError

if TYPE_CHECKING:
    from omniq.backend.base import BaseBackend

ENTRY_POINT_GROUP = "omniq.backends"
DISTRIBUTION = "omniq-tasks"
_FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")


class BackendEntry(NamedTuple):
    """How one type of backend is found and built.

    Attributes:
        target: ``package.module:Class``.
        extra: the extra of the distribution that installs its driver, if it needs one.
        read: turns a URL into arguments of the class; None leaves the URL to `Class.from_url`.
        default_url: used when only the type is given; None where there is none.
    """

    target: str
    extra: str | None = None
    read: Callable[[str], dict[str, Any]] | None = None
    default_url: str | None = None


class StorageBackendFactory:
    """Makes backends from URLs. All methods are class methods: there is one registry."""

    @classmethod
    def create_backend(cls, url: str, backend_type: str | None = None) -> BaseBackend:
        """Return a new backend for a URL; nothing is opened yet.

        Args:
            url: see the head of this module.
            backend_type: the type, where the URL is a bare path or name.

        Raises:
            ConfigError: the URL makes no sense, no backend goes by that type, or its driver is
                not installed; the message says what to install.
        """
        name = cls.type_of(url, backend_type)
        entry = _entry(name)
        backend_class = _load(name, entry)
        if entry.read is None:
            return cast("BaseBackend", backend_class.from_url(url))
        return cast("BaseBackend", backend_class(**entry.read(url)))

    @classmethod
    def default_url(cls, backend_type: str) -> str:
        """Return the usual place of a type (``sqlite``: ``sqlite:///omniq.db``).

        Raises:
            ConfigError: there is none for this type, or no such type.
        """
        url = _entry(_canonical(backend_type)).default_url
        if url is None:
            raise ConfigError(f"backend type {backend_type!r} needs a URL")
        return url

    @classmethod
    def type_of(cls, url: str, backend_type: str | None = None) -> str:
        """Return the type of backend a URL means, by its scheme or its ending.

        Raises:
            ConfigError: neither tells, or `backend_type` contradicts the scheme.
        """
        if not url:
            raise ConfigError("expected the URL of a backend, got an empty string")
        scheme, has_scheme, _ = url.partition("://")
        if has_scheme:
            name = _canonical(scheme)
            if backend_type is not None and _canonical(backend_type) != name:
                raise ConfigError(f"{masked(url)!r} is no URL of type {backend_type!r}")
            return name
        if backend_type is not None:
            return _canonical(backend_type)
        if url.partition("?")[0].endswith(_FILE_ENDINGS):
            return "sqlite"
        raise ConfigError(
            f"{masked(url)!r} is no URL; write memory://, sqlite:///jobs.db or the like, "
            f"or a path ending in {', '.join(_FILE_ENDINGS)}"
        )

    @classmethod
    def register_backend(cls, name: str, entry: BackendEntry | str) -> None:
        """Add a type of backend, or replace one; a plain ``package.module:Class`` will do."""
        _entries[name] = BackendEntry(entry) if isinstance(entry, str) else entry

    @classmethod
    def get_supported_backends(cls) -> list[str]:
        """Return the types this installation has, sorted; drivers may still be missing."""
        return sorted({name for name in _entries if _is_there(name)} | _entry_points().keys())


def masked(url: str) -> str:
    """Return a URL fit to be shown: its password, or token, replaced by ``***``."""
    scheme, found, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not found or "@" not in authority:
        return url
    user, _, host = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}://{name + ':' if colon else ''}***@{host}{slash}{path}"


def _canonical(name: str) -> str:
    lowered = name.lower()
    return _ALIASES.get(lowered, lowered)


def _entry(name: str) -> BackendEntry:
    entry = _entries.get(name)
    if entry is not None:
        return entry
    found = _entry_points().get(name)
    if found is not None:
        return BackendEntry(found)
    known = sorted({*_entries, *_ALIASES})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    raise ConfigError(f"there is no backend type {name!r}; {hint}")


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _is_there(name: str) -> bool:
    try:
        return find_spec(_entries[name].target.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False


def _load(name: str, entry: BackendEntry) -> Any:
    module_name, _, class_name = entry.target.partition(":")
    install = f"pip install '{DISTRIBUTION}[{entry.extra}]'" if entry.extra else None
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            raise ConfigError(_not_built(name, install)) from error
        needs = install or f"the module {error.name!r}"
        raise ConfigError(
            f"backend {name!r} needs the module {error.name!r}; install it with: {needs}"
        ) from error


def _not_built(name: str, install: str | None) -> str:
    present = ", ".join(StorageBackendFactory.get_supported_backends())
    later = f"; in a version that has it: {install}" if install else ""
    return f"this version has no backend {name!r}, only {present}{later}"


def _read_memory(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/"):
        raise ConfigError(f"memory:// takes no host or path, got {masked(url)!r}")
    return _options(url, {"serialization_format": ("json", "msgpack", "pickle")})


def _read_sqlite(url: str) -> dict[str, Any]:
    path = _sqlite_path(url)
    if path in ("", ":memory:"):
        raise ConfigError(
            f"{masked(url)!r} names no file; write sqlite:///jobs.db, "
            "or memory:// for a queue in memory"
        )
    choices = {
        "durability": ("full", "fast"),
        "namespace": (),
        "serialization_format": ("json", "msgpack", "pickle"),
    }
    return {"database_path": path, **_options(url, choices)}


def _sqlite_path(url: str) -> str:
    rest = url.partition("?")[0]
    scheme, found, rest_of = rest.partition("://")
    if not found:
        return scheme
    if rest_of and not rest_of.startswith("/"):
        raise ConfigError(
            f"{masked(url)!r} names a host; a file is written with three slashes: sqlite:///{rest_of}"
        )
    return unquote(rest_of[1:])


def _options(url: str, choices: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the query of a URL, each option checked against what it may be (empty: anything)."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(url.partition("?")[2], keep_blank_values=True):
        if name not in choices:
            valid = ", ".join(choices) or "none"
            raise ConfigError(f"{masked(url)!r}: no option {name!r}; valid are: {valid}")
        if choices[name] and value not in choices[name]:
            valid = ", ".join(choices[name])
            raise ConfigError(f"{masked(url)!r}: {name} is one of {valid}, not {value!r}")
        options[name] = value
    return options


_entries: dict[str, BackendEntry] = {
    "memory": BackendEntry(
        "omniq.backend.memory:MemoryBackend", read=_read_memory, default_url="memory://"
    ),
    "sqlite": BackendEntry(
        "omniq.backend.sqlite:SQLiteBackend", read=_read_sqlite, default_url="sqlite:///omniq.db"
    ),
    "file": BackendEntry("omniq.backend.file:FileBackend"),
    "s3": BackendEntry("omniq.backend.file:FileBackend", "s3"),
    "gcs": BackendEntry("omniq.backend.file:FileBackend", "gcs"),
    "azure": BackendEntry("omniq.backend.file:FileBackend", "azure"),
    "postgresql": BackendEntry("omniq.backend.postgres:PostgreSQLBackend", "postgres"),
    "redis": BackendEntry("omniq.backend.redis:RedisBackend", "redis"),
    "nats": BackendEntry("omniq.backend.nats:NATSBackend", "nats"),
}
_ALIASES = {
    "postgres": "postgresql",
    "gs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    **dict.fromkeys(
        ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"), "redis"
    ),
}
