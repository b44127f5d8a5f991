"""An application on each store that needs no server, and workers for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ, Worker

Working = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture(params=["memory", "sqlite"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OmniQ]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/queue.db?durability=fast"}
    async with OmniQ(urls[request.param]) as app:
        yield app


@pytest.fixture
def working(app: OmniQ) -> Working:
    """`async with working(**options) as worker`: a worker runs in the background meanwhile."""
    return partial(working_on, app)


@asynccontextmanager
async def working_on(app: OmniQ, **options: Any) -> AsyncGenerator[Worker]:
    """Run a worker in the background meanwhile."""
    given: dict[str, Any] = {"cleanup": False, "schedules": False, **options}
    worker = Worker(app, **given)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop(force=True)
        await running


async def burst(app: OmniQ, **options: Any) -> Worker:
    """Run a worker until nothing is claimable."""
    given: dict[str, Any] = {"burst": True, "cleanup": False, "schedules": False, **options}
    worker = Worker(app, **given)
    await worker.run()
    return worker


async def events_of(app: OmniQ, task_id: str) -> list[str]:
    return [str(event.event_type) for event in await app.event_storage.get_events(task_id)]
