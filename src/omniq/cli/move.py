"""`omniq move`: to another store while the application runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape

from omniq.cli.exits import Exit
from omniq.cli.migrate import (
    clear_progress,
    lasting,
    place,
    print_digests,
    progress,
    run_to_end,
)
from omniq.cli.output import Json, console, print_json, print_table
from omniq.migration import Moved
from omniq.migration import move as move_all


def move(
    source: str,
    target: str,
    /,
    *,
    verify: Annotated[
        bool, Parameter(negative=(), help="Compare what is finished before the source is left.")
    ] = False,
    json: Json = False,
) -> int:
    """Move to another store while producers and workers run; they follow by themselves.

    Args:
        source: URL of a store, or a YAML or TOML file that names the stores.
        target: likewise; a place all of the application's processes can reach.
        verify: compare what is finished before the source is left.
        json: print JSON.
    """
    there = lasting(place(target))
    moved = run_to_end(move_all(place(source), there, verify=verify, progress=progress()))
    if json:
        print_json({**asdict(moved), "is_complete": moved.is_complete})
    else:
        _print(moved)
    return Exit.OK if moved.is_complete else Exit.FAILED


def _print(moved: Moved) -> None:
    clear_progress()
    if moved.was_done:
        console().print("all was moved before; give the processes their new configuration")
        if moved.transferred:
            console().print(f"{moved.transferred:,} tasks that came since were taken over")
        return
    rows = [
        ("tasks taken over", moved.transferred, 0),
        ("finished tasks", *moved.finished),
        ("results", *moved.results),
        ("events", *moved.events),
        ("schedules", moved.schedules, 0),
    ]
    print_table(("RECORDS", "MOVED", "THERE BEFORE"), rows, empty="nothing")
    for task_id, reason in list(moved.stuck.items())[:10]:
        console().print(f"[yellow]ran in the source[/yellow]: {task_id}: {escape(reason)}")
    print_digests(moved)
    if moved.is_complete:
        console().print("give the processes their new configuration at their next start")
    else:
        sys.stderr.write("not all is the same: the source stays in use; start the move again\n")
