"""What can be said about each type of backend, as data: names, types, and what is wrong with them.

The classes here leave out what was not said (`msgspec.UNSET`), so that a default of the backend is
never mistaken for a wish of the user.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Generator, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

from omniq.exceptions import ConfigError
from omniq.models.masking import masked, masked_options

ENTRY_POINT_GROUP = "omniq.backends"
DEFAULT_BASE_DIR = "omniq_data"
Format = Literal["json", "msgpack", "pickle"]


def shown(config: msgspec.Struct) -> str:
    """Return a configuration fit to be shown: passwords, tokens and keys replaced by ``***``."""
    said = {n: v for n, v in msgspec.structs.asdict(config).items() if v is not UNSET}
    fields = ", ".join(f"{name}={value!r}" for name, value in masked_options(said).items())
    return f"{type(config).__name__}({fields})"


class BackendConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the typed configurations. `said` is what was said, without the rest."""

    backend_type: ClassVar[str] = ""
    places: ClassVar[tuple[str, ...]] = ()
    """The fields that say where the store is; a URL says the same."""

    serialization_format: Format | UnsetType = UNSET

    def said(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not UNSET
        }

    def __repr__(self) -> str:
        return shown(self)


class MemoryConfig(BackendConfig):
    """Options of `MemoryBackend`."""

    backend_type: ClassVar[str] = "memory"


class SQLiteConfig(BackendConfig):
    """Options of `SQLiteBackend`, see there."""

    backend_type: ClassVar[str] = "sqlite"
    places: ClassVar[tuple[str, ...]] = ("database_path",)

    database_path: str | UnsetType = UNSET
    durability: Literal["full", "fast"] | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    migrate: bool | UnsetType = UNSET


class RedisConfig(BackendConfig):
    """Options of `RedisBackend`, see `omniq.storage.redis.RedisOptions`."""

    backend_type: ClassVar[str] = "redis"
    places: ClassVar[tuple[str, ...]] = ("url", "host")

    url: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    db: int | UnsetType = UNSET
    username: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    ssl: bool | UnsetType = UNSET
    ssl_ca_certs: str | UnsetType = UNSET
    ssl_certfile: str | UnsetType = UNSET
    ssl_keyfile: str | UnsetType = UNSET
    sentinel_username: str | UnsetType = UNSET
    sentinel_password: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    timeout_seconds: float | UnsetType = UNSET
    connect_timeout_seconds: float | UnsetType = UNSET
    max_connections: int | UnsetType = UNSET
    durability: Literal["server", "fsync", "replica"] | UnsetType = UNSET
    allow_eviction: bool | UnsetType = UNSET
    keep_events: float | UnsetType = UNSET


class PostgreSQLConfig(BackendConfig):
    """Options of `PostgreSQLBackend`, see `omniq.storage.postgres.PostgresOptions`."""

    backend_type: ClassVar[str] = "postgresql"
    places: ClassVar[tuple[str, ...]] = ("dsn", "url", "host", "database", "db")

    dsn: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    user: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    database: str | UnsetType = UNSET
    db: str | UnsetType = UNSET
    schema: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    pool_size: int | UnsetType = UNSET
    statement_cache_size: int | UnsetType = UNSET
    direct_dsn: str | UnsetType = UNSET
    listen: bool | UnsetType = UNSET
    migrate: bool | UnsetType = UNSET
    connect_timeout: float | UnsetType = UNSET
    command_timeout: float | UnsetType = UNSET
    ssl: bool | UnsetType = UNSET


class NATSConfig(BackendConfig):
    """Options of `NATSBackend`, see `omniq.storage.nats.NATSOptions`."""

    backend_type: ClassVar[str] = "nats"
    places: ClassVar[tuple[str, ...]] = ("servers",)

    servers: str | list[str] | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    replicas: int | UnsetType = UNSET
    user: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    token: str | UnsetType = UNSET
    credentials_file: str | UnsetType = UNSET
    tls_ca_file: str | UnsetType = UNSET
    tls_certificate_file: str | UnsetType = UNSET
    tls_key_file: str | UnsetType = UNSET
    connect_timeout_seconds: float | UnsetType = UNSET
    timeout_seconds: float | UnsetType = UNSET


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
        tree: show tasks and schedules in an object store as readable objects in folders, too.
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
    tree: bool = True

    def __repr__(self) -> str:
        return shown(self)

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
            raise ConfigError(f"OMNIQ_* of the file backend: {misfit(error, cls)}") from error


class FolderConfig(BackendConfig):
    """Options of the file backend, as `FileConfig`, without its defaults."""

    backend_type: ClassVar[str] = "file"
    places: ClassVar[tuple[str, ...]] = ("base_dir", "fsspec_uri")

    base_dir: str | UnsetType = UNSET
    fsspec_uri: str | UnsetType = UNSET
    storage_options: dict[str, Any] | UnsetType = UNSET
    tasks_dir: str | UnsetType = UNSET
    results_dir: str | UnsetType = UNSET
    events_dir: str | UnsetType = UNSET
    schedules_dir: str | UnsetType = UNSET
    compression: Literal["none", "zlib"] | UnsetType = UNSET
    durability: Literal["full", "fast"] | UnsetType = UNSET
    allow_network: bool | UnsetType = UNSET
    tree: bool | UnsetType = UNSET


CONFIGS: dict[str, type[BackendConfig]] = {
    "memory": MemoryConfig,
    "sqlite": SQLiteConfig,
    "file": FolderConfig,
    "redis": RedisConfig,
    "postgresql": PostgreSQLConfig,
    "nats": NATSConfig,
    "s3": FolderConfig,
    "gcs": FolderConfig,
    "azure": FolderConfig,
}
"""The options of each type that comes with OmniQ."""
ALIASES = {
    "postgres": "postgresql",
    "gs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "unix": "redis",
    "tls": "nats",
    **dict.fromkeys(
        ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"), "redis"
    ),
}
FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")
registered_types: set[str] = set()
"""Types a program added by itself, see `StorageBackendFactory.register_backend`."""


def canonical(name: str) -> str:
    """Return the one name of a type or URL scheme that has several."""
    lowered = name.lower()
    return ALIASES.get(lowered, lowered)


@cache
def installed_backends() -> dict[str, str]:
    """Return the backends of other packages: name to ``package.module:Class``."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def type_in(url: str) -> str | None:
    """Return the type of backend a URL names by its scheme or ending, if it does.

    A scheme without its slashes (``sqlite:/jobs.db``) is a slip, no name of a file.
    """
    scheme, has_scheme, _ = url.partition("://")
    if has_scheme:
        return canonical(scheme)
    if ":" in url and _is_known(canonical(url.partition(":")[0])):
        return None
    return "sqlite" if url.partition("?")[0].endswith(FILE_ENDINGS) else None


def nearest(name: str, valid: Collection[str]) -> str:
    """Return a hint: the valid name most like this one, or all of them."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(valid))}"


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with paths as text."""
    return {
        name: os.fspath(value) if isinstance(value, Path) else value
        for name, value in config.items()
    }


def problems(backend_type: object, url: object, config: object) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a backend's type, URL and options: a key and what to do."""
    name = yield from _type_problems(backend_type, url)
    yield from _url_problems(backend_type, url)
    if not isinstance(config, Mapping):
        yield "config", f"expected options by name, got {type(config).__name__}"
    elif name is not None and name in CONFIGS:
        options = plain(cast("Mapping[str, Any]", config))
        yield from _option_problems(CONFIGS[name], name, options, has_url=bool(url))


def _type_problems(
    backend_type: object, url: object
) -> Generator[tuple[str, str], None, str | None]:
    """As `problems`; returns the type, if it can be told."""
    if backend_type is None:
        found = type_in(url) if isinstance(url, str) and url else None
        if found is None and not (isinstance(url, str) and url):
            yield "backend_type", "is missing, and there is no url that says it"
        elif found is None:
            text = masked(str(url))
            if "${" not in text:
                yield "url", f"{text!r} is no URL; write sqlite:///jobs.db or give backend_type"
        elif not _is_known(found):
            yield "url", _unknown(found)
            return None
        return found
    if not isinstance(backend_type, str):
        yield "backend_type", f"expected a name, got {type(backend_type).__name__}"
        return None
    if not _is_known(canonical(backend_type)):
        yield "backend_type", _unknown(backend_type)
        return None
    return canonical(backend_type)


def _url_problems(backend_type: object, url: object) -> Iterator[tuple[str, str]]:
    if url is None:
        return
    if not isinstance(url, str):
        yield "url", f"expected text, got {type(url).__name__}"
    elif not url:
        yield "url", "is empty; is the variable it is made from unset?"
    elif "${" in url:
        yield "url", "holds '${', a variable that nothing has replaced by its value"
    elif url != url.strip() or not url.isprintable():
        yield "url", "begins or ends with a blank or line break, or holds one; write it without"
    elif isinstance(backend_type, str) and "://" in url:
        found = canonical(url.partition("://")[0])
        if _is_known(canonical(backend_type)) and found != canonical(backend_type):
            yield "url", f"{masked(url)!r} is no URL of type {backend_type!r}"


def _option_problems(
    kind: type[BackendConfig], name: str, config: dict[str, Any], *, has_url: bool
) -> Iterator[tuple[str, str]]:
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in config.items():
        if key not in fields:
            yield f"config.{key}", f"{name} has no such option; {nearest(str(key), fields)}"
            continue
        try:
            msgspec.convert(value, fields[key], strict=False)
        except msgspec.ValidationError as error:
            yield f"config.{key}", f"{error}{_choices(fields[key])}"
    twice = [place for place in kind.places if has_url and place in config]
    for place in twice:
        yield f"config.{place}", "the url says already where the store is; give one of the two"


def misfit(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """Return which field has a bad value, what is bad about it, and what would be right."""
    problem, found, place = str(error).rpartition(" - at `$.")
    if not found:
        return str(error)
    name = place.removesuffix("`")
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return f"{name}: {problem}{_choices(types.get(name))}"


def _choices(kind: Any) -> str:
    """Return the words a field may hold, where they are few."""
    parts = [part for arg in get_args(kind) for part in (arg, *get_args(arg))]
    words = [part for part in parts if isinstance(part, str)]
    return f"; valid are {', '.join(words)}" if words else ""


def _is_known(name: str) -> bool:
    return name in CONFIGS or name in registered_types or name in installed_backends()


def _unknown(name: str) -> str:
    known = {*CONFIGS, *ALIASES, *registered_types, *installed_backends()}
    return f"there is no backend type {name!r}; {nearest(name, known)}"
