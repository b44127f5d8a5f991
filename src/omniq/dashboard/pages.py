"""What can be looked at. Nothing here changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from omniq.app.queues import QueueStatus
from omniq.clock import utcnow
from omniq.core import OmniQ
from omniq.dashboard.view import View
from omniq.exceptions import (
    NotFoundError,
    SerializationError,
    StorageError,
    StorageUnavailableError,
)
from omniq.ids import check_func, check_name, first_id
from omniq.models.checks import read_choice
from omniq.models.event import EventType, TaskEvent
from omniq.models.finding import Level
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import EventFilter, TaskFilter

T = TypeVar("T")
PAGE = 50
QUEUES_SHOWN = 200
RUNNING_SHOWN = 50
DUE_SHOWN = 10
SCHEDULES_SHOWN = 100
FAILURES_SHOWN = 10
EVENTS_SHOWN = 100
HISTORY_SHOWN = 200
CHILDREN_LOOKED_AT = 500
PATIENCE_SECONDS = 10.0
"""How long a store may look for tasks before the page says that it takes too long."""
GLANCE_SECONDS = 2.0
"""Likewise, for what a page can do without."""
FILTERS = ("queue", "status", "name", "schedule")
SKIPS = {
    "10 minutes": timedelta(minutes=10),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}
HIDDEN = frozenset({"args", "kwargs", "lease_token"})
"""Fields of a task that are not in the table: shown by themselves, or of use to its worker only."""


class Pages:
    """The pages of one application."""

    def __init__(self, q: OmniQ, *, read_only: bool) -> None:
        self._q = q
        self._read_only = read_only

    async def overview(self, request: Request) -> Response:
        """Show where everything is kept, queues, what runs, what failed and what is due."""
        q, view = self._q, self._view(request)
        failed = EventFilter(event_type=EventType.FAILED)
        queues = await q.status()
        running, due, failures = await asyncio.gather(
            tried(self._running(queues)),
            tried(q.schedule_storage.list_schedules(ScheduleStatus.ACTIVE)),
            tried(within(q.event_storage.query(failed, limit=FAILURES_SHOWN, newest=True))),
        )
        runs: list[Task] = running.value or []
        soonest = sorted(due.value or (), key=_due_at)
        return view.page(
            "overview.html",
            "/",
            is_live=True,
            places=self._places(),
            queues=_busiest(queues),
            others=max(0, len(queues) - QUEUES_SHOWN),
            statuses=list(TaskStatus),
            running=runs[:RUNNING_SHOWN],
            is_more=len(runs) > RUNNING_SHOWN,
            running_problem=running.problem,
            due=soonest[:DUE_SHOWN],
            schedules_problem=due.problem,
            failures=await self._told(failures.value or []),
            events_problem=failures.problem,
        )

    async def tasks(self, request: Request) -> Response:
        """List tasks that match, a page at a time; or go to the one whose id was asked for."""
        view, given = self._view(request), request.query_params
        wanted_id = given.get("id", "").strip()
        if wanted_id:
            return RedirectResponse(view.link(f"/tasks/{check_name('id', wanted_id)}"), 303)
        query = {name: given.get(name, "").strip() or None for name in FILTERS}
        after = given.get("after", "").strip() or None
        look = self._q.task_queue.find(_filter(query), after=after, limit=PAGE + 1)
        found = await within(look)
        now = utcnow()
        return view.page(
            "tasks.html",
            "/tasks",
            query={**query, "after": after},
            tasks=found[:PAGE],
            wanted=query,
            after=after,
            next_after=found[PAGE - 1].id if len(found) > PAGE else None,
            skips={name: first_id(now - back) for name, back in SKIPS.items()},
            statuses=list(TaskStatus),
        )

    async def task(self, request: Request) -> Response:
        """Show all of one task: its request, its state, what it left, what happened to it."""
        q, view = self._q, self._view(request)
        task_id = check_name("task_id", request.path_params["task_id"])
        task = await q.get_task(task_id)
        if task is None:
            raise NotFoundError(f"there is no task {task_id}")
        where = EventFilter(task_id=task_id)
        result, history = await asyncio.gather(
            tried(q.result_storage.get(task_id)),
            tried(q.event_storage.query(where, limit=HISTORY_SHOWN, newest=True)),
        )
        events: list[TaskEvent] = history.value or []
        return view.page(
            "task.html",
            f"/tasks/{task_id}",
            is_live=not task.is_final,
            task=task,
            fields=_fields(task),
            children=await self._waiting_for(task),
            result=result.value,
            result_problem=result.problem,
            history=[(event, None) for event in events],
            history_problem=history.problem,
            history_shown=HISTORY_SHOWN,
        )

    async def activity(self, request: Request) -> Response:
        """Show the latest events of all tasks, the last one first."""
        given = request.query_params.get("type", "").strip() or None
        kind = None if given is None else read_choice("type", EventType, given.upper())
        where = EventFilter(event_type=kind)
        view = self._view(request)
        look = self._q.event_storage.query(where, limit=EVENTS_SHOWN, newest=True)
        events = await within(look)
        return view.page(
            "activity.html",
            "/activity",
            query={"type": given},
            is_live=True,
            events=await self._told(events),
            shown=EVENTS_SHOWN,
            kinds=list(EventType),
            kind=kind,
            is_logged=self._q.log_events,
        )

    async def schedules(self, request: Request) -> Response:
        """List schedules with their next fire time."""
        given = request.query_params.get("after", "").strip()
        after = check_name("after", given) if given else None
        found = await self._q.schedule_storage.list_schedules()
        following = [item for item in found if after is None or item.id > after]
        shown, more = following[:SCHEDULES_SHOWN], following[SCHEDULES_SHOWN:]
        return self._view(request).page(
            "schedules.html",
            "/schedules",
            query={"after": after},
            schedules=shown,
            after=after,
            next_after=shown[-1].id if more else None,
        )

    async def doctor(self, request: Request) -> Response:
        """Show what is found about all components, the worst first."""
        order = list(Level)
        found = sorted(await self._q.findings(), key=lambda item: -order.index(item.level))
        return self._view(request).page("doctor.html", "/doctor", findings=found)

    def _view(self, request: Request) -> View:
        return View(request, read_only=self._read_only)

    def _places(self) -> dict[str, str]:
        """Return where each component is kept, without passwords."""
        q = self._q
        return {
            "Tasks": q.task_queue.store_name,
            "Results": q.result_storage.store_name,
            "Events": q.event_storage.store_name if q.log_events else "not kept",
            "Schedules": q.schedule_storage.store_name,
        }

    async def _waiting_for(self, task: Task) -> list[Task]:
        """Return tasks that wait for this one, as far as a look at some that wait shows them."""
        if task.is_final:
            return []
        waiting = TaskFilter(statuses=frozenset({TaskStatus.WAITING}))
        look = self._q.task_queue.find(waiting, limit=CHILDREN_LOOKED_AT)
        found = await tried(within(look, GLANCE_SECONDS))
        return [child for child in found.value or () if task.id in child.depends_on]

    async def _told(self, events: list[TaskEvent]) -> list[tuple[TaskEvent, str | None]]:
        """Return events, the last one first, each with the function of its task, if it exists."""
        ids = list(dict.fromkeys(event.task_id for event in events))
        found = await tried(self._q.task_queue.get(ids))
        functions = {task.id: task.func for task in found.value or () if task is not None}
        return [(event, functions.get(event.task_id)) for event in reversed(events)]

    async def _running(self, queues: dict[str, QueueStatus]) -> list[Task]:
        """Return running tasks; nobody is asked where the counts know of none."""
        if not any(TaskStatus.RUNNING in queue.counts for queue in queues.values()):
            return []
        where = TaskFilter(statuses=frozenset({TaskStatus.RUNNING}))
        return await within(self._q.task_queue.find(where, limit=RUNNING_SHOWN + 1))


async def within(asked: Awaitable[T], seconds: float | None = None) -> T:
    """Return the answer of a store. Some look through all they hold: only for so long.

    Raises:
        StorageUnavailableError: it took too long.
    """
    patience = PATIENCE_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(patience):
            return await asked
    except TimeoutError:
        raise StorageUnavailableError(
            f"the store looked for longer than {patience:g} s; leave parts of the filter away, "
            "or skip to newer tasks"
        ) from None


class Tried(NamedTuple):
    """What a store answered, or why it did not."""

    value: Any = None
    problem: str | None = None


async def tried(asked: Awaitable[Any]) -> Tried:
    """Return the answer, or the reason: one store that is away leaves the rest of a page."""
    try:
        return Tried(await asked)
    except (StorageError, SerializationError) as error:
        return Tried(problem=str(error))


def _filter(query: dict[str, str | None]) -> TaskFilter:
    """Return the filter a query asks for. Raises ValidationError."""
    queue, status, name, schedule = (query[key] for key in FILTERS)
    return TaskFilter(
        queues=frozenset({check_name("queue", queue)} if queue else ()),
        statuses=frozenset({read_choice("status", TaskStatus, status)} if status else ()),
        funcs=frozenset({check_func("name", name)} if name else ()),
        schedule_id=check_name("schedule", schedule) if schedule else None,
    )


def _busiest(queues: dict[str, QueueStatus]) -> list[QueueStatus]:
    """Return the queues to show, by name: where there are too many, those with most to do."""
    most_first = sorted(queues.values(), key=lambda queue: (not queue.is_paused, -queue.unfinished))
    return sorted(most_first[:QUEUES_SHOWN], key=lambda queue: queue.name)


def _due_at(schedule: Schedule) -> datetime:
    return schedule.next_run_at or datetime.max.replace(tzinfo=UTC)


def _fields(task: Task) -> list[tuple[str, Any]]:
    """Return the fields of a task that say something, by name."""
    pairs = ((name, getattr(task, name)) for name in task.__struct_fields__ if name not in HIDDEN)
    return [(name, value) for name, value in pairs if value not in (None, "", (), {})]
