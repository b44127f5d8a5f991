"""Declaring hooks: what is refused, and what replaces what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from omniq import ConfigError, EventType, OmniQ, Task, TaskContext, TaskEvent
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
