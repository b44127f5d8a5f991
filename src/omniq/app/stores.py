"""Where an application keeps its tasks, results, events and schedules.

For each of the four, the first that is there decides, as a whole:

1. the argument of its own (``OmniQ(results=…)``), then the one for all (``OmniQ(url)``, `backend`);
2. ``OMNIQ_<COMPONENT>_TYPE`` and ``OMNIQ_<COMPONENT>_URL``, COMPONENT being TASK_QUEUE,
   RESULT_STORAGE, EVENT_STORAGE or SCHEDULE_STORAGE (a type without a URL means its usual place);
3. the backend of the task queue; for the task queue itself ``OMNIQ_URL``, else
   ``sqlite:///omniq.db``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
)
from omniq.storage.factory import StorageBackendFactory

DEFAULT_URL = "sqlite:///omniq.db"
URL_VARIABLE = "OMNIQ_URL"

# Each a URL, a backend, or the component itself.
QueueSource = str | BaseBackend | BaseQueue
ResultSource = str | BaseBackend | BaseResultStorage
EventSource = str | BaseBackend | BaseEventStorage
ScheduleSource = str | BaseBackend | BaseScheduleStorage


class Sources(NamedTuple):
    """What the arguments of an application say about its stores; None says nothing."""

    everything: str | BaseBackend | None = None
    tasks: QueueSource | None = None
    results: ResultSource | None = None
    events: EventSource | None = None
    schedules: ScheduleSource | None = None


class Stores:
    """The four components of an application, and the backends they come from.

    Attributes:
        tasks, results, events, schedules: the components.
    """

    def __init__(self, sources: Sources, environment: Mapping[str, str] | None = None) -> None:
        choice = _Choice(sources, os.environ if environment is None else environment)
        self.tasks: BaseQueue = choice.of("tasks")
        self.results: BaseResultStorage = choice.of("results")
        self.events: BaseEventStorage = choice.of("events")
        self.schedules: BaseScheduleStorage = choice.of("schedules")
        self._backends = choice.backends

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
    """One of the four: its base class, its name in the environment, a backend's way to it."""

    base: type[Component]
    variable: str
    getter: str


_KINDS = {
    "tasks": _Kind(BaseQueue, "OMNIQ_TASK_QUEUE", "get_task_queue"),
    "results": _Kind(BaseResultStorage, "OMNIQ_RESULT_STORAGE", "get_result_storage"),
    "events": _Kind(BaseEventStorage, "OMNIQ_EVENT_STORAGE", "get_event_storage"),
    "schedules": _Kind(BaseScheduleStorage, "OMNIQ_SCHEDULE_STORAGE", "get_schedule_storage"),
}


class _Choice:
    """Works out where each component comes from; the same URL gives the same backend."""

    def __init__(self, sources: Sources, environment: Mapping[str, str]) -> None:
        self._sources = sources
        self._environment = environment
        self._by_url: dict[str, BaseBackend] = {}
        if not isinstance(sources.everything, str | BaseBackend | None):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigError(f"expected a URL or a backend, got {sources.everything!r}")

    @property
    def backends(self) -> list[BaseBackend]:
        """The backends made here."""
        return list(self._by_url.values())

    def of(self, name: str) -> Any:
        """Return one component."""
        kind = _KINDS[name]
        source = self._source(name)
        if isinstance(source, kind.base):
            return source
        if isinstance(source, str):
            source = self._backend(source)
        if isinstance(source, BaseBackend):
            return getattr(source, kind.getter)()
        raise ConfigError(
            f"{name}: expected a URL, a backend or a {kind.base.__name__}, got {source!r}"
        )

    def _source(self, name: str) -> object:
        explicit = getattr(self._sources, name)
        if explicit is None:
            explicit = self._sources.everything
        if explicit is not None:
            return explicit
        from_environment = self._named_in_environment(_KINDS[name].variable)
        if from_environment is not None:
            return from_environment
        return self._default() if name == "tasks" else self._of_the_queue(name)

    def _default(self) -> str:
        return self._environment.get(URL_VARIABLE) or DEFAULT_URL

    def _of_the_queue(self, name: str) -> object:
        source = self._source("tasks")
        if isinstance(source, BaseQueue):
            raise ConfigError(
                f"the task queue was given as an object, so nothing says where {name} are kept; "
                f"give `{name}=` too, or a backend or URL for all"
            )
        return source

    def _named_in_environment(self, variable: str) -> BaseBackend | None:
        backend_type = self._environment.get(f"{variable}_TYPE") or None
        url = self._environment.get(f"{variable}_URL") or None
        try:
            if url is None and backend_type is not None:
                url = StorageBackendFactory.default_url(backend_type)
            return None if url is None else self._backend(url, backend_type)
        except ConfigError as error:
            raise ConfigError(f"{variable}_*: {error}") from error

    def _backend(self, url: str, backend_type: str | None = None) -> BaseBackend:
        key = f"{StorageBackendFactory.type_of(url, backend_type)}:{url}"
        if key not in self._by_url:
            self._by_url[key] = StorageBackendFactory.create_backend(url, backend_type)
        return self._by_url[key]
