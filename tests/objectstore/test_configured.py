"""Object stores by URL, by dicts with credentials, and what is shown of those."""

from __future__ import annotations

import pytest

from omniq.backend.file import FileBackend
from omniq.models.config import FileConfig
from omniq.models.result import TaskResult
from omniq.models.storage_config import StorageBackendConfig
from omniq.storage.factory import StorageBackendFactory
from tests.servers.objects import PLACES

SECRET = "do-not-show"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a", "gs://bucket/a"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("azure://bucket/a", "abfs://bucket/a"),
        ("az://bucket/a", "abfs://bucket/a"),
        ("abfs://bucket/a", "abfs://bucket/a"),
    ],
)
def test_every_scheme_leads_to_its_store(url: str, place: str) -> None:
    """Nothing is opened yet."""
    assert repr(StorageBackendFactory.create_backend(url)) == f"FileBackend({place!r})"


@pytest.mark.parametrize("store", PLACES)
async def test_a_dict_with_credentials_opens_a_store(store: str) -> None:
    """As it stands in a YAML or TOML file."""
    base_dir, backend_type, options = PLACES[store]()
    config = {
        "backend_type": backend_type,
        "config": {"base_dir": base_dir, "storage_options": options, "results_dir": "out"},
    }

    async with StorageBackendFactory.create_result_storage(config) as results:
        assert await results.set(TaskResult(task_id="a", result=1))
        assert await results.get_result("a") == 1


def test_credentials_are_never_shown() -> None:
    """Not by anything that holds them."""
    options = {"key": SECRET, "client_kwargs": {"aws_session_token": SECRET}}
    config = FileConfig(base_dir="s3://bucket/a", storage_options=options)
    backend = FileBackend.from_config(config)
    holders = [
        config,
        backend,
        backend.location,
        backend.driver,
        backend.get_task_queue(),
        backend.get_result_storage(),
        backend.get_event_storage(),
        backend.get_schedule_storage(),
        StorageBackendConfig("s3", config={"storage_options": options}),
    ]

    for holder in holders:
        assert SECRET not in repr(holder)
        assert SECRET not in str(holder)
