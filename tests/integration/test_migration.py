"""Everything of one store moves to another as it is, however often it is started."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from omniq import OmniQ, RetryPolicy, Schedule, ScheduleStatus, ScheduleType
from omniq.backend.base import BaseBackend
from omniq.backend.file import FileBackend
from omniq.backend.memory import MemoryBackend
from omniq.backend.nats import NATSBackend
from omniq.backend.postgres import PostgreSQLBackend
from omniq.backend.redis import RedisBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.cli.app import execute
from omniq.cli.exits import Exit
from omniq.clock import utcnow
from omniq.migration import MigrationError, Report, migrate, migrate_sync
from omniq.models import Task, TaskEvent, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.storage.sqlite import SQLiteQueue
from tests.servers.nats import nats_url
from tests.servers.postgres import postgres_url, schema
from tests.servers.redis import namespace, redis_url

START = datetime(2030, 1, 1, tzinfo=UTC)
PAIRS = [
    ("sqlite", "postgres"),
    ("postgres", "redis"),
    ("redis", "file"),
    ("file", "memory"),
    ("memory", "nats"),
    ("nats", "sqlite"),
]


def backend(name: str, folder: Path) -> BaseBackend:
    match name:
        case "sqlite":
            return SQLiteBackend(folder / "q.db", durability="fast")
        case "file":
            return FileBackend(folder / "q", durability="fast")
        case "redis":
            return RedisBackend(redis_url(), namespace=namespace())
        case "nats":
            return NATSBackend(nats_url(), namespace=namespace())
        case "postgres":
            return PostgreSQLBackend(postgres_url(), schema=schema())
        case _:
            return MemoryBackend()


async def end_all(queue: BaseQueue, *ids: str) -> None:
    for task_id in ids:
        claimed = await queue.lock_task(task_id)
        assert claimed is not None
        await queue.complete(claimed)


async def fill(source: BaseBackend) -> None:
    """A task in every state, results, events, schedules."""
    queue, results = source.get_task_queue(), source.get_result_storage()
    later = utcnow() + timedelta(hours=1)
    retry = RetryPolicy(max_retries=3, delay_seconds=600)
    await queue.enqueue_many(
        [
            Task(func="f", id="z-done", args=(1, START), metadata={"by": "me"}),
            Task(func="f", id="z-gone"),
            Task(func="f", id="y-failed"),
            Task(func="f", id="y-retrying", retry=retry),
            Task(func="f", id="x-parent", priority=5, unique_key="one"),
            Task(func="f", id="later", run_at=later, kwargs={"a": [1, 2]}),
            Task(func="f", id="paused", queue_name="paused"),
        ]
    )
    await queue.set_paused("paused", True)
    await queue.enqueue(Task(func="f", id="m-child", depends_on=("x-parent", "z-gone", "z-done")))
    await queue.enqueue(Task(func="f", id="a-grandchild", depends_on=("m-child",)))
    await queue.enqueue(Task(func="f", id="b-ended", depends_on=("z-gone",)))
    await end_all(queue, "z-gone", "z-done", "b-ended")
    for task_id in ("y-failed", "y-retrying"):
        claimed = await queue.lock_task(task_id)
        assert claimed is not None
        await queue.fail(claimed, "no")
    await results.store_result("z-done", {"sum": 1}, ttl=3600)
    await log(source, 1200)
    for schedule_id in ("active", "paused"):
        schedule = Schedule(
            schedule_type=ScheduleType.INTERVAL, func="f", id=schedule_id, interval_seconds=60
        )
        await source.get_schedule_storage().save_schedule(schedule)
    await source.get_schedule_storage().pause_schedule("paused")


async def log(source: BaseBackend, count: int) -> None:
    """Store events, more of one moment than fit a page, some the same."""
    moments = [utcnow() - timedelta(hours=1)] * (count - 10)
    moments += [moments[0] + timedelta(seconds=n) for n in range(10)]
    await source.get_event_storage().append(
        [
            TaskEvent(task_id="z-done", event_type="STARTED", timestamp=at, message=f"{n // 2}")
            for n, at in enumerate(moments)
        ]
    )


async def states(queue: BaseQueue) -> dict[str, tuple[object, ...]]:
    return {
        task.id: (task.status, task.attempt, task.claim_count, task.due_at, task.created_at)
        for task in await queue.list_tasks()
    }


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def test_all_records_keep_ids_states_and_times(here: str, there: str, tmp_path: Path) -> None:
    """And the verification says so; a second migration finds nothing to do."""
    source, target = backend(here, tmp_path), backend(there, tmp_path)
    await fill(source)

    report = await migrate(source, target, verify=True)

    assert report.is_complete
    assert report.tasks == (10, 0)
    assert report.results == (1, 0)
    assert report.events == (1200, 0)
    assert report.schedules == (2, 0)
    queue = target.get_task_queue()
    assert await states(queue) == await states(source.get_task_queue())
    assert sorted(await queue.paused()) == ["paused"]
    paused = await target.get_schedule_storage().get_schedule("paused")
    assert paused is not None
    assert paused.status is ScheduleStatus.PAUSED
    again = await migrate(source, target, verify=True)
    assert (again.tasks, again.results, again.events) == ((0, 10), (0, 1), (0, 1200))
    assert again.is_complete
    await end_all(queue, "x-parent", "m-child", "a-grandchild")
    await migrate(source, target)
    child = await queue.get_task("a-grandchild")
    assert child is not None
    assert child.status is TaskStatus.COMPLETED
    await source.disconnect()
    await target.disconnect()


@pytest.mark.parametrize("kind", ["results", "events", "tasks", "schedules"])
async def test_an_interrupted_migration_is_started_again(kind: str, tmp_path: Path) -> None:
    """Nothing is doubled, nothing is lost."""
    source, target = backend("sqlite", tmp_path), MemoryBackend()
    await fill(source)

    def interrupt(now: str, done: int, total: int | None) -> None:
        if now == kind:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await migrate(source, target, progress=interrupt)
    report = await migrate(source, target, verify=True)

    assert report.is_complete
    assert len(await target.get_event_storage().get_all_events()) == 1200


async def test_a_source_whose_tasks_run_is_refused(tmp_path: Path) -> None:
    """Both sides would run them."""
    source = backend("sqlite", tmp_path)
    await source.get_task_queue().enqueue(Task(func="f", id="held"))
    await source.get_task_queue().dequeue(lease_seconds=600)

    with pytest.raises(MigrationError, match=r"1 tasks run now, held among them; stop the workers"):
        await migrate(source, MemoryBackend())


async def test_a_task_whose_worker_died_is_claimable_and_counts_the_loss() -> None:
    """Its crash budget moves along."""
    source, target = MemoryBackend(), MemoryBackend()
    await source.get_task_queue().enqueue(Task(func="f", id="lost"))
    past = utcnow() - timedelta(minutes=5)
    await source.get_task_queue().claim(
        ["default"], worker_id="w", lease_token="t", lease_seconds=1, now=past
    )

    report = await migrate(source, target, verify=True)

    assert report.is_complete
    task = await target.get_task_queue().get_task("lost")
    assert task is not None
    assert (task.status, task.lost_leases, task.claim_count) == (TaskStatus.PENDING, 1, 1)


async def test_a_held_unique_key_leaves_the_task_and_its_children_out() -> None:
    """They are named; the live task of the target stays what it is."""
    source, target = MemoryBackend(), MemoryBackend()
    queue = source.get_task_queue()
    await queue.enqueue(Task(func="f", id="b", unique_key="k"))
    await queue.enqueue(Task(func="f", id="a", depends_on=("b",)))
    await target.get_task_queue().enqueue(Task(func="f", id="other", unique_key="k"))

    report = await migrate(source, target)

    assert report.conflicts == ["b", "a"]
    assert not report.is_complete
    assert [task.id for task in await target.get_task_queue().list_tasks()] == ["other"]


async def test_verification_names_what_differs() -> None:
    """A copy somebody changed is no copy."""
    source, target = MemoryBackend(), MemoryBackend()
    await fill(source)
    await migrate(source, target)
    await target.get_result_storage().store_result("z-done", "changed")
    await end_all(target.get_task_queue(), "x-parent")

    report: Report = await migrate(source, target, verify=True)

    digests = report.digests or {}
    assert not report.is_complete
    assert digests["results"].different == ["z-done"]
    assert digests["tasks"].different == ["x-parent"]
    assert digests["schedules"].is_same


def test_the_command_copies_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a SQLite file to the stores a configuration names."""
    monkeypatch.chdir(tmp_path)
    with OmniQ("sqlite:///old.db") as q:
        q.enqueue_sync("jobs.f", 1)
    Path("new.yaml").write_text("url: sqlite:///new.db\nresult_storage_backend: ./results.db")

    assert execute(["migrate", "old.db", "new.yaml", "--verify", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == [1, 0]
    assert told["is_complete"] is True
    assert execute(["migrate", "old.db", "new.yaml", "--verify"]) == 0
    assert "tasks: same, 1 and 1" in capsys.readouterr().out
    assert execute(["migrate", "old.db", "nosuch.yaml"]) == 2


def test_without_an_event_loop(tmp_path: Path) -> None:
    """For scripts."""
    with SQLiteBackend(tmp_path / "a.db") as source:
        source.get_task_queue().enqueue_sync(Task(func="f"))

    report = migrate_sync(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db", verify=True)

    assert report.is_complete


@pytest.mark.parametrize("command", ["move", "migrate"])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("sqlite:///{folder}/misspelt/a.db", "sqlite {folder}/misspelt/a.db"),
        ("sqlite:///{folder}/misspelt.db", "sqlite {folder}/misspelt.db"),
        ("sqlite:///{folder}/other.db", "sqlite {folder}/other.db"),
        ("file://{folder}/misspelt", "files {folder}/misspelt"),
        ("file://{folder}", "files {folder}"),
        ("postgresql", "postgres"),
        ("nats", "nats"),
    ],
)
def test_a_source_that_does_not_exist_is_refused_before_anything_is_made(
    source: str, told: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt name must leave no empty store behind for the next one to find."""
    (tmp_path / "other.db").touch()
    urls = {
        "postgresql": f"{postgres_url()}?schema={schema()}",
        "nats": f"{nats_url()}?namespace={namespace()}",
    }
    url = urls.get(source, source).format(folder=tmp_path)

    for _ in range(2):
        assert execute([command, url, f"sqlite:///{tmp_path}/target.db"]) == Exit.FAILED

        error = capsys.readouterr().err
        assert f"there is no {told.format(folder=tmp_path)}" in error
        assert "is the source spelt right" in error
    assert [path.name for path in tmp_path.rglob("*")] == ["other.db"]


def test_whether_there_is_a_store_is_seen_without_making_it(tmp_path: Path) -> None:
    """Of a component, a backend and an application; memory is there as soon as it is asked for."""
    file = tmp_path / "q.db"
    askers = (SQLiteQueue(str(file)), SQLiteBackend(file), OmniQ(f"sqlite:///{file}"))

    assert [one.is_missing_sync() for one in askers] == [True, True, True]
    assert not file.exists()
    with SQLiteBackend(file):
        assert [one.is_missing_sync() for one in askers] == [False, False, False]
    assert not MemoryBackend().is_missing_sync()


def test_a_component_never_used_is_no_misspelt_source(tmp_path: Path) -> None:
    """A folder of files has none for results before the first one comes."""
    with FileBackend(tmp_path / "q").get_task_queue() as queue:
        queue.enqueue_sync(Task(func="f"))

    report = migrate_sync(f"file://{tmp_path}/q", f"sqlite:///{tmp_path}/b.db")

    assert report.tasks == (1, 0)


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    """It would seem to have been moved."""
    SQLiteBackend(tmp_path / "a.db").get_task_queue().get_task_sync("any")

    with pytest.raises(MigrationError, match=r"is empty; is it the store you mean"):
        migrate_sync(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")


async def test_a_parent_that_is_gone_has_had_its_say() -> None:
    """Its children would be cancelled in a store that never knew it."""
    source, target = MemoryBackend(), MemoryBackend()
    queue = source.get_task_queue()
    await queue.enqueue(Task(func="f", id="parent"))
    await queue.enqueue(Task(func="f", id="child", depends_on=("parent",)))
    await end_all(queue, "parent")
    await queue.purge(utcnow() + timedelta(seconds=1))

    report = await migrate(source, target, verify=True)

    assert report.is_complete
    child = await target.get_task_queue().get_task("child")
    assert child is not None
    assert child.status is TaskStatus.PENDING


async def test_a_schedule_the_target_has_is_left_alone() -> None:
    """It may have fired, or been paused, there since."""
    source, target = MemoryBackend(), MemoryBackend()
    await fill(source)
    await migrate(source, target)
    await target.get_schedule_storage().pause_schedule("active")

    report = await migrate(source, target)

    assert report.schedules == (0, 2)
    schedule = await target.get_schedule_storage().get_schedule("active")
    assert schedule is not None
    assert schedule.status is ScheduleStatus.PAUSED
