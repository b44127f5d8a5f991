"""`dashboard`: the pages and actions as one application that can be mounted anywhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from omniq.core import OmniQ
from omniq.dashboard.actions import Act, Actions
from omniq.dashboard.guard import SafeHeaders
from omniq.dashboard.pages import Pages
from omniq.dashboard.view import FOLDER, View
from omniq.exceptions import (
    CapabilityError,
    ConfigError,
    DuplicateTaskError,
    NotFoundError,
    OmniQError,
    SerializationError,
    StaleTaskError,
    StorageError,
    ValidationError,
)

_ADVICE = {
    400: "Go back, and see that every part of the address is as it should be.",
    403: "Nothing was changed.",
    404: "It may have been deleted meanwhile, or never have been there.",
    405: "This page can only be looked at.",
    409: "Nothing was changed. Look at how it stands now.",
    503: "See that the store runs and can be reached from here, then load this page again.",
}


def dashboard(q: OmniQ, *, read_only: bool = False) -> Starlette:
    """Return the dashboard of an application, to be mounted under any path of a web application.

    It asks nobody who they are: whoever reaches it sees arguments and results, and may cancel and
    pause. See `require_password`, or let the web application check who comes by.

    Args:
        q: whose tasks, queues and schedules are shown; opened on first use if it is not open.
        read_only: show only; every action is refused.

    Raises:
        ConfigError: `q` is no `OmniQ`.
    """
    if not isinstance(q, OmniQ):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ConfigError(f"dashboard() takes an OmniQ, got {type(q).__name__}")
    pages, actions = Pages(q, read_only=read_only), Actions(q, read_only=read_only)

    def form(path: str, act: Act, parameter: str) -> Route:
        return Route(path, actions.endpoint(act, parameter), methods=["POST"])

    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/tasks", pages.tasks),
            Route("/tasks/{task_id}", pages.task),
            Route("/activity", pages.activity),
            Route("/schedules", pages.schedules),
            Route("/doctor", pages.doctor),
            Route("/style.css", _style),
            form("/tasks/{task_id}/cancel", actions.cancel, "task_id"),
            form("/tasks/{task_id}/retry", actions.retry, "task_id"),
            form("/queues/{queue}/pause", actions.pause_queue, "queue"),
            form("/queues/{queue}/resume", actions.resume_queue, "queue"),
            form("/schedules/{schedule_id}/pause", actions.pause_schedule, "schedule_id"),
            form("/schedules/{schedule_id}/resume", actions.resume_schedule, "schedule_id"),
        ],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers={HTTPException: _refused, OmniQError: _failed},
    )


async def _style(_: Request) -> Response:
    return FileResponse(FOLDER / "style.css", media_type="text/css")


async def _refused(request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    response = _problem(request, refusal.status_code, refusal.detail)
    response.headers.update(refusal.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    return _problem(request, status_of(error), str(error))


def status_of(error: Exception) -> int:
    """Return the HTTP status that tells of an error of the library."""
    match error:
        case NotFoundError():
            return 404
        case SerializationError():  # of what is stored, not of what was asked
            return 500
        case ValidationError():
            return 400
        case StaleTaskError() | DuplicateTaskError() | CapabilityError():
            return 409
        case StorageError():
            return 503
        case _:
            return 500


def _problem(request: Request, status: int, text: str) -> Response:
    return View(request).page(
        "problem.html",
        None,
        is_live=status == 503 and request.method == "GET",
        status=status,
        code=status,
        what=HTTPStatus(status).phrase,
        text=text,
        advice=_ADVICE.get(status, ""),
    )
