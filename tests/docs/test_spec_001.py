"""Specification 001, file storage: each Python example as written, and the tree it documents."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.models import (
    EventType,
    ResultStatus,
    Schedule,
    ScheduleType,
    Task,
    TaskEvent,
    TaskResult,
    TaskStatus,
)
from omniq.models.config import FileConfig
from omniq.storage.objectstore import publisher
from omniq.testing.waiting import wait_until
from tests.objectstore.shown import shown
from tests.servers.objects import make_bucket, s3_options, s3_url

PAGE = Path(__file__).parent / "spec/file_storage.md"
BLOCKS = re.compile(r"^### (.+?)$|^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMES = {
    "asyncio": asyncio,
    "EventType": EventType,
    "FileBackend": FileBackend,
    "FileConfig": FileConfig,
    "ResultStatus": ResultStatus,
    "Schedule": Schedule,
    "ScheduleType": ScheduleType,
    "Task": Task,
    "TaskEvent": TaskEvent,
    "TaskResult": TaskResult,
    "TaskStatus": TaskStatus,
}
"""What the shorter examples take for imported."""


def examples() -> dict[str, str]:
    """The examples by the heading above each, numbered where one heading has several."""
    found: dict[str, str] = {}
    heading = ""
    for title, code in BLOCKS.findall(PAGE.read_text()):
        heading = title or heading
        if code:
            name = heading if heading not in found else f"{heading} {len(found)}"
            found[name] = code
    return found


async def prepare(backend: FileBackend) -> None:
    """Store what the examples look up by name."""
    async with backend:
        await backend.get_task_queue().enqueue(Task(func="f", id="task_id", queue_name="apart"))
        await backend.get_result_storage().store_result("old", 1, ttl=3600)


def lead_to_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say where S3 is, and with which keys, in the variables every tool of AWS reads."""
    options = s3_options(s3_url())
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def run(code: str, names: dict[str, Any]) -> None:
    """Execute code that may await at its top level."""
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ended = eval(compiled, names)
    if inspect.iscoroutine(ended):
        asyncio.run(ended)


@pytest.mark.parametrize("name", examples())
def test_example_runs_as_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own, with the backend and the task that the text before it made."""
    monkeypatch.chdir(tmp_path)
    backend = FileBackend(base_dir="./omniq_data")
    asyncio.run(prepare(backend))
    code = examples()[name]
    names = {**NAMES, "backend": backend, "task": Task(func="f")}

    if "s3://results-bucket" in code:
        lead_to_s3(monkeypatch)
        make_bucket("results-bucket")
    run(code, names)


async def cycle(backend: FileBackend) -> None:
    """One task from end to end, with its result, an event and a schedule."""
    async with backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="my_function", args=(1, 2, 3), queue_name="default"))
        task = await queue.dequeue(["default"])
        assert task is not None
        assert task.args == (1, 2, 3)
        await queue.complete(task)
        results = backend.get_result_storage()
        await results.set(TaskResult(task_id=task.id, result={"output": "processed_data"}))
        assert await results.get_result(task.id) == {"output": "processed_data"}
        events = backend.get_event_storage()
        await events.log_event(TaskEvent(task_id=task.id, event_type=EventType.COMPLETED))
        assert len(await events.get_events(task_id=task.id)) == 1
        schedules = backend.get_schedule_storage()
        schedule = Schedule(
            schedule_type=ScheduleType.CRON, func="daily_report", cron_expression="0 9 * * *"
        )
        await schedules.save_schedule(schedule)
        assert await schedules.get_schedule(schedule.id) is not None
        assert set((await backend.cleanup_expired()).values()) == {0}


async def test_s3_by_its_arguments() -> None:
    """`FileBackend("my-bucket/omniq-data", fs_protocol="s3", fs_kwargs=…)`."""
    make_bucket("my-bucket")
    place = f"my-bucket/omniq-data-{uuid4().hex}"

    await cycle(FileBackend(base_dir=place, fs_protocol="s3", fs_kwargs=s3_options(s3_url())))


async def test_s3_by_its_url_the_configuration_and_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`from_url`, `FileConfig(fsspec_uri=…)` and `OMNIQ_FSSPEC_URI` lead to one store."""
    lead_to_s3(monkeypatch)
    make_bucket("my-bucket")
    url = f"s3://my-bucket/omniq-data-{uuid4().hex}"
    monkeypatch.setenv("OMNIQ_FSSPEC_URI", url)

    await cycle(FileBackend.from_url(url))
    for backend in (FileBackend.from_config(FileConfig(fsspec_uri=url)), FileBackend()):
        async with backend:
            (task,) = await backend.get_task_queue().list_tasks()
            assert task.status is TaskStatus.COMPLETED
            assert await backend.get_result_storage().get(task.id) is not None


def test_s3_in_blocking_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other face of the same objects."""
    lead_to_s3(monkeypatch)
    make_bucket("my-bucket")

    with FileBackend.from_url(f"s3://my-bucket/{uuid4().hex}") as backend:
        queue = backend.get_task_queue(async_mode=False)
        queue.enqueue_sync(Task(func="sync_task"))
        assert queue.get_queue_size_sync("default") == 1


def test_specification_has_all_its_examples() -> None:
    """The reader above finds each block of code."""
    assert len(examples()) == PAGE.read_text().count("```python\n")


async def test_the_tree_is_the_documented_one(tmp_path: Path) -> None:
    """Every folder the page draws."""
    async with FileBackend(base_dir=str(tmp_path), fs_protocol="file") as backend:
        queue = backend.get_task_queue()
        for name in ("default", "high_priority"):
            await queue.enqueue_many([Task(func="f", queue_name=name) for _ in range(3)])
        done, _ = await queue.claim(["default"], worker_id="w", lease_token="t", limit=2)
        await queue.complete(done)
        event = TaskEvent(
            task_id=done.id, event_type=EventType.COMPLETED, timestamp=utcnow() - timedelta(days=1)
        )
        await backend.get_event_storage().log_event(event)

    drawn = ["tasks/default/pending", "tasks/default/running", "tasks/default/completed"]
    drawn += ["tasks/high_priority", "results/success", "results/failed"]
    drawn += ["schedules/active", "schedules/paused", "schedules/completed"]
    drawn.append(event.timestamp.strftime("events/%Y/%m/%d"))
    for folder in drawn:
        assert (tmp_path / folder).is_dir(), folder


async def test_the_tree_on_s3_is_the_documented_one_at_each_transition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some seconds behind, as it is published in the background; here at once."""
    monkeypatch.setattr(publisher, "INTERVAL_SECONDS", 0.02)
    lead_to_s3(monkeypatch)
    make_bucket("my-bucket")
    async with FileBackend.from_url(f"s3://my-bucket/{uuid4().hex}") as backend:
        queue, schedules = backend.get_task_queue(), backend.get_schedule_storage()
        await queue.enqueue(Task(func="f", id="a", args=(1,), queue_name="default"))
        await queue.enqueue(Task(func="f", id="b", queue_name="high_priority"))
        await lie_in(backend, "tasks/default/pending a", "tasks/high_priority/pending b")
        (task,) = await queue.claim(["default"], worker_id="w", lease_token="t", limit=1)
        await lie_in(backend, "tasks/default/running a", "tasks/high_priority/pending b")
        await queue.complete(task)
        await lie_in(backend, "tasks/default/completed a", "tasks/high_priority/pending b")
        await queue.purge(utcnow() + timedelta(days=1))
        await queue.cancel("b")
        await lie_in(backend, "tasks/high_priority/cancelled b")
        await schedules.save_schedule(
            Schedule(id="s", func="f", schedule_type=ScheduleType.CRON, cron_expression="0 9 * * *")
        )
        await lie_in(backend, "tasks/high_priority/cancelled b", "schedules/active s")
        await schedules.pause_schedule("s")
        await lie_in(backend, "tasks/high_priority/cancelled b", "schedules/paused s")


async def lie_in(backend: FileBackend, *expected: str) -> None:
    """Wait until these are all the objects people see, each as its folder and id."""

    async def is_so() -> bool:
        keys = (key.rpartition("/") for key in await shown(backend))
        found = {
            f"{folder} {re.sub(r'^[0-9]{7}-[0-9]{17}-', '', name)}" for folder, _, name in keys
        }
        return found == {f"{one}.json" for one in expected}

    await wait_until(is_so, description=f"the tree is {', '.join(expected)}")


async def test_cleanup_statistics_have_four_numbers(tmp_path: Path) -> None:
    """Always the same keys."""
    async with FileBackend(base_dir=str(tmp_path)) as backend:
        stats = await backend.cleanup_expired()

    assert stats == dict.fromkeys(
        ["expired_tasks", "expired_results", "expired_events", "expired_schedules"], 0
    )
