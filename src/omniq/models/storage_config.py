"""Where one component is kept: as objects, dicts, URLs or environment variables say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

import msgspec

from omniq.exceptions import ConfigError
from omniq.models.backend_configs import (
    BackendConfig,
    FileConfig,
    nearest,
    plain,
    problems,
    type_in,
)

URL_VARIABLE = "OMNIQ_URL"
VARIABLES = {
    "task_queue_backend": "OMNIQ_TASK_QUEUE",
    "result_storage_backend": "OMNIQ_RESULT_STORAGE",
    "event_storage_backend": "OMNIQ_EVENT_STORAGE",
    "schedule_storage_backend": "OMNIQ_SCHEDULE_STORAGE",
}
"""The components, and how the names of their two variables begin."""


@dataclass(slots=True)
class StorageBackendConfig:
    """One backend: its type, where it is, its options. Making one opens and imports nothing.

    Attributes:
        backend_type: ``memory``, ``sqlite``, ``file``, ``redis``, ``postgres``, ``nats``, ``s3``,
            ``gcs``, ``azure``, an alias of those, or one of another package. May be left out where
            `url` says it.
        url: where; some types have a usual place.
        config: options of the backend by name; they win over those in the query of `url`.
        origin: where this was said, for messages; not compared.

    Raises:
        ConfigError: a part makes no sense; the message lists all that do not.
    """

    backend_type: str | None = None
    url: str | None = None
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    origin: str = field(default="StorageBackendConfig", compare=False)

    def __post_init__(self) -> None:
        raise_if_any(
            [
                f"{self.origin}: {problem}"
                if self.origin.endswith(key)
                else f"{self.origin}: {key}: {problem}"
                for key, problem in problems(self.backend_type, self.url, self.config)
            ]
        )
        self.config = plain(self.config)
        if self.backend_type is None and self.url is not None:
            self.backend_type = type_in(self.url)

    def __repr__(self) -> str:
        return f"StorageBackendConfig({self.backend_type!r}, from {self.origin})"

    @classmethod
    def from_typed(
        cls, typed: BackendConfig | FileConfig, origin: str = "code"
    ) -> StorageBackendConfig:
        """Return the same as one of the typed configurations."""
        if isinstance(typed, FileConfig):
            defaults = FileConfig()
            said = {
                name: value
                for name, value in msgspec.structs.asdict(typed).items()
                if name == "base_dir" or value != getattr(defaults, name)
            }
            return cls("file", config=said, origin=origin)
        return cls(typed.backend_type, config=typed.said(), origin=origin)


Backend = StorageBackendConfig | BackendConfig | FileConfig | str | Mapping[str, Any]
"""How one backend may be given: in full, typed, as a URL, or as a dict."""


def from_variables(name: str, variables: Mapping[str, str]) -> StorageBackendConfig | None:
    """Return what the variables of a component say, if anything.

    An empty type says nothing. An empty URL is no way to ask for the default: most likely the
    variable it is made from is unset.

    Raises:
        ConfigError: they make no sense.
    """
    prefix = VARIABLES[name]
    type_name, url_name = f"{prefix}_TYPE", f"{prefix}_URL"
    backend_type, url = variables.get(type_name) or None, _url_in(variables, url_name)
    if backend_type is None and url is None:
        whole = _url_in(variables, URL_VARIABLE) if name == "task_queue_backend" else None
        return StorageBackendConfig(url=whole, origin=URL_VARIABLE) if whole else None
    told = [name for name, value in ((type_name, backend_type), (url_name, url)) if value]
    return StorageBackendConfig(backend_type, url, origin=", ".join(told))


def _url_in(variables: Mapping[str, str], name: str) -> str | None:
    url = variables.get(name)
    if url is not None and not url.strip():
        raise ConfigError(
            f"{name}: is empty; is the variable it is made from unset? Or leave it out"
        )
    return url


def misspelt(variables: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that is nearly one of the nine."""
    valid = {URL_VARIABLE, *(f"{p}_{part}" for p in VARIABLES.values() for part in ("TYPE", "URL"))}
    return list(_misspelt(variables, valid))


def _misspelt(variables: Mapping[str, str], valid: set[str]) -> Iterator[str]:
    endings = ("_URL", "_TYPE")
    words = ("TASK", "QUEUE", "RESULT", "EVENT", "SCHEDULE")
    for name in sorted(variables.keys() - valid):
        if not name.startswith("OMNIQ_"):
            continue
        is_of_component = name.endswith(endings) and any(word in name for word in words)
        if is_of_component or get_close_matches(name, [URL_VARIABLE], cutoff=0.8):
            yield f"{name}: is no variable of OmniQ; {nearest(name, valid)}"


def backend_from(value: object, source: str) -> StorageBackendConfig:
    """Return the backend given in whatever form. Raises ConfigError."""
    match value:
        case StorageBackendConfig():
            return value
        case BackendConfig() | FileConfig():
            return StorageBackendConfig.from_typed(value, source)
        case str():
            return StorageBackendConfig(url=value, origin=source)
        case Mapping():
            return _from_mapping(cast("Mapping[str, Any]", value), source)
        case _:
            raise ConfigError(
                f"{source}: expected a URL or a table with backend_type, url and config, "
                f"got {type(value).__name__}"
            )


def _from_mapping(given: Mapping[str, Any], source: str) -> StorageBackendConfig:
    valid = ("backend_type", "url", "config")
    wrong = [
        f"{source}: no key {name!r}; {nearest(str(name), valid)}"
        for name in given
        if name not in valid
    ]
    backend_type, url, config = (given.get(name) for name in valid)
    options: Any = {} if config is None else config
    found = problems(backend_type, url, options)
    raise_if_any([*wrong, *(f"{source}: {key}: {problem}" for key, problem in found)])
    return StorageBackendConfig(backend_type, url, options, origin=source)


def raise_if_any(wrong: list[str]) -> None:
    """Raise one ConfigError with these lines, if there are any."""
    if wrong:
        raise ConfigError("\n".join(wrong))
