"""`omniq enqueue` and `omniq tasks …`."""

from __future__ import annotations

import asyncio
import json as stdlib_json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from omniq.cli.exits import Exit
from omniq.cli.output import (
    Json,
    console,
    print_json,
    print_pairs,
    print_table,
    tell_error,
)
from omniq.cli.target import Target, load, on_target
from omniq.core import OmniQ
from omniq.exceptions import ConfigError, NotFoundError, ResultError, ValidationError
from omniq.models.task import Task, TaskStatus
from omniq.readable import ago

Act = Callable[[OmniQ, str], Awaitable[Task]]

tasks = App(name="tasks", help="Look at tasks, cancel them, run them again.")


def enqueue(
    app: Annotated[str, Parameter(help="module, module:attr, file.py or file.py:attr")],
    task: Annotated[str, Parameter(help="The task's name, in full or its last part.")],
    *arguments: Annotated[str, Parameter(help="Each is read as JSON, else taken as text.")],
    kwarg: Annotated[
        tuple[str, ...], Parameter(negative=(), help="name=value; repeat for more.")
    ] = (),
    queue: str | None = None,
    priority: int | None = None,
    delay: Annotated[float | None, Parameter(help="Seconds from now.")] = None,
    unique_key: str | None = None,
    wait: Annotated[float | None, Parameter(help="Wait so many seconds for the result.")] = None,
    json: Json = False,
) -> int:
    """Enqueue a task; print its id, or with --wait its result."""
    queue_app = load(app)
    options = {"queue": queue, "priority": priority, "delay": delay, "unique_key": unique_key}
    given = {name: value for name, value in options.items() if value is not None}
    function = queue_app.registry.resolve(_full_name(queue_app, task)).options(**given)  # type: ignore[arg-type]  # checked there
    named = dict(_pair(item) for item in kwarg)
    if not queue_app.task_queue.capabilities.shared:
        raise ConfigError(f"{app} keeps its tasks in this process, where none would run them")

    async def run() -> int:
        async with queue_app:
            handle = await function.enqueue(*map(_value, arguments), **named)
            if wait is None:
                _say_id(handle.id, json=json)
                return Exit.OK
            return await _print_result(handle, wait, json=json)

    return asyncio.run(run())


@tasks.command(name="list")
def list_tasks(
    *,
    app: Target = None,
    queue: str | None = None,
    status: TaskStatus | None = None,
    name: Annotated[str | None, Parameter(help="Only tasks of this function.")] = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = 50,
    json: Json = False,
) -> None:
    """List tasks, oldest first."""

    async def look(target: OmniQ) -> list[Task]:
        return await target.task_queue.list_tasks(queue, status, func=name, limit=limit)

    found = on_target(app, look)
    if json:
        print_json(found)
        return
    print_table(
        ("ID", "TASK", "QUEUE", "STATUS", "TRY", "CREATED", "REASON"),
        (
            (
                t.id,
                t.func,
                t.queue_name,
                t.status.value,
                t.attempt,
                ago(t.created_at),
                _line(t.error),
            )
            for t in found
        ),
        empty="no tasks",
    )
    if len(found) == limit:
        sys.stderr.write(
            f"the oldest {limit:,}; there may be more: see --limit, --status, --queue\n"
        )


@tasks.command
def show(task_id: str, *, app: Target = None, json: Json = False) -> None:
    """Show one task: its state, its result or error, its history."""

    async def look(target: OmniQ) -> tuple[Task, Any, Any]:
        task = await target.task_queue.get_task(task_id)
        if task is None:
            raise NotFoundError(f"there is no task {task_id}")
        result = await target.result_storage.get(task_id)
        return task, result, await target.event_storage.get_events(task_id)

    task, result, events = on_target(app, look)
    if json:
        print_json({"task": task, "result": result, "events": events})
        return
    print_pairs((field, getattr(task, field)) for field in task.__struct_fields__)
    if result is not None:
        console().print("\n[bold]Result[/bold]")
        value = result.error.traceback if result.error else repr(result.result)
        print_pairs(
            [("status", result.status.value), ("stored_at", result.stored_at), ("value", value)]
        )
    console().print("\n[bold]History[/bold]")
    print_table(
        ("AT", "EVENT", "WORKER", "MESSAGE"),
        ((e.timestamp, str(e.event_type), e.worker_id, _line(e.message)) for e in events),
        empty="no events",
    )


@tasks.command
def cancel(*task_ids: str, app: Target = None, json: Json = False) -> int:
    """Cancel tasks; a running one is asked to stop."""
    return _each(task_ids, app, json, lambda target, task_id: target.cancel(task_id))


@tasks.command
def retry(*task_ids: str, app: Target = None, json: Json = False) -> int:
    """Run finished tasks again."""
    return _each(task_ids, app, json, lambda target, task_id: target.retry(task_id))


def _each(task_ids: tuple[str, ...], app: str | None, json: bool, act: Act) -> int:
    """Do something with each task; all are tried, and one that fails makes the exit code 1."""
    if not task_ids:
        raise ValidationError("task_ids", "name at least one task")

    async def act_on_all(target: OmniQ) -> list[tuple[str, str, str | None]]:
        rows: list[tuple[str, str, str | None]] = []
        for task_id in task_ids:
            try:
                task = await act(target, task_id)
                note = "asked to stop" if task.cancel_requested else None
                rows.append((task_id, task.status.value, note))
            except (NotFoundError, ValidationError, ResultError) as error:
                rows.append((task_id, "error", str(error)))
        return rows

    rows = on_target(app, act_on_all)
    if json:
        print_json([dict(zip(("id", "status", "note"), row, strict=True)) for row in rows])
    else:
        print_table(("ID", "STATUS", "NOTE"), rows, empty="no tasks")
    return Exit.FAILED if any(row[1] == "error" for row in rows) else Exit.OK


async def _print_result(handle: Any, seconds: float, *, json: bool) -> int:
    try:
        value = await handle.result(timeout=seconds)
    except ResultError as error:
        if json:
            print_json({"id": handle.id, "error": str(error)})
        else:
            tell_error(f"{type(error).__name__}: {error}")
        return Exit.FAILED
    if json:
        print_json({"id": handle.id, "result": value})
    else:
        console().print(repr(value), markup=False)
    return Exit.OK


def _say_id(task_id: str, *, json: bool) -> None:
    if json:
        print_json({"id": task_id})
    else:
        console().print(task_id, markup=False)


def _full_name(app: OmniQ, name: str) -> str:
    """Return the registered name that is `name` or ends in it, if there is just one."""
    if name in app.registry:
        return name
    ending = [known for known in app.registry.names() if known.endswith(f".{name}")]
    return ending[0] if len(ending) == 1 else name


def _value(text: str) -> Any:
    try:
        return stdlib_json.loads(text)
    except ValueError:
        return text


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValidationError("kwarg", f"{text!r} is not name=value")
    return name, _value(value)


def _line(text: str | None) -> str | None:
    return None if not text else text.splitlines()[0][:80]
