"""What can be done, and what is refused."""

from __future__ import annotations

import pytest

from omniq import OmniQ, ScheduleStatus, Task, TaskStatus
from tests.dashboard.conftest import HOST, Browser

ACTIONS = [
    "/tasks/one/cancel",
    "/tasks/one/retry",
    "/queues/default/pause",
    "/queues/default/resume",
    "/schedules/s/pause",
    "/schedules/s/resume",
]


@pytest.fixture(autouse=True)
async def shop(q: OmniQ) -> None:
    """A task that waits, and a schedule."""
    await q.enqueue_task(Task(func="shop.pack", id="one"))
    await q.schedule("shop.sweep", every=3600, schedule_id="s")


async def status_of(q: OmniQ, task_id: str) -> TaskStatus:
    task = await q.get_task(task_id)
    assert task is not None
    return task.status


async def test_a_waiting_task_is_cancelled_and_run_again(q: OmniQ, browser: Browser) -> None:
    """The history says so."""
    cancelled = await browser.act("/tasks/one/cancel")
    assert await status_of(q, "one") is TaskStatus.CANCELLED
    again = await browser.act("/tasks/one/retry")

    assert await status_of(q, "one") is TaskStatus.PENDING
    assert "The task is cancelled." in cancelled.text
    assert "The task will run again." in again.text
    assert "REQUEUED" in again.text


async def test_a_running_task_is_asked_to_stop(q: OmniQ, browser: Browser) -> None:
    """Its worker ends it; the page does not claim that it is over."""
    claimed = await q.task_queue.dequeue()
    assert claimed is not None

    page = await browser.act("/tasks/one/cancel")

    assert "its worker is asked to stop it" in page.text
    task = await q.get_task("one")
    assert task is not None
    assert task.cancel_requested


async def test_a_task_that_ended_meanwhile_is_left_as_it_is(q: OmniQ, browser: Browser) -> None:
    """The page that offered the button was a moment old."""
    claimed = await q.task_queue.dequeue()
    assert claimed is not None
    await q.task_queue.complete(claimed)

    page = await browser.act("/tasks/one/cancel")

    assert "had ended already" in page.text
    assert await status_of(q, "one") is TaskStatus.COMPLETED


async def test_running_an_unfinished_task_again_is_a_conflict(browser: Browser) -> None:
    """It says how it stands instead."""
    page = await browser.refused("/tasks/one/retry", 409)

    assert "task one is pending, not finished" in page.text


async def test_a_task_whose_key_is_taken_is_not_run_again(q: OmniQ, browser: Browser) -> None:
    """Another task holds its place."""
    await q.enqueue_task(Task(func="shop.pack", id="first", unique_key="k"))
    await q.cancel("first")
    await q.enqueue_task(Task(func="shop.pack", id="second", unique_key="k"))

    page = await browser.refused("/tasks/first/retry", 409)

    assert "a live task holds the unique key" in page.text


async def test_a_queue_is_paused_and_resumed(q: OmniQ, browser: Browser) -> None:
    """Kept in the store, so every worker sees it."""
    paused = await browser.act("/queues/default/pause")
    assert await q.paused_queues() == {"default"}
    resumed = await browser.act("/queues/default/resume")

    assert await q.paused_queues() == set()
    assert "The queue is paused" in paused.text
    assert "The queue is open again." in resumed.text


async def test_a_schedule_is_paused_and_resumed(q: OmniQ, browser: Browser) -> None:
    """And the button turns round."""
    paused = await browser.act("/schedules/s/pause")
    stored = await q.schedule_storage.get_schedule("s")
    assert stored is not None
    assert stored.status is ScheduleStatus.PAUSED
    resumed = await browser.act("/schedules/s/resume")

    stored = await q.schedule_storage.get_schedule("s")
    assert stored is not None
    assert stored.status is ScheduleStatus.ACTIVE
    assert paused.posts == ["/in/here/schedules/s/resume"]
    assert "The schedule is active." in resumed.text


@pytest.mark.parametrize(
    "path", ["/tasks/nosuch/cancel", "/tasks/nosuch/retry", "/schedules/no/pause"]
)
async def test_what_is_not_there_is_not_found(path: str, browser: Browser) -> None:
    """Deleted while the page was open."""
    page = await browser.refused(path, 404)

    assert "there is no" in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": HOST},
        {"Origin": "https://evil.example"},
        {"Origin": f"{HOST}.evil.example"},
        {"Origin": f"{HOST}:8080"},
        {"Origin": "null"},
        {"Referer": f"{HOST}/in/here/"},
    ],
)
async def test_a_form_of_another_site_changes_nothing(
    headers: dict[str, str], q: OmniQ, browser: Browser
) -> None:
    """Whoever lures a user to a page of theirs could empty the queue."""
    pages = [await browser.refused(path, 403, headers=headers) for path in ACTIONS]

    assert all("a page of another site" in page.text for page in pages)
    assert await status_of(q, "one") is TaskStatus.PENDING
    assert await q.paused_queues() == set()


async def test_a_browser_that_only_tells_the_origin_is_believed(q: OmniQ, browser: Browser) -> None:
    """Over plain HTTP to another machine, browsers leave Sec-Fetch-Site out."""
    response = await browser.post("/tasks/one/cancel", headers={"Origin": HOST})

    assert response.status_code == 303
    assert await status_of(q, "one") is TaskStatus.CANCELLED


async def test_nothing_is_changed_by_looking(q: OmniQ, browser: Browser) -> None:
    """Neither by a link, nor by whatever fetches links ahead."""
    for path in ACTIONS:
        await browser.get(path, code=405)

    assert await status_of(q, "one") is TaskStatus.PENDING
    assert await q.paused_queues() == set()


async def test_a_dashboard_that_only_shows_refuses_every_action(q: OmniQ) -> None:
    """Whatever is sent."""
    async with Browser(q, read_only=True) as browser:
        pages = [await browser.refused(path, 403) for path in ACTIONS]

    assert all("only shows" in page.text for page in pages)
    assert await q.paused_queues() == set()
    assert await status_of(q, "one") is TaskStatus.PENDING


@pytest.mark.parametrize(
    "path", ["/", "/tasks", "/tasks/one", "/schedules", "/activity", "/doctor"]
)
async def test_a_dashboard_that_only_shows_offers_no_action(path: str, q: OmniQ) -> None:
    """A button that is refused is a riddle."""
    async with Browser(q, read_only=True) as browser:
        page = await browser.get(path)

    assert page.posts == []
    assert "Read only" in page.text


async def test_an_action_keeps_refreshing_switched_off(browser: Browser) -> None:
    """Who reads slowly stays in peace."""
    response = await browser.post("/queues/default/pause?live=off")

    assert response.headers["location"] == "/in/here/?done=queue-paused&live=off"


async def test_actions_are_logged(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody will ask why the queue stood still."""
    with caplog.at_level("INFO", logger="omniq.dashboard"):
        await browser.act("/queues/default/pause")

    assert caplog.messages == ["dashboard: queue default: queue-paused"]
