"""Configuration as data: typed, checked, readable from dicts, the environment, YAML and TOML."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omniq.exceptions import ConfigError
from omniq.models.backend_configs import (
    DEFAULT_BASE_DIR,
    BackendConfig,
    FileConfig,
    MemoryConfig,
    NATSConfig,
    PostgreSQLConfig,
    RedisConfig,
    SQLiteConfig,
    nearest,
)
from omniq.models.storage_config import (
    URL_VARIABLE,
    VARIABLES,
    Backend,
    StorageBackendConfig,
    backend_from,
    from_variables,
    misspelt,
    raise_if_any,
)

__all__ = [
    "DEFAULT_BASE_DIR",
    "DEFAULT_URL",
    "URL_VARIABLE",
    "VARIABLES",
    "BackendConfig",
    "FileConfig",
    "MemoryConfig",
    "NATSConfig",
    "OmniQConfig",
    "PostgreSQLConfig",
    "RedisConfig",
    "SQLiteConfig",
    "StorageBackendConfig",
]

DEFAULT_URL = "sqlite:///omniq.db"


class OmniQConfig:
    """Where the four components of an application are kept. What is None was not said.

    What was not said is looked up by `get_task_queue_backend_config` and its three siblings: in
    the variables of the component, then in the backend of the task queue, which itself falls back
    on ``OMNIQ_URL`` and ``sqlite:///omniq.db``.

    Args:
        url: one URL for all components that have no backend of their own here.
        task_queue_backend: a `StorageBackendConfig`, a typed configuration, a dict or a URL.
        result_storage_backend: likewise.
        event_storage_backend: likewise.
        schedule_storage_backend: likewise.

    Raises:
        ConfigError: a part makes no sense; the message lists all that do not.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        task_queue_backend: Backend | None = None,
        result_storage_backend: Backend | None = None,
        event_storage_backend: Backend | None = None,
        schedule_storage_backend: Backend | None = None,
    ) -> None:
        given = {
            "url": url,
            "task_queue_backend": task_queue_backend,
            "result_storage_backend": result_storage_backend,
            "event_storage_backend": event_storage_backend,
            "schedule_storage_backend": schedule_storage_backend,
        }
        self._fill({name: value for name, value in given.items() if value is not None}, "code")

    def _fill(self, given: Mapping[str, Any], source: str) -> None:
        found: dict[str, StorageBackendConfig] = {}
        wrong: list[str] = []
        for name, value in given.items():
            if name != "url" and name not in VARIABLES:
                wrong.append(f"{source}: no key {name!r}; {nearest(name, ('url', *VARIABLES))}")
                continue
            try:
                found[name] = backend_from(value, f"{source}: {name}")
            except ConfigError as error:
                wrong += str(error).splitlines()
        raise_if_any(wrong)
        self._assign(found)

    def _assign(self, found: Mapping[str, StorageBackendConfig]) -> None:
        self.everything = found.get("url")
        self.task_queue_backend = found.get("task_queue_backend")
        self.result_storage_backend = found.get("result_storage_backend")
        self.event_storage_backend = found.get("event_storage_backend")
        self.schedule_storage_backend = found.get("schedule_storage_backend")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OmniQConfig):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        said = (f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"OmniQConfig({', '.join(said)})"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "dict") -> OmniQConfig:
        """Return the configuration of a dict with the names of the arguments as keys.

        Args:
            data: each backend a dict with `backend_type`, `url`, `config`, or a URL.
            source: what messages call it.

        Raises:
            ConfigError: a key or value makes no sense; the message lists all that do not.
        """
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigError(f"{source}: expected keys and values, got {type(data).__name__}")
        config = cls()
        config._fill({str(name): value for name, value in data.items()}, source)
        return config

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> OmniQConfig:
        """Return what the nine variables say now, so that later changes of them do not matter.

        Raises:
            ConfigError: a value makes no sense, or a variable looks like one of the nine and is
                none; the message lists all.
        """
        variables = os.environ if environment is None else environment
        wrong = misspelt(variables)
        found: dict[str, StorageBackendConfig] = {}
        for name in VARIABLES:
            try:
                backend = from_variables(name, variables)
            except ConfigError as error:
                wrong += str(error).splitlines()
                continue
            if backend is not None:
                found[name] = backend
        raise_if_any(wrong)
        config = cls()
        config._assign(found)
        return config

    @classmethod
    def from_yaml(cls, path: str | Path) -> OmniQConfig:
        """Return the configuration of a YAML file.

        Raises:
            ConfigError: PyYAML is missing, the file cannot be read, or something in it is wrong.
        """
        try:
            import yaml
        except ImportError as error:
            raise ConfigError(
                f"{path}: reading YAML needs PyYAML: pip install 'omniq-tasks[yaml]'"
            ) from error
        text = _text_of(path)
        try:
            data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: is no YAML: {error}") from error
        return cls.from_dict({} if data is None else data, source=str(path))

    @classmethod
    def from_toml(cls, path: str | Path | None = None) -> OmniQConfig:
        """Return the configuration of a TOML file: of all of it, or of its table ``tool.omniq``.

        Args:
            path: by default ``omniq.toml``, else ``pyproject.toml`` of the current folder.

        Raises:
            ConfigError: the file cannot be read, or something in it is wrong.
        """
        chosen = Path(path) if path is not None else _toml_here()
        try:
            data = tomllib.loads(_text_of(chosen))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{chosen}: is no TOML: {error}") from error
        if chosen.name != "pyproject.toml" and "tool" not in data:
            return cls.from_dict(data, source=str(chosen))
        table = data.get("tool", {}).get("omniq")
        if table is None:
            raise ConfigError(f"{chosen}: has no table [tool.omniq]")
        return cls.from_dict(table, source=f"{chosen} [tool.omniq]")

    @classmethod
    def read(cls, given: OmniQConfig | Mapping[str, Any] | str | Path) -> OmniQConfig:
        """Return the configuration of whatever form: object, dict, or path of a YAML or TOML file.

        Raises:
            ConfigError: it is none of these, or something in it is wrong.
        """
        if isinstance(given, OmniQConfig):
            return given
        if isinstance(given, Mapping):
            return cls.from_dict(given)
        if not isinstance(given, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigError(
                f"config: {type(given).__name__} is not understood; pass an OmniQConfig, a dict or "
                "the path of a YAML or TOML file"
            )
        match Path(given).suffix.lower():
            case ".toml":
                return cls.from_toml(given)
            case ".yaml" | ".yml":
                return cls.from_yaml(given)
            case _:
                raise ConfigError(f"config: {str(given)!r} does not end in .yaml, .yml or .toml")

    def get_task_queue_backend_config(self) -> StorageBackendConfig:
        """Return where tasks are kept."""
        return self.backend_of("task_queue_backend")

    def get_result_storage_backend_config(self) -> StorageBackendConfig:
        """Return where results are kept."""
        return self.backend_of("result_storage_backend")

    def get_event_storage_backend_config(self) -> StorageBackendConfig:
        """Return where events are kept."""
        return self.backend_of("event_storage_backend")

    def get_schedule_storage_backend_config(self) -> StorageBackendConfig:
        """Return where schedules are kept."""
        return self.backend_of("schedule_storage_backend")

    def resolved(
        self, environment: Mapping[str, str] | None = None
    ) -> dict[str, StorageBackendConfig]:
        """Return where each of the four components is kept, all sources considered.

        Raises:
            ConfigError: variables make no sense; the message lists all that do not.
        """
        found: dict[str, StorageBackendConfig] = {}
        wrong: list[str] = []
        for name in VARIABLES:
            try:
                found[name] = self.backend_of(name, environment)
            except ConfigError as error:
                wrong += [line for line in str(error).splitlines() if line not in wrong]
        raise_if_any(wrong)
        return found

    def explicit(self, name: str) -> StorageBackendConfig | None:
        """Return what this configuration itself says about a component."""
        return cast("StorageBackendConfig | None", getattr(self, name)) or self.everything

    def backend_of(
        self, name: str, environment: Mapping[str, str] | None = None
    ) -> StorageBackendConfig:
        """Return where a component is kept, all sources considered.

        Raises:
            ConfigError: a variable makes no sense.
        """
        variables = os.environ if environment is None else environment
        found = self.explicit(name) or from_variables(name, variables)
        if found is not None:
            return found
        if name == "task_queue_backend":
            return StorageBackendConfig(url=DEFAULT_URL, origin="default")
        return self.backend_of("task_queue_backend", environment)


def _text_of(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _toml_here() -> Path:
    for name in ("omniq.toml", "pyproject.toml"):
        if Path(name).exists():
            return Path(name)
    raise ConfigError(f"there is neither omniq.toml nor pyproject.toml in {Path.cwd()}")
