"""Pages as HTML: one environment of templates, and what every page has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from omniq.dashboard.values import shown_value
from omniq.readable import ago, printable, shown_moment, timing

FOLDER = Path(__file__).parent
REFRESH_SECONDS = 5
REST_FACTOR = 20
"""A page that was hard to make rests so many times as long as that took before it is made again."""
NOTES = {
    "cancelled": "The task is cancelled.",
    "asked": "The task runs; its worker is asked to stop it.",
    "over": "The task had ended already; nothing was changed.",
    "again": "The task will run again.",
    "queue-paused": "The queue is paused: what runs goes on, nothing new starts.",
    "queue-resumed": "The queue is open again.",
    "schedule-paused": "The schedule is paused.",
    "schedule-resumed": "The schedule is active.",
    "schedule-over": "The schedule has fired for the last time; nothing was changed.",
}
"""What is said after an action: the address of a page names one of these, never a text."""


def refresh_after(seconds: float) -> int:
    """Return after how many seconds a page refreshes that took so many to make."""
    return max(REFRESH_SECONDS, math.ceil(seconds * REST_FACTOR))


def plain(text: object) -> str:
    """Return a text fit to be shown; what is no text, as one."""
    return printable(str(text))


_FILTERS: dict[str, Callable[..., str | None]] = {
    "ago": ago,
    "plain": plain,
    "stamp": shown_moment,
    "timing": timing,
    "value": shown_value,
}
_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for _name, _filter in _FILTERS.items():
    _templates.filters[_name] = _filter


class View:
    """What one request sees: links of the place the dashboard is mounted at, and its templates."""

    def __init__(self, request: Request, *, read_only: bool = False) -> None:
        self._request = request
        self._began_at = time.monotonic()
        self._root: str = request.scope.get("root_path", "").rstrip("/")
        self._is_still = request.query_params.get("live") == "off"
        self._read_only = read_only

    def link(self, path: str, **query: str | None) -> str:
        """Return the address of a page; what is None is left out of the query.

        Who switched refreshing off keeps it off.
        """
        given = {name: value for name, value in query.items() if value is not None}
        if self._is_still and "live" not in given:
            given["live"] = "off"
        given = {name: value for name, value in given.items() if (name, value) != ("live", "on")}
        return quote(self._root + path) + (f"?{urlencode(given)}" if given else "")

    def page(
        self,
        template: str,
        path: str | None,
        *,
        query: Mapping[str, str | None] | None = None,
        is_live: bool = False,
        status: int = 200,
        **facts: Any,
    ) -> HTMLResponse:
        """Return a page.

        Args:
            template: the name of its template.
            path: its own address below the root; None where it has none to come back to.
            query: likewise.
            is_live: whether it refreshes itself, unless that was switched off.
            status: of the answer.
            **facts: what the template shows.
        """
        own: dict[str, Any] = {"path": path or "/", **(query or {})}
        text = _templates.get_template(template).render(
            facts,
            link=self.link,
            path=path,
            note=NOTES.get(self._request.query_params.get("done", "")),
            read_only=self._read_only,
            is_live=is_live,
            is_still=self._is_still,
            refresh_seconds=refresh_after(time.monotonic() - self._began_at),
            itself=self.link(**own) if path else None,
            still=self.link(**own, live="off"),
            moving=self.link(**own, live="on"),
        )
        return HTMLResponse(text, status)
