"""An application on each store that needs no server, and its dashboard mounted under a path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from omniq import OmniQ
from omniq.dashboard import dashboard
from omniq.dashboard.guard import HEADERS
from tests.dashboard.html import Page

HOST = "http://shop.example"
ROOT = "/in/here"


class Browser:
    """Looks at the pages of a dashboard; each must be well-formed and carry the strict headers."""

    def __init__(self, q: OmniQ, *, root: str = ROOT, **options: Any) -> None:
        site = dashboard(q, **options)
        self._root = root
        app = Starlette(routes=[Mount(root, site)]) if root else site
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def get(self, path: str, *, code: int = 200, **query: Any) -> Page:
        """Return a page below the root."""
        return self._read(await self.client.get(self._root + path, params=query or None), code)

    async def post(self, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a form of one of our own pages, or what the headers say."""
        given = {"Sec-Fetch-Site": "same-origin"} if headers is None else headers
        response = await self.client.post(self._root + path, headers=given)
        self._judge(response)
        return response

    async def act(self, path: str) -> Page:
        """Send a form and go where it leads."""
        response = await self.post(path)
        assert response.status_code == 303, response.text
        return self._read(await self.client.get(response.headers["location"]), 200)

    async def refused(self, path: str, status: int, **options: Any) -> Page:
        """Send a form that is not accepted."""
        return self._read(await self.post(path, **options), status)

    def _read(self, response: httpx.Response, status: int) -> Page:
        assert response.status_code == status, response.text
        self._judge(response)
        page = Page(response.text)
        assert page.problems == []
        assert all(link.startswith((f"{self._root}/", "#")) for link in page.links), page.links
        return page

    def _judge(self, response: httpx.Response) -> None:
        assert response.headers.items() >= {name.lower(): v for name, v in HEADERS.items()}.items()


@pytest.fixture(params=["memory", "sqlite"])
async def q(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OmniQ]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/shop.db?durability=fast"}
    async with OmniQ(urls[request.param]) as app:
        yield app


@pytest.fixture
async def browser(q: OmniQ) -> AsyncIterator[Browser]:
    async with Browser(q) as browser:
        yield browser
