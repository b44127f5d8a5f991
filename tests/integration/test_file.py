# ruff: noqa: ASYNC240 - nothing else runs while these tests look at files
"""The file backend as a person sees it: the tree, the configuration, readable files."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq.backend.file import FileBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.clock import utcnow
from omniq.events import FileEventStorage
from omniq.exceptions import SerializationError, TaskFailedError
from omniq.models.event import EventType, TaskEvent
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.results import FileResultStorage
from omniq.storage.file.records import State


def shown(folder: Path) -> set[str]:
    """The files below a folder, the store's own ones left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not any(part.startswith(".") for part in path.parts)}


async def where(queue_folder: Path) -> list[str]:
    return sorted(path.parent.name for path in queue_folder.glob("*/*.json"))


async def test_a_task_is_in_the_folder_of_its_status_at_each_step(tmp_path: Path) -> None:
    """The documented tree, transition by transition."""
    folder = tmp_path / "tasks" / "default"
    async with FileBackend(tmp_path, durability="fast") as backend:
        queue = backend.get_task_queue()
        now = utcnow()

        await queue.enqueue(Task(func="f", id="a", run_at=now + timedelta(seconds=60)))
        await queue.enqueue(Task(func="f", id="b", depends_on=("a",)))
        assert await where(folder) == ["scheduled", "waiting"]

        later = now + timedelta(seconds=61)
        claim: dict[str, Any] = {"worker_id": "w", "lease_token": "t", "now": later}
        (task,) = await queue.claim(["default"], **claim)
        assert await where(folder) == ["running", "waiting"]

        await queue.fail(task, "no luck", now=later)
        assert await where(folder) == ["cancelled", "failed"]

        await queue.retry_task("a", now=later)
        assert await where(folder) == ["cancelled", "pending"]

        (task,) = await queue.claim(["default"], **claim)
        await queue.complete(task, now=later)
        assert await where(folder) == ["cancelled", "completed"]

        await queue.enqueue(Task(func="f", id="c", expires_at=now))
        assert await where(folder) == ["cancelled", "completed", "pending"]


async def test_names_sort_in_the_order_of_claims(tmp_path: Path) -> None:
    """`ls` shows what runs next."""
    async with FileBackend(tmp_path, durability="fast") as backend:
        queue = backend.get_task_queue()
        old = utcnow() - timedelta(hours=1)
        await queue.enqueue_many(
            [
                Task(func="f", id="low", priority=-1),
                Task(func="f", id="new"),
                Task(func="f", id="old", created_at=old),
                Task(func="f", id="high", priority=5),
            ]
        )

        listed = sorted(path.name for path in tmp_path.glob("tasks/default/pending/*"))
        claimed = await queue.claim(["default"], worker_id="w", lease_token="t", limit=10)

    ids = [task.id for task in claimed]
    assert ids == ["high", "old", "new", "low"]
    assert [name.removesuffix(".json")[26:] for name in listed] == ids


async def test_results_events_and_schedules_lie_in_the_documented_folders(tmp_path: Path) -> None:
    """By status, and events by day."""
    async with FileBackend(tmp_path) as backend:
        results, schedules = backend.get_result_storage(), backend.get_schedule_storage()
        await results.set(TaskResult(task_id="a", result=1))
        await results.set(TaskResult(task_id="b", status=ResultStatus.FAILED))
        day = datetime(2024, 1, 15, 12, tzinfo=UTC)
        await backend.get_event_storage().log_event(
            TaskEvent(task_id="a", event_type=EventType.COMPLETED, timestamp=day)
        )
        saved = await schedules.save_schedule(
            Schedule(schedule_type=ScheduleType.CRON, func="f", cron_expression="0 9 * * *", id="s")
        )
        assert shown(tmp_path) == {
            "results/success/a.json",
            "results/failed/b.json",
            "events/2024/01/15/000001.jsonl",
            "schedules/active/s.json",
        }

        await results.set(TaskResult(task_id="b", result=2, claim_count=2))
        await schedules.pause_schedule("s")
        assert {"results/success/b.json", "schedules/paused/s.json"} < shown(tmp_path)
        assert not {"results/failed/b.json", "schedules/active/s.json"} & shown(tmp_path)

        await schedules.resume_schedule("s")
        assert saved.next_run_at is not None
        active = await schedules.get_schedule("s")
        assert active is not None
        assert active.next_run_at is not None
        assert await schedules.advance("s", active.next_run_at, None)
        assert "schedules/completed/s.json" in shown(tmp_path)

    folders = {path.name for path in (tmp_path / "schedules").iterdir()}
    assert {status.value for status in ScheduleStatus} <= folders


async def test_files_are_json_whatever_the_format(tmp_path: Path) -> None:
    """A person opens one with any tool; binary formats are wrapped."""
    for kind in ("json", "msgpack", "pickle"):
        folder = tmp_path / kind
        async with FileBackend(folder, serialization_format=kind, compression="zlib") as backend:
            await backend.get_task_queue().enqueue(
                Task(func="mail.send", args=("ann", b"\0" * 2000), id="a")
            )
            await backend.get_result_storage().set(TaskResult(task_id="a", result={"x": (1,)}))
        (path,) = folder.glob("tasks/default/pending/*.json")
        content = json.loads(path.read_text())

        assert content["state"]["status"] == "pending"
        assert content["task"].keys() == {"data"}
        assert path.stat().st_size < 1600
        json.loads((folder / "results/success/a.json").read_text())


async def test_plain_json_shows_the_request(tmp_path: Path) -> None:
    """The default format hides nothing."""
    async with FileBackend(tmp_path) as backend:
        await backend.get_task_queue().enqueue(Task(func="mail.send", args=("ann", 3), id="a"))

    (path,) = tmp_path.glob("tasks/default/pending/*.json")
    content = json.loads(path.read_text())

    assert content["task"]["func"] == "mail.send"
    assert content["task"]["args"] == ["ann", 3]


async def test_each_record_says_its_own_format(tmp_path: Path) -> None:
    """A store may change its format; pickle is read only where it was chosen."""
    for kind in ("json", "msgpack", "pickle"):
        async with FileBackend(tmp_path, serialization_format=kind) as backend:
            await backend.get_result_storage().set(TaskResult(task_id=kind, result=(1, kind)))

    async with FileBackend(tmp_path, serialization_format="pickle") as backend:
        results = await backend.get_result_storage().list_results()
        assert {item.result for item in results} == {(1, "json"), (1, "msgpack"), (1, "pickle")}
    async with FileBackend(tmp_path) as backend:
        storage = backend.get_result_storage()
        assert await storage.get_result("msgpack") == (1, "msgpack")
        with pytest.raises(SerializationError, match="pickle"):
            await storage.get("pickle")
        assert len(await storage.list_results()) == 2


async def test_a_state_that_outgrows_its_line_is_written_all_the_same(tmp_path: Path) -> None:
    """The longest error, the longest names."""
    async with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        task = Task(func="f", id="i" * 128, unique_key="\N{SNOWMAN}" * 256, args=("kept",))
        await queue.enqueue(task)
        (claimed,) = await queue.claim(["default"], worker_id="w" * 128, lease_token="t" * 128)
        await queue.fail(claimed, '"\\\n' * 2000)

        failed = await queue.get_task(task.id)
        assert failed is not None
        assert failed.error is not None
        assert len(failed.error) == 2000
        assert failed.args == ("kept",)
        again = await queue.retry_task(task.id)
        assert await queue.get_task(task.id) == again


def test_the_stored_state_has_every_field_that_changes() -> None:
    """A new field of the state must not get lost on the way."""
    assert set(STATE_FIELDS) <= set(State.__struct_fields__)


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Arguments may hold secrets."""
    async with FileBackend(tmp_path / "store") as backend:
        await backend.get_task_queue().enqueue(Task(func="f"))
        await backend.get_result_storage().set(TaskResult(task_id="a"))

    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "store").rglob("*")}
    assert modes == {0}


async def test_a_component_of_its_own_sees_what_the_backend_stores(tmp_path: Path) -> None:
    """The same base directory means the same files."""
    async with FileBackend(tmp_path) as backend, FileResultStorage(str(tmp_path)) as results:
        await backend.get_result_storage().store_result("a", {"x": 1})

        assert await results.get_result("a") == {"x": 1}


async def test_a_waiter_for_a_result_is_woken_by_another_object(tmp_path: Path) -> None:
    """By a socket, not by polling."""
    async with FileResultStorage(tmp_path) as one, FileResultStorage(tmp_path) as other:
        waiting = asyncio.create_task(one.wait("a", timeout=20))
        assert await one.wait("b", timeout=0.01) is None

        await other.store_result("a", 42)

        found = await waiting
        assert found is not None
        assert found.result == 42


async def test_expired_results_are_found_again_after_a_copy_without_times(tmp_path: Path) -> None:
    """Times and modes of files are hints; what decides is inside."""
    now = utcnow()
    async with FileResultStorage(tmp_path) as results:
        await results.set(TaskResult(task_id="kept", result=1))
        await results.set(TaskResult(task_id="old", expires_at=now + timedelta(seconds=1)))
        await results.set(TaskResult(task_id="new", expires_at=now + timedelta(hours=1)))
        for path in tmp_path.glob("results/success/*.json"):
            path.chmod(0o600)
            os.utime(path, (0, 0))

        assert await results.cleanup_expired_results(now=now + timedelta(minutes=1)) == 1
        assert [item.task_id for item in await results.list_results()] == ["kept", "new"]


async def test_a_failure_is_raised_and_its_reason_readable(tmp_path: Path) -> None:
    """As on every backend."""
    async with FileResultStorage(tmp_path) as results:
        await results.set(
            TaskResult(task_id="a", status=ResultStatus.FAILED, error=ErrorInfo("E", "why"))
        )
        with pytest.raises(TaskFailedError, match="why"):
            await results.get_result("a")

    assert b'"why"' in (tmp_path / "results/failed/a.json").read_bytes()


async def test_events_of_one_day_fill_one_segment_after_another(tmp_path: Path) -> None:
    """Cleaning up touches one segment of a megabyte at a time."""
    start = datetime(2024, 1, 15, tzinfo=UTC)
    events = [
        TaskEvent(
            task_id=f"t{number % 10}",
            event_type=EventType.STARTED,
            timestamp=start + timedelta(seconds=number),
            message="m" * 1000,
        )
        for number in range(3000)
    ]
    async with FileEventStorage(tmp_path, durability="fast") as storage:
        for part in range(0, 3000, 100):
            await storage.append(events[part : part + 100])

        assert len(list(tmp_path.glob("events/2024/01/15/*.jsonl"))) == 3
        assert len(await storage.get_events("t3")) == 300
        assert await storage.purge(start + timedelta(seconds=1500), limit=1000) == 1000
        assert await storage.purge(start + timedelta(seconds=1500), limit=1000) == 500
        assert [event.timestamp for event in await storage.query(limit=1)] == [
            start + timedelta(seconds=1500)
        ]
        assert len(await storage.get_all_events()) == 1500


async def test_a_torn_line_of_an_event_log_hides_no_other(tmp_path: Path) -> None:
    """A power cut may leave half a line; the next one starts anew."""
    async with FileEventStorage(tmp_path) as storage:
        await storage.log_event(TaskEvent(task_id="a", event_type="ONE"))
        (path,) = tmp_path.glob("events/*/*/*/*.jsonl")
        with path.open("ab") as file:
            file.write(b'{"timestamp":"2024-01-')
        assert [event.event_type for event in await storage.get_all_events()] == ["ONE"]

        await storage.log_event(TaskEvent(task_id="a", event_type="TWO"))

        assert [event.event_type for event in await storage.get_events("a")] == ["ONE", "TWO"]


async def test_a_million_forgotten_events_of_other_tasks_are_not_decoded(tmp_path: Path) -> None:
    """A query for one task only decodes lines that name it, however they are written."""
    async with FileEventStorage(tmp_path, durability="fast") as storage:
        odd = 'say "hi"\\'
        await storage.append([TaskEvent(task_id="a", event_type=odd, details={"x": {1, 2}})])

        (found,) = await storage.get_events(event_type=odd)
        assert found.details == {"x": {1, 2}}
        assert await storage.get_events(event_type="hi") == []


async def test_tasks_and_results_move_between_backends(tmp_path: Path) -> None:
    """The specified migration, with live and finished tasks."""
    source, target = SQLiteBackend(tmp_path / "omniq.db"), FileBackend(tmp_path / "files")
    async with source, target:
        queue = source.get_task_queue()
        await queue.enqueue(Task(func="f", id="live", priority=3))
        await queue.enqueue(Task(func="f", id="done", status=TaskStatus.COMPLETED))
        await source.get_result_storage().store_result("done", [1])

        for task in await queue.list_tasks():
            await target.get_task_queue().enqueue(task)
        for result in await source.get_result_storage().list_results():
            await target.get_result_storage().set(result)

        moved = await target.get_task_queue().list_tasks()
        assert [(task.id, task.status.value) for task in moved] == [
            ("done", "completed"),
            ("live", "pending"),
        ]
        assert await target.get_result_storage().get_result("done") == [1]
