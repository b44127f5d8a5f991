"""Lists: page by page, filtered, and never longer than a page can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq import OmniQ, Task, TaskStatus
from omniq.dashboard import pages
from omniq.dashboard.pages import PAGE, QUEUES_SHOWN, SCHEDULES_SHOWN
from omniq.dashboard.view import refresh_after
from tests.dashboard.conftest import Browser


async def test_paging_through_ten_thousand_tasks_meets_each_once(q: OmniQ) -> None:
    """By the id of the last one, not by a number of pages, so it costs the same at the end."""
    await q.enqueue_tasks([Task(func="shop.pack") for _ in range(10_000)])
    seen: list[str] = []
    async with Browser(q) as browser:
        link = "/in/here/tasks"
        number = 0
        while link:
            response = await browser.client.get(link)
            ids = [part.split('"')[0] for part in response.text.split('href="/in/here/tasks/')[1:]]
            assert len(ids) <= PAGE
            seen += ids
            number += 1
            following = response.text.partition('rel="next" href="')[2].split('"')[0]
            link = following.replace("&amp;", "&")

    assert number == 10_000 // PAGE
    assert len(seen) == len(set(seen)) == 10_000
    assert seen == sorted(seen)


async def test_filters_are_kept_from_page_to_page(q: OmniQ, browser: Browser) -> None:
    """The second page is of the same tasks."""
    tasks = [Task(func="shop.pack", queue_name="mail") for _ in range(PAGE + 1)]
    await q.enqueue_tasks([*tasks, Task(func="shop.other", queue_name="mail")])

    first = await browser.get("/tasks", queue="mail", name="shop.pack")
    last = sorted(task.id for task in tasks)[PAGE - 1]
    (following,) = (link for link in first.links if f"after={last}" in link)
    second = await browser.get(following.removeprefix("/in/here"))

    assert f"{PAGE} tasks, and there are more" in first.text
    assert "1 task" in second.text
    assert "queue=mail" in following
    assert "name=shop.pack" in following


async def test_newer_tasks_can_be_skipped_to(q: OmniQ, browser: Browser) -> None:
    """The oldest come first; somebody looks for those of today."""
    old = Task(func="shop.pack", id="01000000-0000-7000-8000-000000000000")
    await q.enqueue_tasks([old, Task(func="shop.pack", id=(new := Task(func="x").id))])

    page = await browser.get("/tasks")
    (skip,) = (link for link in page.links if "after=" in link and link == _last_skip(page.links))
    newer = await browser.get(skip.removeprefix("/in/here"))

    assert new in newer.text
    assert old.id not in newer.text


def _last_skip(links: list[str]) -> str:
    return [link for link in links if "after=" in link][-1]


async def test_a_task_is_looked_up_by_its_id(browser: Browser, q: OmniQ) -> None:
    """What a log line names."""
    await q.enqueue_task(Task(func="shop.pack", id="order-4711"))

    response = await browser.client.get("/in/here/tasks", params={"id": " order-4711 "})

    assert response.status_code == 303
    assert response.headers["location"] == "/in/here/tasks/order-4711"


async def test_many_schedules_are_shown_page_by_page(q: OmniQ, browser: Browser) -> None:
    """Each once."""
    for number in range(SCHEDULES_SHOWN + 3):
        await q.schedule("shop.sweep", every=3600, schedule_id=f"s{number:03}")

    first = await browser.get("/schedules")
    second = await browser.get("/schedules", after="s099")

    assert "/in/here/schedules?after=s099" in first.links
    assert len(first.posts) == SCHEDULES_SHOWN
    assert second.posts == [f"/in/here/schedules/s{number}/pause" for number in (100, 101, 102)]
    assert not any("after=" in link for link in second.links)


async def test_of_too_many_queues_those_with_most_to_do_are_shown(
    q: OmniQ, browser: Browser
) -> None:
    """And a paused one in any case: somebody wants it back."""
    names = [f"q{number:03}" for number in range(QUEUES_SHOWN + 2)]
    await q.enqueue_tasks([Task(func="shop.pack", queue_name=name) for name in names])
    await q.enqueue_task(Task(func="shop.pack", queue_name=names[-1]))
    await q.pause_queue("a-paused-one")

    page = await browser.get("/")

    assert "And 3 other queues" in page.text
    assert f"/in/here/queues/{names[-1]}/pause" in page.posts
    assert "/in/here/queues/a-paused-one/resume" in page.posts
    assert len(page.posts) == QUEUES_SHOWN


async def test_a_look_that_takes_too_long_is_ended_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores look through everything for a rare function; the page must not hang."""
    monkeypatch.setattr(pages, "PATIENCE_SECONDS", 0)
    async with OmniQ(f"sqlite:///{tmp_path}/shop.db") as q, Browser(q) as browser:
        await q.enqueue_task(Task(func="shop.pack", id="one"))
        await q.task_queue.dequeue()
        page = await browser.get("/tasks", code=503, name="shop.rare")
        overview = await browser.get("/")

    assert "leave parts of the filter away" in page.text
    assert "Running tasks cannot be shown" in overview.text
    assert "The history cannot be shown" in overview.text


def test_a_page_that_is_hard_to_make_refreshes_less_often() -> None:
    """Forgotten browsers must not keep a large store busy."""
    assert [refresh_after(seconds) for seconds in (0.001, 0.25, 0.26, 1.5)] == [5, 5, 6, 30]


@pytest.mark.parametrize("status", list(TaskStatus))
async def test_tasks_of_each_status_can_be_listed(status: TaskStatus, browser: Browser) -> None:
    """Each is an address somebody may keep."""
    page = await browser.get("/tasks", status=status.value)

    assert "No tasks." in page.text
