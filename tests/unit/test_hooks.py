"""Declaring hooks: what is refused, and what replaces what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from omniq import ConfigError, EventType, OmniQ, Task, TaskContext, TaskEvent, TaskStatus
from omniq.clock import utcnow


async def pool() -> AsyncIterator[None]:
    yield


async def other_pool() -> AsyncIterator[None]:
    yield


async def coroutine(task: object = None) -> None: ...


def plain(task: object) -> None: ...


@pytest.mark.parametrize(
    ("kind", "func", "told"),
    [
        ("lifespan", plain, "`async def` that yields once"),
        ("lifespan", coroutine, "`async def` that yields once"),
        ("lifespan", None, "`async def` that yields once"),
        ("around", plain, "`async def` that yields once"),
        ("around", pool, r"function of \(task\)"),
        ("on_event", plain, r"function of \(event, task\)"),
        ("on_event", coroutine, "plain `def`"),
        ("on_event", "text", "plain `def`"),
        ("before_enqueue", coroutine, "plain `def`"),
        ("before_enqueue", lambda: None, r"function of \(task\)"),
    ],
)
def test_a_function_of_another_kind_is_refused_where_it_is_declared(
    kind: str, func: object, told: str
) -> None:
    """Not when the first task of a worker fails because of it."""
    with pytest.raises(ConfigError, match=f"@{kind} is for .*{told}"):
        getattr(OmniQ("memory://"), kind)(func)


def test_a_second_lifespan_is_refused() -> None:
    """Of two, one would silently not be opened."""
    app = OmniQ("memory://")
    assert app.lifespan(pool) is pool

    with pytest.raises(ConfigError, match=r"function pool.*open and close all in one"):
        app.lifespan(other_pool)


def listener(told: list[str], text: str) -> Callable[[TaskEvent, Task], None]:
    def tell(event: TaskEvent, task: Task) -> None:
        told.append(text)

    return tell


def test_a_definition_run_again_replaces_the_first() -> None:
    """A module that is reloaded, a cell that is run twice; but not what a function has made."""
    told: list[str] = []
    app = OmniQ("memory://")
    for text in ("old", "new"):
        scope: dict[str, Any] = {"told": told, "__name__": "jobs"}
        exec(f"def tell(event, task): told.append({text!r})", scope)
        app.on_event(scope["tell"])
    for text in ("a", "b"):
        app.on_event(listener(told, text))

    app.hooks.tell(TaskEvent(task_id="t", event_type=EventType.STARTED, timestamp=utcnow()), _TASK)

    assert told == ["new", "a", "b"]


def test_a_lifespan_defined_again_replaces_the_first() -> None:
    """So that a module with one can be reloaded."""
    app = OmniQ("memory://")
    for _ in range(2):
        scope: dict[str, Any] = {"__name__": "jobs"}
        exec("async def pool():\n    yield", scope)
        app.lifespan(scope["pool"])

    assert app.hooks.life() is not None


def test_hooks_are_typed_as_what_they_are() -> None:
    """A decorated function stays itself, so that it can be called in tests."""

    @OmniQ("memory://").around
    async def timed(task: TaskContext) -> AsyncIterator[None]:
        yield

    assert timed.__name__ == "timed"


_TASK = Task(func="f")


def test_a_context_manager_is_refused_with_what_to_leave_out() -> None:
    """Who comes from web frameworks writes a lifespan with that decorator."""
    with pytest.raises(ConfigError, match="leave out @asynccontextmanager"):
        OmniQ("memory://").lifespan(asynccontextmanager(pool))  # type: ignore[type-var]  # wrong


def test_a_lifespan_that_wants_the_application_is_refused_in_words() -> None:
    """It gets nothing, and `function of ()` is no English."""

    async def of_app(app: object) -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigError, match="@lifespan is for a function of no arguments; <function"):
        OmniQ("memory://").lifespan(of_app)  # type: ignore[type-var]  # that is the point


def test_what_a_listener_changes_is_its_own_copy() -> None:
    """Who takes a password out before reporting it must not take it from the task."""
    app = OmniQ("memory://")
    task = Task(func="f", kwargs={"password": "p"}, metadata={"tenant": "t"})
    event = TaskEvent(
        task_id=task.id, event_type=EventType.STARTED, timestamp=utcnow(), details={"attempt": 2}
    )
    seen: list[tuple[int, ...]] = []

    def redact(event: TaskEvent, task: Task) -> None:
        seen.append((len(event.details), len(task.kwargs), len(task.metadata)))
        event.details.clear()
        task.kwargs.clear()
        task.metadata.clear()
        task.status = TaskStatus.FAILED

    for listener in (redact, partial(redact)):
        app.on_event(listener)
    app.hooks.tell(event, task)

    assert seen == [(1, 1, 1), (1, 1, 1)]
    assert (event.details, task.kwargs, task.metadata) == (
        {"attempt": 2},
        {"password": "p"},
        {"tenant": "t"},
    )
    assert task.status is TaskStatus.PENDING


def test_a_listener_cannot_cancel_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    """One that asks a cancelled future for its result would have ended it without a word."""
    app = OmniQ("memory://")

    @app.on_event
    def ask(event: TaskEvent, task: Task) -> None:
        raise asyncio.CancelledError

    app.hooks.tell(TaskEvent(task_id="t", event_type=EventType.STARTED, timestamp=utcnow()), _TASK)

    assert "failed on STARTED of task" in caplog.text
