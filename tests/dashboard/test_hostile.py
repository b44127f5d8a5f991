"""Values, names and addresses made by somebody who means harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from omniq import OmniQ, Task, TaskEvent, serializable
from omniq.dashboard.values import LONGEST, shown_value
from omniq.serialization import UnknownValue
from tests.dashboard.conftest import Browser

SCRIPT = "<script>alert(1)</script>"
ATTACKS = [
    SCRIPT,
    "\"' onfocus=x autofocus",
    "</pre></dl></table>",
    "{{ 7 * 7 }}",
    "\x00\x1b[31m",
    "\u202egnp.exe",
]
BAD_IDS = [
    SCRIPT,
    "a b",
    "a'b",
    'a"b',
    "..%2F..",
    "x" * 300,
    "%00",
    "%0d%0aX:y",
    "é",
    "-x",
    "a..b",
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_values_are_shown_as_text_wherever_they_appear(
    attack: str, q: OmniQ, browser: Browser
) -> None:
    """Arguments, results, errors, events and metadata come from anywhere."""

    @q.task(name="shop.echo", metadata={attack: attack})
    async def echo(*args: Any, **kwargs: Any) -> Any:
        return {attack: args}

    @q.task(name="shop.fail")
    async def fail(text: str) -> None:
        raise OSError(text)

    echoed, failed = await echo.enqueue(attack, **{attack: [attack]}), await fail.enqueue(attack)
    await q.worker(burst=True, cleanup=False).run()
    await q.event_storage.log_event(
        TaskEvent(
            task_id=echoed.id,
            event_type="FAILED",
            message=attack,
            details={attack: attack},
            worker_id=attack,
        )
    )

    pages = [
        await browser.get(path)
        for path in ("/", "/tasks", "/activity", f"/tasks/{echoed.id}", f"/tasks/{failed.id}")
    ]

    if attack == SCRIPT:
        assert all(SCRIPT in page.text for page in pages)
    if attack == "{{ 7 * 7 }}":
        assert attack in pages[-1].text
    assert not any("\u202e" in page.text for page in pages)


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_bad_ids_in_an_address_are_told_not_stumbled_over(bad: str, q: OmniQ) -> None:
    """Nothing anybody types leads to an internal error, or into a store."""
    given = bad if bad.startswith(("%", "..")) else quote(bad, safe="")
    pages = [f"/tasks/{given}", f"/tasks?id={given}", f"/tasks?after={given}"]
    forms = [f"/tasks/{given}/cancel", f"/queues/{given}/pause", f"/schedules/{given}/resume"]
    async with Browser(q, root="") as browser:
        answers = [await browser.client.get(path) for path in pages]
        answers += [await browser.post(path) for path in forms]

    assert {answer.status_code for answer in answers} <= {400, 404}
    assert not any(SCRIPT in answer.text for answer in answers)


@pytest.mark.parametrize("name", ["queue", "status", "name", "schedule"])
@pytest.mark.parametrize("bad", [SCRIPT, "x" * 300, "\x00", "a b"])
async def test_bad_filters_are_told(name: str, bad: str, browser: Browser) -> None:
    """With the name of the one that is wrong."""
    page = await browser.get("/tasks", code=400, **{name: bad})

    assert name in page.text


async def test_a_bad_kind_of_event_is_told(browser: Browser) -> None:
    """With those there are."""
    page = await browser.get("/activity", code=400, type=SCRIPT)

    assert "is not one of ENQUEUED" in page.text


async def test_an_unknown_page_is_not_found(browser: Browser) -> None:
    """In the same clothes as the others."""
    page = await browser.get(f"/{quote(SCRIPT, safe='')}", code=404)

    assert "Not Found" in page.text


async def test_values_of_classes_nobody_knows_here_are_shown_unread(
    q: OmniQ, browser: Browser
) -> None:
    """A dashboard that only knows the store loads none of the application's code."""
    unknown = UnknownValue("shop:Order", {"number": 4711})
    await q.enqueue_task(Task(func="shop.pack", id="one", args=(unknown,)))

    page = await browser.get("/tasks/one")

    assert "shop:Order" in page.text
    assert "4711" in page.text


async def test_a_class_that_cannot_be_shown_costs_its_value_only(
    q: OmniQ, browser: Browser
) -> None:
    """`__repr__` is code of the application."""

    @serializable
    @dataclass
    class Shy:
        n: int

        def __repr__(self) -> str:
            raise RuntimeError("no")

    await q.enqueue_task(Task(func="shop.pack", id="one", args=(Shy(1), "the other")))

    page = await browser.get("/tasks/one")

    assert "Shy, which cannot be shown: RuntimeError" in page.text
    assert "the other" in page.text


async def test_large_values_are_cut(q: OmniQ, browser: Browser) -> None:
    """A page stays a page; how much there is, is said."""
    await q.enqueue_task(Task(func="shop.pack", id="one", args=("x" * 500_000,)))

    page = await browser.get("/tasks/one")

    assert len(page.text) < 3 * LONGEST
    assert "(500,002 characters in all)" in page.text


def test_a_value_is_shown_as_python_writes_it() -> None:
    """So that text and number can be told apart."""
    assert [shown_value(value) for value in ("1", 1, None, (b"x",))] == [
        "'1'",
        "1",
        "None",
        "(b'x',)",
    ]
