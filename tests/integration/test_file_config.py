# ruff: noqa: ASYNC240 - nothing else runs while these tests look at files
"""Saying where the files are and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from omniq.backend.file import FileBackend
from omniq.events import FileEventStorage
from omniq.exceptions import ConfigError
from omniq.models.config import FileConfig
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.results import FileResultStorage
from omniq.storage.factory import StorageBackendFactory
from omniq.storage.file import FileQueue, FileScheduleStorage

LOCATIONS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: FileBackend(str(path)), "{path}"),
    (lambda path: FileBackend(base_dir=f"file://{path}"), "{path}"),
    (lambda path: FileBackend.from_url(f"file://{path}?durability=fast"), "{path}"),
    (lambda _: FileBackend.from_url("file://./x"), "{cwd}/x"),
    (lambda _: FileBackend("x"), "{cwd}/x"),
    (lambda _: FileBackend(base_dir="./x", fs_protocol="file"), "{cwd}/x"),
    (
        lambda _: FileBackend.from_config(FileConfig(base_dir="./y", fsspec_uri="file://./x")),
        "{cwd}/x",
    ),
    (lambda path: StorageBackendFactory.create_backend(f"file://{path}"), "{path}"),
]


@pytest.mark.parametrize(("make", "expected"), LOCATIONS, ids=range(len(LOCATIONS)))
def test_a_place_can_be_said_in_several_ways(
    make: Callable[[Path], FileBackend],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path, a URL, a configuration; relative ones to the present folder."""
    monkeypatch.chdir(tmp_path)

    backend = make(tmp_path / "store")

    path = expected.format(path=tmp_path / "store", cwd=tmp_path)
    assert backend.location.local_path() == Path(path)
    assert not Path(path).exists(), "constructing does no I/O"


def test_the_environment_says_where_if_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OMNIQ_FSSPEC_URI` wins over `OMNIQ_BASE_DIR`, arguments over both."""
    monkeypatch.setenv("OMNIQ_BASE_DIR", "/srv/one")
    assert FileBackend().location.path == "/srv/one"

    monkeypatch.setenv("OMNIQ_FSSPEC_URI", "file:///srv/two")
    assert FileBackend().location.path == "/srv/two"
    assert FileBackend("/srv/three").location.path == "/srv/three"

    monkeypatch.setenv("OMNIQ_SERIALIZATION_FORMAT", "yaml")
    with pytest.raises(ConfigError, match="serialization_format"):
        FileConfig.from_env()


def test_schemes_of_one_file_system_are_one() -> None:
    """A scheme equal to `fs_protocol` says nothing new."""
    for backend in (
        FileBackend(base_dir="s3://bucket/jobs", fs_protocol="s3"),
        FileBackend(base_dir="bucket/jobs", fs_protocol="s3"),
        FileBackend.from_url("s3://bucket/jobs/"),
    ):
        assert (backend.location.protocol, backend.location.path) == ("s3", "bucket/jobs")
    assert FileBackend("gcs://bucket").location.protocol == "gs"
    assert FileBackend("az://bucket").location.protocol == "abfs"


NONSENSE: list[Callable[[], object]] = [
    lambda: FileBackend("s3://bucket", fs_protocol="gs"),
    lambda: FileBackend(""),
    lambda: FileBackend("a\0b"),
    lambda: FileBackend.from_url("file:///x?durabilty=fast"),
    lambda: FileBackend("x", durability="none"),
    lambda: FileBackend("x", compression="rar"),
    lambda: FileBackend("x", serialization_format="yaml"),
    lambda: FileBackend("x", no_such_option=1),
    lambda: FileBackend("x", tasks_dir="../up").get_task_queue(),
    lambda: FileBackend("x", events_dir="/abs").get_event_storage(),
    lambda: FileResultStorage("x", results_dir=".hidden"),
]


@pytest.mark.parametrize("make", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_before_anything_happens(make: Callable[[], object]) -> None:
    """Each with an error that names it."""
    with pytest.raises(ConfigError):
        make()


async def test_folders_of_components_can_be_renamed(tmp_path: Path) -> None:
    """Custom `*_dir` names apply, nested ones too."""
    config = FileConfig(
        base_dir=str(tmp_path),
        tasks_dir="work/todo",
        results_dir="out",
        events_dir="log",
        schedules_dir="cron",
    )
    async with FileBackend.from_config(config) as backend:
        await backend.get_task_queue().enqueue(Task(func="f", id="a"))
        await backend.get_result_storage().set(TaskResult(task_id="a"))

    assert (tmp_path / "out/success/a.json").exists()
    assert len(list(tmp_path.glob("work/todo/default/pending/*.json"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"work", "out", "log", "cron"}


def test_another_file_system_is_used_by_its_url() -> None:
    """The classes a user sees stay the same; constructing does no I/O."""
    backend = FileBackend("my-bucket/jobs", fs_protocol="s3", fs_kwargs={"key": "k"})

    assert repr(backend) == "FileBackend('s3://my-bucket/jobs')"
    assert backend.capabilities.shared
    assert not FileBackend("memory://jobs").capabilities.shared
    for component in (FileQueue, FileResultStorage, FileEventStorage, FileScheduleStorage):
        assert "s3://my-bucket/jobs" in repr(component("s3://my-bucket/jobs", durability="full"))


def test_a_bucket_that_cannot_be_is_refused_when_constructing() -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="no name of a bucket"):
        FileBackend("s3://")


async def test_a_queue_and_schedules_of_their_own_lie_in_an_object_store() -> None:
    """As the components a backend makes, and beside them."""
    place = f"memory://{uuid4().hex}/jobs"
    queue, schedules = FileQueue(place), FileScheduleStorage(place)

    await queue.enqueue(Task(func="f", id="a"))
    await schedules.save_schedule(
        Schedule(schedule_type=ScheduleType.INTERVAL, interval_seconds=9, func="f", id="s")
    )

    async with FileBackend(place) as backend:
        assert await backend.get_task_queue().get_task("a") is not None
        assert await backend.get_schedule_storage().get_schedule("s") is not None
    await queue.close()
    await schedules.close()
