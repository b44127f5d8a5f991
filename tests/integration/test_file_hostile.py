# ruff: noqa: ASYNC240 - nothing else runs while these tests look at files
"""Bad input and bad disks: typed errors, and nothing outside of the base directory is touched."""

from __future__ import annotations

import os
import resource
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.exceptions import StorageError, StorageUnavailableError, ValidationError
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus

BAD_NAMES = ["..", "../x", "a/b", "/etc", "a\0b", "", ".index", "a..b", "x" * 300, "\N{SNOWMAN}"]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder next to the store that must stay as it is."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["precious"]
    assert (folder / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_bad_names_are_refused_by_every_component(
    name: str, tmp_path: Path, outside: Path
) -> None:
    """Ids, queues, results, schedules and events."""
    async with FileBackend(tmp_path / "store") as backend:
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        before = sorted(tmp_path.rglob("*"))
        for call in (
            queue.enqueue(Task(func="f", id=name)),
            queue.enqueue(Task(func="f", queue_name=name)),
            queue.get([name]),
            queue.set_paused(name, True),
            queue.announce(name),
            results.set(TaskResult(task_id=name)),
            results.delete(name),
            backend.get_schedule_storage().delete_schedule(name),
            backend.get_event_storage().log_event(TaskEvent(task_id=name, event_type="X")),
        ):
            with pytest.raises(ValidationError):
                await call
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("planted", ["default", "default/pending", ".index", ".keys"])
async def test_a_link_in_place_of_a_folder_is_not_followed(
    planted: str, tmp_path: Path, outside: Path
) -> None:
    """Whoever may write to the store must not make it write elsewhere."""
    link = tmp_path / "store" / "tasks" / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)

    async with FileBackend(tmp_path / "store") as backend:
        queue = backend.get_task_queue()
        with pytest.raises(StorageError, match="symbolic link"):
            await queue.enqueue(Task(func="f", unique_key="k"))


async def test_a_link_planted_later_is_not_followed_and_stops_no_other_queue(
    tmp_path: Path, outside: Path
) -> None:
    """The descriptors of real folders are kept; a new folder is opened without following."""
    tasks = tmp_path / "store" / "tasks"
    async with FileBackend(tmp_path / "store") as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="f", queue_name="good"))
        (tasks / "evil").symlink_to(outside)

        with pytest.raises(StorageError, match="symbolic link"):
            await queue.enqueue(Task(func="f", queue_name="evil"))

        await queue.enqueue(Task(func="f", queue_name="good"))
        assert await queue.get_queue_size("good") == 2


async def test_a_link_in_place_of_a_task_is_set_aside(
    tmp_path: Path, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is neither read nor written through, and hides no other task."""
    async with FileBackend(tmp_path / "store") as backend:
        await backend.get_task_queue().enqueue_many(
            [Task(func="f", id="a"), Task(func="f", id="b")]
        )
    index = tmp_path / "store" / "tasks" / ".index"
    (index / "a.json").unlink()
    (index / "a.json").symlink_to(outside / "precious")

    async with FileBackend(tmp_path / "store") as backend:
        queue = backend.get_task_queue()
        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=10)
        assert [task.id for task in claimed] == ["b"]
        assert await queue.get_task("a") is None

    assert "set task a aside" in caplog.text
    assert (tmp_path / "store/tasks/.damaged/a.json").is_symlink()


async def test_a_damaged_task_is_set_aside_and_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bytes are kept for whoever wants to look."""
    async with FileBackend(tmp_path) as backend:
        await backend.get_task_queue().enqueue_many(
            [Task(func="f", id=name, unique_key=name) for name in ("a", "b", "c")]
        )
    (tmp_path / "tasks/.index/a.json").write_bytes(b"garbage")
    (tmp_path / "tasks/.index/b.json").write_bytes(b"")

    async with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        task = await queue.dequeue()
        assert task is not None
        assert task.id == "c"
        assert await queue.dequeue() is None
        assert await queue.enqueue(Task(func="f", id="a", unique_key="a")) == "a"

    assert "set task a aside" in caplog.text
    assert (tmp_path / "tasks/.damaged/b.json").read_bytes() == b""


async def test_a_damaged_request_still_runs_into_an_error_one_can_see(tmp_path: Path) -> None:
    """As on the other backends: the task is there, and says what is wrong with it."""
    async with FileBackend(tmp_path, serialization_format="pickle") as backend:
        await backend.get_task_queue().enqueue(Task(func="f", id="a"))

    async with FileBackend(tmp_path) as backend:
        task = await backend.get_task_queue().dequeue()

    assert task is not None
    assert "pickle" in task.metadata["omniq.damaged"]


async def test_strange_files_in_the_folders_are_left_alone(tmp_path: Path) -> None:
    """Notes, pipes and folders of a person are no tasks."""
    pending = tmp_path / "tasks/default/pending"
    pending.mkdir(parents=True)
    (pending / "README").write_text("hello")
    (pending / "0000000-00000000000000000-ghost.json").write_text("{}")
    (pending / "1000000-00000000000000000-dir.json").mkdir()
    os.mkfifo(pending / "1000000-00000000000000000-pipe.json")

    async with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="f", id="a"))
        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=10)
        assert [task.id for task in claimed] == ["a"]
        assert [task.id for task in await queue.list_tasks()] == ["a"]

    assert (pending / "README").read_text() == "hello"


async def test_a_folder_where_a_task_goes_is_put_aside(tmp_path: Path) -> None:
    """Nothing a person leaves there stops the store."""
    task = Task(func="f", id="a", created_at=utcnow() - timedelta(hours=1))
    async with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(task)
        (shown,) = tmp_path.glob("tasks/default/pending/*.json")
        await queue.cancel("a")
        assert await queue.purge(utcnow() + timedelta(hours=1)) == 1
        shown.mkdir()

        await queue.enqueue(task)

        assert shown.is_file()
    assert (tmp_path / f"tasks/.damaged/default~pending~{shown.name}").is_dir()


async def test_a_file_in_place_of_the_base_directory(tmp_path: Path) -> None:
    """The error says where and why."""
    (tmp_path / "store").write_text("a file")

    for component in (
        FileBackend(tmp_path / "store").get_task_queue(),
        FileBackend(tmp_path / "store").get_event_storage(),
    ):
        with pytest.raises(StorageError, match="store"):
            await component.connect()
        await component.disconnect()


async def test_a_removed_store_is_an_error_not_a_new_empty_one(tmp_path: Path) -> None:
    """Somebody deletes the folder under a running program."""
    async with FileBackend(tmp_path / "store") as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="f"))
        (tmp_path / "store").rename(tmp_path / "gone")
        await queue.enqueue(Task(func="f"))  # the descriptors lead there still

        assert await queue.get_queue_size() in (0, 2)
    assert len(list((tmp_path / "gone").glob("tasks/default/pending/*.json"))) == 2


@contextmanager
def files_at_most(size: int) -> Generator[None]:
    """Let no file of this process grow beyond `size`, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_reported_and_nothing_is_half_stored(tmp_path: Path) -> None:
    """What was acknowledged stays, what was not is not there, and it goes on without a restart."""
    async with FileBackend(tmp_path) as backend:
        queue, events = backend.get_task_queue(), backend.get_event_storage()
        await queue.enqueue(Task(func="f", id="before"))
        await events.log_event(TaskEvent(task_id="before", event_type="X"))

        with files_at_most(4096):
            with pytest.raises(StorageUnavailableError, match="limit"):
                await queue.enqueue(Task(func="f", id="big", args=("x" * 20_000,)))
            with pytest.raises(StorageUnavailableError, match="limit"):
                await events.log_event(TaskEvent(task_id="t", event_type="X", message="x" * 9000))
        await queue.enqueue(Task(func="f", id="after"))
        await events.log_event(TaskEvent(task_id="after", event_type="X"))

        assert [task.id for task in await queue.list_tasks()] == ["after", "before"]
        assert [event.task_id for event in await events.get_all_events()] == ["before", "after"]


async def test_what_the_journal_has_but_the_files_lack_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk had room for the journal and none for the file."""
    async with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="f", id="a"))

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", _no_room)
            for name in ("b", "c"):
                with pytest.raises(StorageUnavailableError, match="full"):
                    await queue.enqueue(Task(func="f", id=name))
        await queue.enqueue(Task(func="f", id="d"))

        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=10)
        assert {task.id for task in claimed} >= {"a", "d"}
        assert (await queue.counts())["default"] == {TaskStatus.RUNNING: len(claimed)}


def _a_network(folder: Path) -> str:
    return "nfs4"


def _no_room(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_network_disk_is_refused_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks cannot be trusted by several machines."""
    monkeypatch.setattr("omniq.storage.file.location.network_filesystem_of", _a_network)
    for component in (
        FileBackend(tmp_path).get_task_queue(),
        FileBackend(tmp_path).get_event_storage(),
    ):
        with pytest.raises(ValueError, match=r"nfs4.*allow_network"):
            await component.connect()

    async with FileBackend(tmp_path, allow_network=True) as backend:
        await backend.get_task_queue().enqueue(Task(func="f"))
