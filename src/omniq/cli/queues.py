"""`omniq queues …`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from cyclopts import App, Parameter

from omniq.cli.output import Json, console, print_json, print_table
from omniq.cli.target import Target, on_target
from omniq.core import OmniQ
from omniq.exceptions import ValidationError
from omniq.models.task import TaskStatus

queues = App(name="queues", help="Look at queues, pause them, resume them, empty them.")


def by_status(numbers: dict[TaskStatus, int]) -> list[int]:
    """Return the number of tasks for each status, in the order of `TaskStatus`."""
    return [numbers.get(status, 0) for status in TaskStatus]


@queues.default
@queues.command(name="list")
def list_queues(*, app: Target = None, json: Json = False) -> None:
    """List queues with their tasks by status."""

    async def look(target: OmniQ) -> tuple[Any, set[str]]:
        return await target.task_queue.counts(), await target.task_queue.paused()

    counts, paused = on_target(app, look)
    names = sorted({*counts, *paused})
    if json:
        rows = [
            {"queue": name, "paused": name in paused, "counts": counts.get(name, {})}
            for name in names
        ]
        print_json(rows)
        return
    print_table(
        ("QUEUE", "PAUSED", *(status.value.upper() for status in TaskStatus)),
        ((name, name in paused, *by_status(counts.get(name, {}))) for name in names),
        empty="no queues",
    )


@queues.command
def pause(queue: str, *, app: Target = None) -> None:
    """Let no task of a queue start; running ones go on."""
    _act(app, lambda target: target.pause_queue(queue), f"{queue} is paused")


@queues.command
def resume(queue: str, *, app: Target = None) -> None:
    """Let tasks of a queue start again."""
    _act(app, lambda target: target.resume_queue(queue), f"{queue} is open")


@queues.command
def purge(
    queue: str,
    *,
    app: Target = None,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
) -> int:
    """Cancel every task of a queue that has not started."""
    if not yes and not _confirmed(f"Cancel all waiting tasks of {queue}?"):
        return 1
    _act(app, lambda target: target.purge_queue(queue), "tasks cancelled: {}")
    return 0


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ValidationError("--yes", "say it when there is no terminal to ask at")
    return console().input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _act(app: str | None, act: Callable[[OmniQ], Awaitable[Any]], said: str) -> None:
    console().print(said.format(on_target(app, act)), markup=False)
