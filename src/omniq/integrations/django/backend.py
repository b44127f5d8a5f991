"""`OmniQBackend`: tasks of Django, stored and run by OmniQ."""

from __future__ import annotations

from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from omniq.blocking import run_blocking
from omniq.core import OmniQ
from omniq.exceptions import UnknownTaskError, ValidationError
from omniq.integrations.django.api import (
    BaseTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    normalize_json,
    task_enqueued,
)
from omniq.integrations.django.apps_of import shared_app
from omniq.integrations.django.known import DjangoRegistry
from omniq.integrations.django.results import MARK, Known, result_of
from omniq.models.event import EventType
from omniq.models.task import Task as StoredTask
from omniq.models.task import TaskStatus

P = ParamSpec("P")
R = TypeVar("R")


class OmniQBackend(BaseTaskBackend):
    """Keeps tasks where OPTIONS say and lets OmniQ's workers run them.

    OPTIONS are arguments of `omniq.OmniQ`: where things are kept and what tasks get by default
    (``url``, ``config``, ``tasks``, ``results``, ``events``, ``schedules``, ``max_retries``,
    ``retry``, ``timeout``, ``result_ttl``, ``log_events``), and ``modules``: where tasks may live
    besides the installed apps. Without a URL, ``OMNIQ_*`` decides, as everywhere.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.queue_names: list[str] = list(params.get("QUEUES", ["default"]))

    @property
    def app(self) -> OmniQ:
        """The application behind this entry of TASKS, made when first needed.

        Raises:
            ImproperlyConfigured: an option is unknown or makes no sense.
        """
        return shared_app(self.alias, self.queue_names, self.options)

    def enqueue(
        self, task: Task[P, R], args: list[Any], kwargs: dict[str, Any]
    ) -> TaskResult[P, R]:
        """Store a task and return what is known of it. Where an event loop runs, use `aenqueue`.

        Raises:
            InvalidTask: this backend cannot run it (`InvalidTaskError` in django-tasks).
            TypeError: an argument is not JSON.
            StorageError: it could not be stored.
        """
        stored = self._prepared(task, args, kwargs)
        self.app.enqueue_task_sync(stored)
        result = result_of(Known(stored, None, ()), task, self.alias)
        task_enqueued.send(type(self), task_result=result)
        return result

    async def aenqueue(
        self, task: Task[P, R], args: list[Any], kwargs: dict[str, Any]
    ) -> TaskResult[P, R]:
        """Store a task; otherwise as `enqueue`."""
        stored = self._prepared(task, args, kwargs)
        await self.app.enqueue_task(stored)
        result = result_of(Known(stored, None, ()), task, self.alias)
        await task_enqueued.asend(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return what is known of a task of this backend.

        Raises:
            TaskResultDoesNotExist: there is no such task, its function is gone, or it was
                successful and what it returned has expired.
        """
        known = run_blocking(partial(self._known, result_id), "OmniQBackend.get_result")
        return self._told(known)

    async def aget_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return what is known of a task; otherwise as `get_result`."""
        return self._told(await self._known(result_id))

    def check(self, **kwargs: Any) -> list[Any]:
        """Say in `manage.py check` what is wrong with the settings; nothing is opened."""
        found = list(super().check(**kwargs))
        try:
            self.app  # noqa: B018 - made, and thereby checked
        except ImproperlyConfigured as error:
            found.append(checks.Error(str(error), id="omniq.E001"))
        return found

    def _prepared(
        self, task: Task[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> StoredTask:
        self.validate_task(task)
        run_at = task.run_after
        if run_at is not None and timezone.is_naive(run_at):
            run_at = timezone.make_aware(run_at)
        function = self.app.task_function(task.module_path).options(
            priority=task.priority,
            queue_name=task.queue_name,
            run_at=run_at,
            metadata={MARK: self.alias},
        )
        plain: Any = normalize_json([list(args), dict(kwargs)])
        return function.make_task(*plain[0], **plain[1])

    async def _known(self, result_id: str) -> Known:
        app = self.app
        try:
            stored = await app.get_task(result_id)
        except ValidationError as error:
            raise TaskResultDoesNotExist(result_id) from error
        if stored is None or stored.metadata.get(MARK) != self.alias:
            raise TaskResultDoesNotExist(result_id)
        started = await app.event_storage.get_events(result_id, event_type=EventType.STARTED)
        kept = await app.result_storage.get(result_id) if stored.is_final else None
        return Known(stored, kept, started)

    def _told(self, known: Known) -> TaskResult[..., Any]:
        stored = known.task
        if stored.status is TaskStatus.COMPLETED and known.result is None:
            raise TaskResultDoesNotExist(f"what {stored.id} returned has expired (result_ttl)")
        registry = self.app.registry
        assert isinstance(registry, DjangoRegistry)  # noqa: S101 - `shared_app` sets it
        try:
            task = registry.django_task(stored.func)
        except UnknownTaskError as error:
            raise TaskResultDoesNotExist(f"{stored.id}: {error}") from error
        return result_of(known, task, self.alias)
