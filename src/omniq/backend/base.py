"""`BaseBackend`: the four components of one store, from one configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar, cast

from omniq.blocking import blocking
from omniq.models.finding import Finding
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
)

C = TypeVar("C", bound=Component)


class BaseBackend(Component, ABC):
    """Makes and owns a queue, a result, an event and a schedule storage over one connection.

    The getters return the same object each time. `async_mode` is accepted for old code: one object
    has both faces (`await x()` and `x_sync()`).
    """

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}

    def get_task_queue(self, async_mode: bool = True) -> BaseQueue:  # noqa: ARG002 - specified
        """Return the task queue."""
        return self._component("queue", self._make_queue)

    def get_result_storage(self, async_mode: bool = True) -> BaseResultStorage:  # noqa: ARG002 - specified
        """Return the result storage."""
        return self._component("results", self._make_results)

    def get_event_storage(self, async_mode: bool = True) -> BaseEventStorage:  # noqa: ARG002 - specified
        """Return the event storage."""
        return self._component("events", self._make_events)

    def get_schedule_storage(self, async_mode: bool = True) -> BaseScheduleStorage:  # noqa: ARG002 - specified
        """Return the schedule storage."""
        return self._component("schedules", self._make_schedules)

    async def cleanup_expired(self) -> dict[str, int]:
        """Delete what is due for deletion in all four components; return the numbers deleted.

        The keys are always expired_tasks, expired_results, expired_events, expired_schedules.
        """
        return {
            "expired_tasks": await self.get_task_queue().cleanup_expired_tasks(),
            "expired_results": await self.get_result_storage().cleanup_expired_results(),
            "expired_events": await self.get_event_storage().cleanup_expired_events(),
            "expired_schedules": await self.get_schedule_storage().cleanup_expired_schedules(),
        }

    cleanup_expired_sync = blocking(cleanup_expired)

    async def findings(self) -> list[Finding]:
        """Return the findings of all four components; those of a shared store once."""
        components = {id((one := get()).examined): one for get in self._getters()}
        told = [item for one in components.values() for item in await one.findings()]
        return list(dict.fromkeys(told))

    async def disconnect(self) -> None:
        """Close all components, those too that opened by themselves. Idempotent."""
        await super().disconnect()
        for component in list(self._components.values()):
            await component.disconnect()

    async def _open(self) -> None:
        for get in self._getters():
            await get().connect()

    async def _is_missing(self) -> bool:
        return all([await get().is_missing() for get in self._getters()])

    def _getters(self) -> list[Callable[[], Component]]:
        return [
            self.get_task_queue,
            self.get_result_storage,
            self.get_event_storage,
            self.get_schedule_storage,
        ]

    def _component(self, name: str, make: Callable[[], C]) -> C:
        if name not in self._components:
            self._components[name] = make()
        return cast("C", self._components[name])

    @abstractmethod
    def _make_queue(self) -> BaseQueue: ...

    @abstractmethod
    def _make_results(self) -> BaseResultStorage: ...

    @abstractmethod
    def _make_events(self) -> BaseEventStorage: ...

    @abstractmethod
    def _make_schedules(self) -> BaseScheduleStorage: ...
