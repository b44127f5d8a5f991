"""`omniq doctor`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from omniq.cli.exits import Exit
from omniq.cli.output import Json, cell, console, print_json
from omniq.cli.target import Target, open_target
from omniq.core import OmniQ
from omniq.doctor import UNREACHABLE
from omniq.models.finding import Finding, Level, worst

_STYLES = {Level.FINE: "green", Level.RISK: "yellow", Level.BROKEN: "red"}


def doctor(
    app: Target = None,
    *,
    monitor_url: Annotated[
        str | None,
        Parameter(help="Of NATS servers: their monitoring port, such as http://localhost:8222."),
    ] = None,
    strict: Annotated[bool, Parameter(negative=(), help="Exit with 1 for risks too.")] = False,
    json: Json = False,
) -> int:
    """Look at every component: what is fine, what is a risk, what is broken, and what to do."""
    found = asyncio.run(_found(open_target(app), monitor_url))
    if json:
        print_json({"worst": worst(found), "findings": found})
    else:
        _print(found)
    return _code(found, strict=strict)


async def _found(target: OmniQ, monitor_url: str | None) -> list[Finding]:
    for component in (
        target.task_queue,
        target.result_storage,
        target.event_storage,
        target.schedule_storage,
    ):
        component.monitor_url = monitor_url
    try:
        return await target.findings()
    finally:
        await target.disconnect()


def _code(found: list[Finding], *, strict: bool) -> Exit:
    if any(item.text.startswith(UNREACHABLE) for item in found):
        return Exit.STORE
    bad = (Level.RISK, Level.BROKEN) if strict else (Level.BROKEN,)
    return Exit.FAILED if worst(found) in bad else Exit.OK


def _print(found: list[Finding]) -> None:
    """Print the findings, the worst first; nothing is cut off."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "ABOUT", "FOUND"):
        table.add_column(column, overflow="fold")
    order = list(Level)
    for item in sorted(found, key=lambda item: -order.index(item.level)):
        style = _STYLES[item.level]
        advice = f"\n[dim]→[/dim] {cell(item.hint)}" if item.hint else ""
        table.add_row(
            f"[{style}]{item.level}[/{style}]",
            cell(item.component),
            cell(item.text) + advice,
        )
    console().print(table)
