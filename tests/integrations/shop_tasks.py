"""Tasks of Django, as a project declares them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

from omniq import Retry

if TYPE_CHECKING:
    from django.tasks import task
else:
    try:
        from django.tasks import task
    except ModuleNotFoundError:  # Django 5.2
        from django_tasks import task

seen: list[Any] = []


@task
def add(a: int, b: int) -> int:
    return a + b


@task()
async def add_async(a: int, b: int) -> int:
    return a + b


@task
def fail(reason: str) -> None:
    raise ValueError(reason)


@task(takes_context=True)
def with_context(context: Any, word: str) -> dict[str, Any]:
    return {"word": word, "attempt": context.attempt, "id": context.task_result.id}


@task
def note(word: str) -> None:
    seen.append(word)


@task
def not_json() -> object:
    return object()


@task
def again() -> None:
    raise Retry(0.0)


@task
def query() -> int:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")
    seen.append(connections["default"])
    return 1


def plain() -> None:
    """Not a task: no name in stored data may run it."""
    seen.append("plain")
