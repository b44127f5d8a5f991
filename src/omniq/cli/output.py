"""Tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from omniq.clock import utcnow

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]
ID_WIDTH = 36
PIPE_WIDTH = 240
STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "cancelled": "yellow",
    "expired": "yellow",
}


def console() -> Console:
    """Return the console of standard output."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, width=width, soft_wrap=width is not None)


def tell_error(text: str) -> None:
    """Print what went wrong on standard error, in one piece."""
    stderr = Console(stderr=True, highlight=False)
    stderr.print(f"[red]error:[/red] {escape(text)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headings, or the line `empty` when there are none."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=len(column))
    table.columns[0].min_width = ID_WIDTH if columns[0] == "ID" else len(columns[0])
    count = 0
    for row in rows:
        table.add_row(*(cell(item) for item in row))
        count += 1
    console().print(table if count else f"[dim]{escape(empty)}[/dim]")


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair a line; those without a value are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", (), {}):
            table.add_row(name, cell(value))
    console().print(table)


def cell(value: Any) -> str:
    """Return a value as safe, readable text: control characters and markup are taken out."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    text = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value))
    style = STYLES.get(text)
    return f"[{style}]{text}[/{style}]" if style else escape(text)


def ago(moment: datetime | None) -> str | None:
    """Return how long ago (or ahead) a moment is, in the largest fitting unit."""
    if moment is None:
        return None
    seconds = (utcnow() - moment).total_seconds()
    text = f"{abs(seconds):.0f} s"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            text = f"{abs(seconds) / size:.0f} {unit}"
            break
    return f"{text} ago" if seconds >= 0 else f"in {text}"
