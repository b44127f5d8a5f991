"""Servers for the pages that need one."""

from __future__ import annotations

import pytest

from tests.servers.nats import nats_url
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import redis_url


@pytest.fixture(autouse=True)
def server_of_the_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the private server in the variable the page reads."""
    if "test_blocks_of_a_page_run[docs/backends/redis.md]" in request.node.name:
        monkeypatch.setenv("REDIS_URL", redis_url())
    if "test_blocks_of_a_page_run[docs/backends/postgres.md]" in request.node.name:
        monkeypatch.setenv("DATABASE_URL", f"{postgres_url()}?schema={schema()}")
    if "test_blocks_of_a_page_run[docs/backends/nats.md]" in request.node.name:
        monkeypatch.setenv("NATS_URL", nats_url())
