"""Where an application keeps its tasks, results, events and schedules.

For each of the four, the first that is there decides, as a whole:

1. the argument of its own (``OmniQ(results=…)``), then the one for all (``OmniQ(url)``, `backend`);
2. the `config`: the backend of its own, then its `url` for all;
3. ``OMNIQ_<COMPONENT>_TYPE`` and ``OMNIQ_<COMPONENT>_URL``, COMPONENT being TASK_QUEUE,
   RESULT_STORAGE, EVENT_STORAGE or SCHEDULE_STORAGE (a type without a URL means its usual place);
4. the backend of the task queue; for the task queue itself ``OMNIQ_URL``, else
   ``sqlite:///omniq.db``.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.models.config import DEFAULT_URL, URL_VARIABLE, OmniQConfig, StorageBackendConfig
from omniq.models.storage_config import from_variables, misspelt
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
)
from omniq.storage.factory import StorageBackendFactory

__all__ = ["DEFAULT_URL", "URL_VARIABLE", "Sources", "Stores"]

logger = logging.getLogger(__name__)
WITH_TASKS = "with tasks"

# Each a URL, a backend, or the component itself.
QueueSource = str | StorageBackendConfig | BaseBackend | BaseQueue
ResultSource = str | StorageBackendConfig | BaseBackend | BaseResultStorage
EventSource = str | StorageBackendConfig | BaseBackend | BaseEventStorage
ScheduleSource = str | StorageBackendConfig | BaseBackend | BaseScheduleStorage


class Sources(NamedTuple):
    """What the arguments of an application say about its stores; None says nothing."""

    everything: str | StorageBackendConfig | BaseBackend | None = None
    tasks: QueueSource | None = None
    results: ResultSource | None = None
    events: EventSource | None = None
    schedules: ScheduleSource | None = None
    config: OmniQConfig | None = None


class Stores:
    """The four components of an application, and the backends they come from.

    Attributes:
        tasks, results, events, schedules: the components.
        keys: for each, a text that is equal for one and the same backend; it may hold secrets.
    """

    def __init__(self, sources: Sources, environment: Mapping[str, str] | None = None) -> None:
        choice = _Choice(sources, os.environ if environment is None else environment)
        found = choice.all()
        self.tasks: BaseQueue = found["tasks"]
        self.results: BaseResultStorage = found["results"]
        self.events: BaseEventStorage = found["events"]
        self.schedules: BaseScheduleStorage = found["schedules"]
        self.keys: dict[str, str] = choice.keys
        self._backends = choice.backends

    @property
    def places(self) -> dict[str, str]:
        """Where each component is, fit to be told: ``with tasks`` or a digest of its key."""
        queue = self.keys["tasks"]
        return {
            name: WITH_TASKS if key == queue else hashlib.sha256(key.encode()).hexdigest()[:16]
            for name, key in self.keys.items()
        }

    def __iter__(self) -> Iterator[Component]:
        return iter((self.tasks, self.results, self.events, self.schedules))

    async def connect(self) -> None:
        """Open all. When one cannot be opened, none stays open."""
        try:
            for component in self:
                await component.connect()
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Close all, those too that opened by themselves."""
        for component in (*self, *self._backends):
            await component.disconnect()

    async def cleanup(self) -> dict[str, int]:
        """Delete what is due for deletion in all four; return the numbers deleted."""
        return {
            "expired_tasks": await self.tasks.cleanup_expired_tasks(),
            "expired_results": await self.results.cleanup_expired_results(),
            "expired_events": await self.events.cleanup_expired_events(),
            "expired_schedules": await self.schedules.cleanup_expired_schedules(),
        }


class _Kind(NamedTuple):
    """One of the four: its base class, its name in a configuration, a backend's way to it."""

    base: type[Component]
    key: str
    getter: str


_KINDS = {
    "tasks": _Kind(BaseQueue, "task_queue_backend", "get_task_queue"),
    "results": _Kind(BaseResultStorage, "result_storage_backend", "get_result_storage"),
    "events": _Kind(BaseEventStorage, "event_storage_backend", "get_event_storage"),
    "schedules": _Kind(BaseScheduleStorage, "schedule_storage_backend", "get_schedule_storage"),
}


class _Choice:
    """Works out where each component comes from; the same place gives the same backend."""

    def __init__(self, sources: Sources, environment: Mapping[str, str]) -> None:
        self._sources = sources
        self._config = sources.config or OmniQConfig()
        self._environment = environment
        self._by_key: dict[str, BaseBackend] = {}
        self.keys: dict[str, str] = {}
        if not isinstance(sources.everything, str | StorageBackendConfig | BaseBackend | None):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigError(f"expected a URL or a backend, got {sources.everything!r}")
        for line in misspelt(environment):
            logger.warning("%s", line)

    @property
    def backends(self) -> list[BaseBackend]:
        """The backends made here."""
        return list(self._by_key.values())

    def all(self) -> dict[str, Any]:
        """Return the components by name. Raises one ConfigError for all that make no sense."""
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for name in _KINDS:
            try:
                found[name] = self._component(name)
            except ConfigError as error:
                wrong += [line for line in str(error).splitlines() if line not in wrong]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return found

    def _component(self, name: str) -> Any:
        kind = _KINDS[name]
        source = self._source(name)
        self.keys[name] = f"object {id(source)}"
        if isinstance(source, kind.base):
            return source
        if isinstance(source, str):
            StorageBackendFactory.type_of(source)
            own = getattr(self._sources, name) is not None
            source = StorageBackendConfig(url=source, origin=name if own else "url")
        if isinstance(source, StorageBackendConfig):
            source = self._backend(name, source)
        if isinstance(source, BaseBackend):
            return getattr(source, kind.getter)()
        raise ConfigError(
            f"{name}: expected a URL, a backend or an object of type {kind.base.__name__}, "
            f"got {source!r}"
        )

    def _source(self, name: str) -> object:
        explicit = getattr(self._sources, name)
        if explicit is None:
            explicit = self._sources.everything
        if explicit is not None:
            return explicit
        key = _KINDS[name].key
        said = self._config.explicit(key) or from_variables(key, self._environment)
        if said is not None:
            return said
        return self._default() if name == "tasks" else self._of_the_queue(name)

    def _default(self) -> StorageBackendConfig:
        return StorageBackendConfig(url=DEFAULT_URL, origin="default")

    def _of_the_queue(self, name: str) -> object:
        source = self._source("tasks")
        if isinstance(source, BaseQueue):
            raise ConfigError(
                f"the task queue was given as an object, so nothing says where {name} are kept; "
                f"give `{name}=` too, or a backend or URL for all"
            )
        return source

    def _backend(self, name: str, config: StorageBackendConfig) -> BaseBackend:
        try:
            key = self.keys[name] = StorageBackendFactory.key_of(config)
            if key not in self._by_key:
                self._by_key[key] = StorageBackendFactory.create_backend(config)
            return self._by_key[key]
        except ConfigError as error:
            text = str(error)
            raise ConfigError(
                text if text.startswith(config.origin) else f"{config.origin}: {text}"
            ) from error
