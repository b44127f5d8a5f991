"""What the pages show."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from omniq import OmniQ, Task, current_task
from omniq.clock import utcnow
from omniq.testing.waiting import wait_until
from tests.dashboard.conftest import Browser


async def run_all(q: OmniQ) -> None:
    await q.worker(burst=True, cleanup=False).run()


async def test_an_empty_application_has_pages_that_say_so(browser: Browser) -> None:
    """The first thing a new user sees."""
    overview = await browser.get("/")
    tasks = await browser.get("/tasks")
    schedules = await browser.get("/schedules")
    activity = await browser.get("/activity")

    assert "No tasks yet." in overview.text
    assert "Nothing runs." in overview.text
    assert "No tasks." in tasks.text
    assert "No schedules." in schedules.text
    assert "No such events." in activity.text


async def test_the_overview_shows_each_queue_with_its_tasks_by_status(
    q: OmniQ, browser: Browser
) -> None:
    """Each number leads to the tasks it counts."""
    await q.enqueue_tasks([Task(func="shop.pack", queue_name="mail") for _ in range(3)])
    await q.pause_queue("closed")

    page = await browser.get("/")

    assert "/in/here/tasks?queue=mail&status=pending" in page.links
    assert "/in/here/queues/mail/pause" in page.posts
    assert "/in/here/queues/closed/resume" in page.posts
    listed = await browser.get("/tasks", queue="mail", status="pending")
    assert "3 tasks" in listed.text


async def test_the_overview_shows_what_runs_what_failed_and_what_is_due(
    q: OmniQ, browser: Browser
) -> None:
    """The three questions people open a dashboard for."""

    @q.task(name="shop.fail")
    async def fail() -> None:
        raise OSError("the printer is on fire")

    q.every(3600, name="shop.sweep")(lambda: None)
    await fail.enqueue()
    await run_all(q)
    await q.enqueue_task(Task(func="shop.count", id="running-one"))
    claimed = await q.task_queue.dequeue()
    assert claimed is not None

    page = await browser.get("/")

    assert "running-one" in page.text
    assert "shop.count" in page.text
    assert "the printer is on fire" in page.text
    assert "shop.sweep" in page.text
    assert "/in/here/tasks/running-one" in page.links


async def test_progress_of_a_running_task_is_shown(q: OmniQ, browser: Browser) -> None:
    """As the worker reports it."""
    go_on = asyncio.Event()

    @q.task(name="shop.count")
    async def count() -> None:
        current_task().progress(0.25)
        await go_on.wait()

    handle = await count.enqueue()
    worker = q.worker(cleanup=False)
    running = asyncio.create_task(worker.run())

    async def is_shown() -> bool:
        return "25 %" in (await browser.get("/")).text

    await wait_until(is_shown, description="a quarter is done", timeout=30)
    assert "25 %" in (await browser.get(f"/tasks/{handle.id}")).text
    go_on.set()
    worker.stop()
    await running


async def test_the_page_of_a_task_shows_its_arguments_result_and_history(
    q: OmniQ, browser: Browser
) -> None:
    """All that is known about it."""

    @q.task(name="shop.add", priority=7, metadata={"order": 4711})
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    handle = await add.enqueue(40, b=2)
    await run_all(q)

    page = await browser.get(f"/tasks/{handle.id}")

    for said in ("40", "{'sum': 42}", "4711", "ENQUEUED", "STARTED", "COMPLETED", "shop.add"):
        assert said in page.text
    assert page.posts == [f"/in/here/tasks/{handle.id}/retry"]
    assert page.refresh is None


async def test_every_field_that_says_something_is_shown(q: OmniQ, browser: Browser) -> None:
    """Nobody has to go to the command line for one; but the lease is its worker's alone."""
    await q.enqueue_task(Task(func="shop.first", id="parent"))
    await q.enqueue_task(
        Task(
            func="shop.second",
            id="child",
            depends_on=("parent",),
            unique_key="order 4711",
            timeout_seconds=12.5,
            expires_at=utcnow() + timedelta(days=1),
        )
    )
    claimed = await q.task_queue.dequeue()
    assert claimed is not None

    child = await browser.get("/tasks/child")
    parent = await browser.get("/tasks/parent")

    for said in ("order 4711", "12.5", "expires_at", "waiting_for", "on_parent_failure"):
        assert said in child.text
    assert "/in/here/tasks/parent" in child.links
    assert "/in/here/tasks/child" in parent.links
    assert (claimed.lease_token or "?") not in parent.text
    assert "worker_id" in parent.text


async def test_the_page_of_a_failed_task_shows_the_traceback(q: OmniQ, browser: Browser) -> None:
    """The line at which it failed."""

    @q.task(name="shop.divide", max_retries=1, retry=None)
    async def divide(n: int) -> float:
        return 1 / n

    handle = await divide.options(max_retries=0).enqueue(0)
    await run_all(q)

    page = await browser.get(f"/tasks/{handle.id}")

    assert "ZeroDivisionError: division by zero" in page.text
    assert "return 1 / n" in page.text


async def test_an_unfinished_task_refreshes_and_a_reader_can_switch_that_off(
    q: OmniQ, browser: Browser
) -> None:
    """A page that reloads under a screen reader or a slow reader is a nuisance."""
    await q.enqueue_task(Task(func="shop.pack", id="waiting"))

    moving = await browser.get("/tasks/waiting")
    still = await browser.get("/tasks/waiting", live="off")

    assert moving.refresh == "5; url=/in/here/tasks/waiting"
    assert "/in/here/tasks/waiting?live=off" in moving.links
    assert still.refresh is None
    assert "/in/here/tasks/waiting" in still.links
    assert "/in/here/schedules?live=off" in still.links


async def test_what_was_done_is_not_said_again_after_a_refresh(browser: Browser) -> None:
    """The note belongs to the action, not to the page."""
    page = await browser.get("/", done="queue-paused")

    assert "The queue is paused" in page.text
    assert page.refresh == "5; url=/in/here/"


async def test_a_note_is_one_of_ours_and_never_what_the_address_says(browser: Browser) -> None:
    """Or a link could put words into our mouth."""
    page = await browser.get("/", done="Your account is locked, call 555")

    assert "555" not in page.text


async def test_activity_shows_the_latest_events_first_and_by_kind(
    q: OmniQ, browser: Browser
) -> None:
    """The newest are at the top, whichever task they are of."""

    @q.task(name="shop.add")
    async def add(a: int, b: int) -> int:
        return a + b

    await add.enqueue(1, 2)
    await run_all(q)

    everything = await browser.get("/activity")
    started = await browser.get("/activity", type="STARTED")

    table = everything.text.partition("the last one first")[2]
    assert table.index("COMPLETED") < table.index("STARTED") < table.index("ENQUEUED")
    table = started.text.partition("the last one first")[2]
    assert "STARTED" in table
    assert "ENQUEUED" not in table


async def test_schedules_show_when_they_fire(q: OmniQ, browser: Browser) -> None:
    """And lead to the tasks they made."""
    await q.schedule(
        "shop.sweep", cron="0 9 * * mon-fri", timezone="Europe/Berlin", schedule_id="s"
    )

    page = await browser.get("/schedules")

    assert "0 9 * * mon-fri (Europe/Berlin)" in page.text
    assert "/in/here/tasks?schedule=s" in page.links
    assert page.posts == ["/in/here/schedules/s/pause"]


async def test_the_doctor_shows_its_findings_the_worst_first(q: OmniQ, browser: Browser) -> None:
    """The same as on the command line."""
    await q.enqueue_task(Task(func="shop.pack", created_at=utcnow() - timedelta(hours=1)))

    page = await browser.get("/doctor")

    assert "no worker shows a sign of life" in page.text
    assert "omniq worker APP --queues default" in page.text
    levels = [word for word in page.text.split() if word in ("broken", "risk", "fine")]
    assert levels[0] == "broken"
    assert levels == sorted(levels, key=("broken", "risk", "fine").index)


async def test_places_are_shown_without_passwords() -> None:
    """Screens are looked at by many."""
    q = OmniQ("postgresql://app:s3cret-word@127.0.0.1:1/jobs?connect_timeout=1")
    async with Browser(q) as browser:
        page = await browser.get("/", code=503)
        doctor = await browser.get("/doctor")

    assert "s3cret-word" not in page.text + doctor.text


async def test_a_store_that_is_away_is_a_page_that_says_so(tmp_path: Path) -> None:
    """And comes back by itself once the store does."""
    q = OmniQ(f"sqlite:///{tmp_path}/no/shop.db")
    async with Browser(q) as browser:
        page = await browser.get("/", code=503)
        task = await browser.get("/tasks/some", code=503)
        refused = await browser.refused("/tasks/some/cancel", 503)
        (tmp_path / "no").mkdir()
        well = await browser.get("/")
        await q.disconnect()

    assert "cannot be opened" in page.text
    assert page.refresh == task.refresh == "5"
    assert refused.refresh is None
    assert "No tasks yet." in well.text


async def test_other_stores_that_are_away_leave_the_rest_of_a_page(tmp_path: Path) -> None:
    """Tasks can be looked at while results and events cannot."""
    away = f"sqlite:///{tmp_path}/no/shop.db"
    q = OmniQ(tasks="memory://", results=away, events=away, schedules=away, log_events=False)
    await q.enqueue_task(Task(func="shop.pack", id="one"))
    async with Browser(q) as browser:
        overview = await browser.get("/")
        task = await browser.get("/tasks/one")

    assert "The history cannot be shown" in overview.text
    assert "Schedules cannot be shown" in overview.text
    assert "The result cannot be shown" in task.text
    assert "shop.pack" in task.text


async def test_a_dashboard_at_the_root_works_the_same(q: OmniQ) -> None:
    """As `omniq dashboard` serves it."""
    await q.enqueue_task(Task(func="shop.pack", id="one"))
    async with Browser(q, root="") as browser:
        page = await browser.get("/")
        cancelled = await browser.act("/tasks/one/cancel")

    assert "/tasks?queue=default&status=pending" in page.links
    assert "The task is cancelled." in cancelled.text
