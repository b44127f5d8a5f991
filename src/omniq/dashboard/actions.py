"""What can be done. Each is a form of one of our own pages, and leads back to it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from omniq.core import OmniQ
from omniq.dashboard.guard import is_from_our_pages
from omniq.dashboard.view import View
from omniq.ids import check_name
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.models.task import Task, TaskStatus

logger = logging.getLogger(__name__)
Act = Callable[[str], Awaitable[tuple[str, str]]]
"""Does something with what is named; returns the page to go to, and a key of `NOTES`."""
Endpoint = Callable[[Request], Awaitable[Response]]
FOREIGN = (
    "this request came from a page of another site, or from no browser; a program has to send "
    "the header Origin with the address of this dashboard"
)
READ_ONLY = "this dashboard only shows; nothing can be changed here"


class Actions:
    """What can be done with tasks, queues and schedules of one application."""

    def __init__(self, q: OmniQ, *, read_only: bool) -> None:
        self._q = q
        self._read_only = read_only

    def endpoint(self, act: Act, parameter: str) -> Endpoint:
        """Return what answers a form: it does `act` with what the path names, then leads back."""

        async def answer(request: Request) -> Response:
            if self._read_only:
                raise HTTPException(403, READ_ONLY)
            if not is_from_our_pages(request.headers):
                raise HTTPException(403, FOREIGN)
            name = check_name(parameter, request.path_params[parameter])
            path, done = await act(name)
            logger.info("dashboard: %s %s: %s", parameter, name, done)
            return RedirectResponse(View(request).link(path, done=done), 303)

        return answer

    async def cancel(self, task_id: str) -> tuple[str, str]:
        """Cancel a task, or ask its worker to stop it."""
        return _page_of(task_id), _said_of_cancel(await self._q.cancel(task_id))

    async def retry(self, task_id: str) -> tuple[str, str]:
        """Run a finished task again."""
        await self._q.retry(task_id)
        return _page_of(task_id), "again"

    async def pause_queue(self, queue: str) -> tuple[str, str]:
        """Let nothing of a queue start."""
        await self._q.pause_queue(queue)
        return "/", "queue-paused"

    async def resume_queue(self, queue: str) -> tuple[str, str]:
        """Let tasks of a queue start again."""
        await self._q.resume_queue(queue)
        return "/", "queue-resumed"

    async def pause_schedule(self, schedule_id: str) -> tuple[str, str]:
        """Let a schedule fire no more."""
        schedule = await self._q.schedule_storage.pause_schedule(schedule_id)
        return "/schedules", _said_of_schedule(schedule)

    async def resume_schedule(self, schedule_id: str) -> tuple[str, str]:
        """Let a schedule fire again."""
        schedule = await self._q.schedule_storage.resume_schedule(schedule_id)
        return "/schedules", _said_of_schedule(schedule)


def _page_of(task_id: str) -> str:
    return f"/tasks/{task_id}"


def _said_of_cancel(task: Task) -> str:
    if not task.is_final:
        return "asked"
    return "cancelled" if task.status is TaskStatus.CANCELLED else "over"


def _said_of_schedule(schedule: Schedule) -> str:
    match schedule.status:
        case ScheduleStatus.PAUSED:
            return "schedule-paused"
        case ScheduleStatus.ACTIVE:
            return "schedule-resumed"
        case ScheduleStatus.COMPLETED:
            return "schedule-over"
