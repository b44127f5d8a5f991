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

import importlib
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from omniq.exceptions import ConfigError
from omniq.models.backend_configs import (
    ALIASES,
    CONFIGS,
    FILE_ENDINGS,
    canonical,
    installed_backends,
    nearest,
    plain,
    registered_types,
    type_in,
)
from omniq.models.masking import masked
from omniq.models.server_urls import readable
from omniq.models.storage_config import Backend, StorageBackendConfig, backend_from

if TYPE_CHECKING:
    from omniq.backend.base import BaseBackend
    from omniq.storage.base import (
        BaseEventStorage,
        BaseQueue,
        BaseResultStorage,
        BaseScheduleStorage,
    )

__all__ = ["DISTRIBUTION", "BackendEntry", "StorageBackendFactory", "masked"]

DISTRIBUTION = "omniq-tasks"


class BackendEntry(NamedTuple):
    """How one type of backend is found and built.

    Attributes:
        target: ``package.module:Class``.
        extra: the extra of the distribution that installs its driver, if it needs one.
        read: turns a URL into arguments of the class; None leaves the URL to `Class.from_url`.
        default_url: used when only the type is given; None where there is none.
        place: the argument of the class that a URL fills, where options come along with it.
        driver: the module it cannot do without, where its class can be imported without it.
    """

    target: str
    extra: str | None = None
    read: Callable[[str], dict[str, Any]] | None = None
    default_url: str | None = None
    place: str = "url"
    driver: str | None = None


class StorageBackendFactory:
    """Makes backends from URLs. All methods are class methods: there is one registry."""

    @classmethod
    def create_backend(cls, config: Backend, backend_type: str | None = None) -> BaseBackend:
        """Return a new backend; nothing is opened yet.

        Args:
            config: a URL (see the head of this module), a `StorageBackendConfig`, a dict with its
                fields, or one of the typed configurations.
            backend_type: the type, where `config` is a bare path or name.

        Raises:
            ConfigError: the URL or an option makes no sense, no backend goes by that type, or its
                driver is not installed; the message says what to install.
        """
        if isinstance(config, str):
            return _from_url(cls.type_of(config, backend_type), config)
        chosen = backend_from(config, "config")
        if chosen.url is not None and not chosen.config:
            return _from_url(cls.type_of(chosen.url, chosen.backend_type), chosen.url)
        return _from_parts(canonical(chosen.backend_type or ""), chosen)

    @classmethod
    def create_task_queue(cls, config: Backend, async_mode: bool = True) -> BaseQueue:
        """Return the task queue of a new backend; see `create_backend`."""
        return cls.create_backend(config).get_task_queue(async_mode)

    @classmethod
    def create_result_storage(cls, config: Backend, async_mode: bool = True) -> BaseResultStorage:
        """Return the result storage of a new backend; see `create_backend`."""
        return cls.create_backend(config).get_result_storage(async_mode)

    @classmethod
    def create_event_storage(cls, config: Backend, async_mode: bool = True) -> BaseEventStorage:
        """Return the event storage of a new backend; see `create_backend`."""
        return cls.create_backend(config).get_event_storage(async_mode)

    @classmethod
    def create_schedule_storage(
        cls, config: Backend, async_mode: bool = True
    ) -> BaseScheduleStorage:
        """Return the schedule storage of a new backend; see `create_backend`."""
        return cls.create_backend(config).get_schedule_storage(async_mode)

    @classmethod
    def key_of(cls, config: StorageBackendConfig) -> str:
        """Return a text that is equal for configurations of one and the same backend."""
        name = canonical(config.backend_type or "")
        place, parts = config.url, dict(config.config)
        entry = _entry(name)
        if entry.read is not None:
            parts = {**entry.read(place or cls.default_url(name)), **parts}
            place = None
        if "database_path" in parts:
            parts["database_path"] = os.path.realpath(parts["database_path"])
        if name == "file" and place is not None and "://" not in place:
            place = f"file://{os.path.abspath(place)}"  # noqa: PTH100 - text with a query
        return repr((name, place, sorted(parts.items(), key=lambda pair: pair[0])))

    @classmethod
    def absolute(cls, config: StorageBackendConfig) -> dict[str, Any]:
        """Return a configuration as a dict that names the same place from any folder."""
        name, url, parts = canonical(config.backend_type or ""), config.url, dict(config.config)
        if name == "sqlite":
            parts = {**_read_sqlite(url or cls.default_url(name)), **parts}
            url = None
        if name == "file" and url is not None:
            url = _absolute_folder(url)
        for key in ("database_path", "base_dir"):
            if isinstance(parts.get(key), str) and "://" not in parts[key]:
                parts[key] = os.path.abspath(parts[key])  # noqa: PTH100 - text, not to be resolved
        return {"backend_type": name, "url": url, "config": parts}

    @classmethod
    def default_url(cls, backend_type: str) -> str:
        """Return the usual place of a type (``sqlite``: ``sqlite:///omniq.db``).

        Raises:
            ConfigError: there is none for this type, or no such type.
        """
        url = _entry(canonical(backend_type)).default_url
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
            raise ConfigError("the URL is empty; is the variable it is made from unset?")
        name = type_in(url)
        if "://" in url and backend_type is not None and canonical(backend_type) != name:
            raise ConfigError(f"{masked(url)!r} is no URL of type {backend_type!r}")
        if "://" not in url and backend_type is not None:
            return canonical(backend_type)
        if name is not None:
            return name
        raise ConfigError(
            f"{masked(url)!r} is no URL; write memory://, sqlite:///jobs.db or the like, "
            f"or a path ending in {', '.join(FILE_ENDINGS)}"
        )

    @classmethod
    def register_backend(cls, name: str, entry: BackendEntry | str) -> None:
        """Add a type of backend, or replace one; a plain ``package.module:Class`` will do."""
        _entries[name] = BackendEntry(entry) if isinstance(entry, str) else entry
        registered_types.add(name)

    @classmethod
    def get_supported_backends(cls) -> list[str]:
        """Return the types this installation has, sorted; drivers may still be missing."""
        return sorted({name for name in _entries if _is_there(name)} | _entry_points().keys())


def _absolute_folder(url: str) -> str:
    place, question, query = url.removeprefix("file://").partition("?")
    return f"file://{os.path.abspath(place)}{question}{query}"  # noqa: PTH100 - text with a query


def _from_url(name: str, url: str) -> BaseBackend:
    entry = _entry(name)
    backend_class = _load(name, entry)
    if entry.read is None:
        return cast("BaseBackend", backend_class.from_url(url))
    return cast("BaseBackend", backend_class(**entry.read(url)))


def _from_parts(name: str, config: StorageBackendConfig) -> BaseBackend:
    """Make a backend of options, which win over those in the query of the URL beside them."""
    entry = _entry(name)
    backend_class = _load(name, entry)
    if config.url is None and not config.config and entry.default_url is None and name != "file":
        raise ConfigError(f"{config.origin}: backend type {name!r} needs a URL")
    options = _with_place(entry, config.url) | _typed(name, plain(config.config))
    if "fsspec_uri" in options or "storage_options" in options:
        options["base_dir"] = options.pop("fsspec_uri", None) or options.get("base_dir")
        options["fs_kwargs"] = options.pop("storage_options", None)
    if name in ("s3", "gcs", "azure"):
        options["fs_protocol"] = name
    try:
        return cast("BaseBackend", backend_class(**options))
    except ConfigError as error:
        raise ConfigError(f"{config.origin}: {error}") from error


def _with_place(entry: BackendEntry, url: str | None) -> dict[str, Any]:
    """Return the arguments a URL stands for, the query read where the class would not."""
    if url is None:
        return (
            {} if entry.default_url is None or entry.read is None else entry.read(entry.default_url)
        )
    if entry.read is not None:
        return entry.read(url)
    is_folder = entry.place == "base_dir"
    place, _, query = (url if is_folder else readable(url, "server's")).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    ours = {name: v for name, v in pairs if is_folder or name == "serialization_format"}
    rest = urlencode([pair for pair in pairs if pair[0] not in ours])
    return {entry.place: f"{place}?{rest}" if rest else place, **ours}


def _typed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the types of the backend; text stands for numbers and switches too."""
    if name not in CONFIGS:
        return options
    return msgspec.convert(options, CONFIGS[name], strict=False).said()


def _entry(name: str) -> BackendEntry:
    entry = _entries.get(name)
    if entry is not None:
        return entry
    found = _entry_points().get(name)
    if found is not None:
        return BackendEntry(found)
    hint = nearest(name, {*_entries, *ALIASES})
    raise ConfigError(f"there is no backend type {name!r}; {hint}")


def _entry_points() -> dict[str, str]:
    return installed_backends()


def _is_there(name: str) -> bool:
    try:
        return find_spec(_entries[name].target.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False


def _load(name: str, entry: BackendEntry) -> Any:
    module_name, _, class_name = entry.target.partition(":")
    install = f"pip install '{DISTRIBUTION}[{entry.extra}]'" if entry.extra else None
    if entry.driver is not None and find_spec(entry.driver) is None:
        raise ConfigError(
            f"backend {name!r} needs the module {entry.driver!r}; install it with: {install}"
        )
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
        "migrate": ("true", "false"),
        "serialization_format": ("json", "msgpack", "pickle"),
    }
    options: dict[str, Any] = _options(url, choices)
    if "migrate" in options:
        options["migrate"] = options["migrate"] == "true"
    return {"database_path": path, **options}


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


def _options(url: str, choices: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the query of a URL, each option checked against what it may be (empty: anything)."""
    options: dict[str, Any] = {}
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
    "file": BackendEntry("omniq.backend.file:FileBackend", place="base_dir"),
    "s3": BackendEntry("omniq.backend.file:FileBackend", "s3", place="base_dir"),
    "gcs": BackendEntry("omniq.backend.file:FileBackend", "gcs", place="base_dir"),
    "azure": BackendEntry("omniq.backend.file:FileBackend", "azure", place="base_dir"),
    "postgresql": BackendEntry(
        "omniq.backend.postgres:PostgreSQLBackend", "postgres", place="dsn", driver="asyncpg"
    ),
    "redis": BackendEntry("omniq.backend.redis:RedisBackend", "redis", driver="redis"),
    "nats": BackendEntry("omniq.backend.nats:NATSBackend", "nats", place="servers", driver="nats"),
}
