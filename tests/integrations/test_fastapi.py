"""The queue in web applications of FastAPI and Starlette."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from omniq import OmniQ
from omniq.exceptions import ConfigError, StorageError
from omniq.integrations.fastapi import Queue, lifespan, queue_of
from omniq.testing.waiting import wait_until

with warnings.catch_warnings():  # it would rather have another HTTP library below it
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


def shop(q: OmniQ, *, worker: bool = False) -> FastAPI:
    app = FastAPI(lifespan=lifespan(q, worker=worker))

    @app.post("/add")
    async def add(a: int, b: int, queue: Queue) -> dict[str, str]:
        return {"task": (await queue.enqueue("shop.add", a, b)).id}

    @app.get("/status/{task_id}")
    async def status(task_id: str, queue: Queue) -> dict[str, str]:
        task = await queue.get_task(task_id)
        return {"status": "none" if task is None else task.status.value}

    return app


def client(app: FastAPI | Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_queue_opens_with_the_application_and_closes_with_it(tmp_path: Path) -> None:
    """No connection is left when the server reloads."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")
    app = shop(q)

    async with app.router.lifespan_context(app), client(app) as browser:
        task_id = (await browser.post("/add?a=2&b=3")).json()["task"]
        status = (await browser.get(f"/status/{task_id}")).json()
        assert q._is_open  # pyright: ignore[reportPrivateUsage] - what the user relies on

    assert status == {"status": "pending"}
    assert not q._is_open  # pyright: ignore[reportPrivateUsage] - the same


async def test_a_worker_beside_the_routes_runs_tasks_and_ends_in_order(tmp_path: Path) -> None:
    """In development one command is enough."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")

    @q.task(name="shop.add")
    async def add(a: int, b: int) -> int:
        return a + b

    app = shop(q, worker=True)
    async with app.router.lifespan_context(app), client(app) as browser:
        task_id = (await browser.post("/add?a=2&b=3")).json()["task"]
        assert await q.handle(task_id).result(timeout=20) == 5

    async with q:
        task = await q.get_task(task_id)
    assert task is not None
    assert task.status.value == "completed"


async def test_an_application_that_ends_at_once_ends_its_worker_too(tmp_path: Path) -> None:
    """Also when the worker had no time to begin."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")
    app = shop(q, worker=True)

    async with app.router.lifespan_context(app):
        pass

    assert not q._is_open  # pyright: ignore[reportPrivateUsage] - what the user relies on


async def test_tasks_still_running_at_the_end_are_given_back(tmp_path: Path) -> None:
    """A reload in the middle of a task costs no attempt."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")
    started: list[int] = []

    @q.task(name="shop.add")
    async def add(a: int, b: int) -> None:
        started.append(a)
        await asyncio.Event().wait()

    app = FastAPI(lifespan=lifespan(q, worker={"grace_seconds": 0.0}))
    async with app.router.lifespan_context(app):
        handle = await q.enqueue("shop.add", 1, 2)
        await wait_until(lambda: bool(started), description="the task started")

    async with q:
        task = await q.get_task(handle.id)
    assert task is not None
    assert (task.status.value, task.attempt) == ("pending", 0)


async def test_a_worker_that_cannot_start_is_logged_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Routes go on; somebody must know that tasks do not."""
    path = tmp_path / "shop.db"
    q = OmniQ(f"sqlite:///{path}")
    q.every(60, name="shop.sweep")(lambda: None)
    async with q:
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE omniq_schedule")

    app = FastAPI(lifespan=lifespan(q, worker=True))
    with caplog.at_level(logging.ERROR, logger="omniq.integrations.starlette"):
        async with app.router.lifespan_context(app):
            await wait_until(lambda: bool(caplog.records), description="it is logged")

    assert "the worker in this web application ended" in caplog.text
    assert "no such table" in caplog.text


async def test_a_store_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """Not the first request of a customer."""
    app = shop(OmniQ(f"sqlite:///{tmp_path}/no/shop.db"))

    with pytest.raises(StorageError):
        async with app.router.lifespan_context(app):
            pass


async def test_a_route_without_the_lifespan_says_what_is_missing(tmp_path: Path) -> None:
    """Instead of an AttributeError about state."""

    async def ask(request: Request) -> Response:
        return JSONResponse(repr(queue_of(request)))

    app = Starlette(routes=[Route("/", ask)])
    async with client(app) as browser:
        with pytest.raises(ConfigError, match=r"lifespan=lifespan\(q\)"):
            await browser.get("/")


async def test_starlette_routes_find_the_queue(tmp_path: Path) -> None:
    """Starlette has no dependencies; a function does it."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")

    async def ask(request: Request) -> Response:
        handle = await queue_of(request).enqueue("shop.add", 1, 2)
        return JSONResponse(handle.id)

    async def talk(socket: WebSocket) -> None:
        assert queue_of(socket) is q

    routes = [Route("/", ask), WebSocketRoute("/talk", talk)]
    app = Starlette(routes=routes, lifespan=lifespan(q))
    async with app.router.lifespan_context(app), client(app) as browser:
        task_id = (await browser.get("/")).json()
        assert await q.get_task(task_id) is not None
        scope: dict[str, Any] = {"type": "websocket", "path": "/talk", "app": app, "headers": []}
        await talk(WebSocket(scope, receive=None, send=None))  # type: ignore[arg-type]  # not used


def test_the_test_client_runs_the_lifespan_and_the_queue_works_within(tmp_path: Path) -> None:
    """What most tests of FastAPI applications look like: a client in a thread without a loop."""
    q = OmniQ(f"sqlite:///{tmp_path}/shop.db")

    @q.task(name="shop.add")
    async def add(a: int, b: int) -> int:
        return a + b

    client: Any = TestClient(shop(q, worker=True))
    with client as browser:
        task_id = browser.post("/add?a=2&b=3").json()["task"]
        assert q.get_result_sync(task_id, timeout=20) == 5
    unopened: Any = TestClient(shop(q))
    with pytest.raises(ConfigError, match="context manager"):
        unopened.post("/add?a=2&b=3")
