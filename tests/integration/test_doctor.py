"""What `findings` and `omniq doctor` say about tasks, schedules and stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from omniq.cli.app import execute
from omniq.doctor import Patient, examine
from omniq.doctor.clocks import clock_findings
from omniq.models.finding import Finding, Level, worst
from omniq.models.task import Task
from omniq.storage.memory import MemoryQueue
from tests.integration.diagnoses import bad, only

LATER = timedelta(minutes=5)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[OmniQ]:
    async with OmniQ(f"sqlite:///{tmp_path}/doctor.db") as opened:
        yield opened


async def look(app: OmniQ, *, later: timedelta = timedelta()) -> list[Finding]:
    patient = Patient(app.task_queue, app.result_storage, app.event_storage, app.schedule_storage)
    return await examine(patient, now=datetime.now(UTC) + later)


async def test_all_is_fine_where_nothing_waits_and_where_tasks_just_came(app: OmniQ) -> None:
    """A doctor that cries wolf is not asked again."""
    assert not bad(await look(app))
    await app.enqueue("jobs.send", 1)

    found = await look(app)

    assert not bad(found)
    assert any("1 waiting, 0 running" in item.text for item in found)


async def test_tasks_that_wait_with_no_worker_alive_are_told(app: OmniQ) -> None:
    """The most frequent mistake of all: nobody started a worker."""
    await app.enqueue("jobs.send", 1)

    level, text = only(await look(app, later=LATER))

    assert level == "broken"
    assert "1 tasks wait" in text
    assert "no worker shows a sign of life" in text


async def test_a_delayed_task_is_overdue_only_after_its_moment(app: OmniQ) -> None:
    """A delay of an hour is no fault of the workers."""
    await app.task_function("jobs.send").options(delay=3600).enqueue(1)

    assert not bad(await look(app, later=LATER))
    level, text = only(await look(app, later=timedelta(hours=1, minutes=5)))

    assert level == "broken"
    assert "for 300 s" in text


async def test_a_queue_nobody_serves_is_told_from_one_where_nobody_works(app: OmniQ) -> None:
    """The advice differs: another `--queues`, not another worker."""
    later = datetime.now(UTC) + LATER
    await app.task_function("jobs.send").options(queue_name="rare").enqueue(1)
    await app.enqueue("jobs.send", 2)
    await app.task_queue.claim(["default"], worker_id="w", lease_token="t", now=later)

    level, text = only(await look(app, later=LATER))

    assert level == "risk"
    assert "none serves this queue" in text


async def test_an_expired_lease_that_nobody_takes_over_is_told(app: OmniQ) -> None:
    """The task looks as if it ran, and never ends."""
    handle = await app.enqueue("jobs.send", 1)
    await app.task_queue.claim(["default"], worker_id="w", lease_token="t", lease_seconds=30)

    level, text = only(await look(app, later=LATER))

    assert level == "broken"
    assert "left by their workers" in text
    assert handle.id in text


async def test_a_parked_task_is_told_by_its_function(app: OmniQ) -> None:
    """A deployment that forgot a module is seen at once, not when somebody misses the mail."""
    await app.enqueue("gone.send", 1)
    await app.worker(burst=True).run()

    (finding,) = [item for item in await look(app) if item.level is not Level.FINE]

    assert finding.level == "broken"
    assert "1 tasks of gone.send are parked" in finding.text
    assert "schedule" not in finding.hint


async def test_parked_tasks_are_told_with_the_schedule_that_makes_them(app: OmniQ) -> None:
    """Of a declaration that was removed from the code: to cancel its tasks ends nothing."""
    for number in range(2):
        task = Task(func="gone.tick", schedule_id=f"gone.tick-{number}")
        await app.enqueue_task(task)
    await app.worker(burst=True).run()

    (finding,) = [item for item in await look(app) if item.level is not Level.FINE]

    assert "the schedule of them (omniq schedules delete gone.tick-0) and 1 more" in finding.hint


async def test_a_poisoned_task_is_told_for_a_day(app: OmniQ) -> None:
    """What kills workers deserves a look, and is forgotten in time."""

    @app.task(name="jobs.send")
    def send() -> None: ...

    handle = await send.enqueue()
    start = datetime.now(UTC) - timedelta(minutes=1)
    for number in range(4):
        moment = start + timedelta(seconds=2 * number)
        await app.task_queue.claim(
            ["default"], worker_id="w", lease_token=f"t{number}", lease_seconds=1, now=moment
        )
    await app.worker(burst=True).run()

    level, text = only(await look(app))

    assert level == "risk"
    assert "failed as poisoned" in text
    assert handle.id in text
    assert not bad(await look(app, later=timedelta(days=2)))


async def test_a_paused_queue_with_tasks_is_told_and_an_empty_one_is_not(app: OmniQ) -> None:
    """Pauses outlive the reason for them."""
    await app.pause_queue("default")
    assert not bad(await look(app))
    await app.enqueue("jobs.send", 1)

    level, text = only(await look(app, later=LATER))

    assert level == "risk"
    assert "is paused" in text


async def test_overdue_schedules_are_told(app: OmniQ) -> None:
    """Workers with `--no-schedules` everywhere leave nobody to fire."""
    schedule = await app.schedule("jobs.send", every=60)
    assert not bad(await look(app))

    level, text = only(await look(app, later=LATER))

    assert level == "broken"
    assert f"no scheduler runs: {schedule.id}" in text


@pytest.mark.parametrize(
    ("off", "level"), [(0, Level.FINE), (5, Level.RISK), (-5, Level.RISK), (60, Level.BROKEN)]
)
async def test_clocks_that_differ_are_told(off: int, level: Level) -> None:
    """Delays and schedules are off by as much."""

    class Clocked(MemoryQueue):
        async def _store_time(self) -> datetime:
            return datetime.now(UTC)

    async with Clocked() as queue:
        found = await clock_findings(queue, datetime.now(UTC) - timedelta(seconds=off))

    assert worst(found) is level


async def test_a_store_that_cannot_be_opened_hides_no_other(tmp_path: Path) -> None:
    """The command is there for bad days."""
    app = OmniQ(f"sqlite:///{tmp_path}/queue.db", results=f"sqlite:///{tmp_path}/no/results.db")
    try:
        await app.task_queue.set_paused("default", paused=True)
        await app.task_queue.enqueue(Task(func="jobs.send"))
        found = await app.findings()
    finally:
        await app.disconnect()

    texts = [text for _, text in bad(found)]
    assert any("cannot be used" in text and "no/results.db" in text for text in texts)
    assert any("is paused" in text for text in texts)


def test_command_says_the_worst_and_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Monitoring runs it and looks at the exit code."""
    url = f"sqlite:///{tmp_path}/doctor.db"
    with OmniQ(url) as app:
        app.enqueue_sync("jobs.send", 1)
        app.pause_queue_sync("default")

    assert execute(["doctor", url]) == 0
    assert "resume default" in capsys.readouterr().out
    assert execute(["doctor", url, "--strict"]) == 1
    capsys.readouterr()
    assert execute(["doctor", "--app", url, "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["worst"] == "risk"
    assert {"level", "component", "text", "hint"} == set(told["findings"][0])


def test_command_ends_with_3_when_a_store_is_out_of_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As every other command does."""
    assert execute(["doctor", f"sqlite:///{tmp_path}/no/x.db"]) == 3
    assert "cannot be used" in capsys.readouterr().out


async def test_a_store_that_searches_for_ever_is_asked_for_moments_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some must look through all tasks to find those of a status; the doctor does not wait."""
    monkeypatch.setattr("omniq.doctor.tasks.LOOK_SECONDS", 0.05)

    class Slow(MemoryQueue):
        async def _find(self, *args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

    url = "memory://"
    app = OmniQ(tasks=Slow(), results=url, events=url, schedules=url)
    async with app:
        await app.task_function("jobs.send").options(delay=10).enqueue(1)
        level, text = only(await look(app, later=LATER))

    assert level == "broken"
    assert "1 tasks wait, one of them for 290 s" in text
