"""Servers for the pages that need one."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.servers.nats import nats_url
from tests.servers.objects import make_bucket, s3_options, s3_url
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
    if "test_blocks_of_a_page_run[docs/backends/objectstores.md]" in request.node.name:
        options = s3_options(s3_url())
        make_bucket("my-bucket")
        monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
        monkeypatch.setenv("JOBS_URL", f"s3://my-bucket/{uuid4().hex}")
