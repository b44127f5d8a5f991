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
from rich.text import Text

from omniq.readable import printable, shown_moment

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]
PIPE_WIDTH = 240
GAP = "  "
LEAST_CUT = 20
"""A text is never cut shorter than that."""
SAYS_NOTHING = {"-", "0", "no"}
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
    """Print a value as one JSON document; a record has all its fields, the default ones too."""
    text = msgspec.json.format(msgspec.json.encode(_complete(value), enc_hook=str), indent=2)
    sys.stdout.write(text.decode() + "\n")


def _complete(value: Any) -> Any:
    """Return a value with dicts for its records, which leave out defaults when encoded."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType] - of Any
    if issubclass(kind, msgspec.Struct):
        return {name: _complete(getattr(value, name)) for name in kind.__struct_fields__}
    if issubclass(kind, dict):
        return {key: _complete(item) for key, item in value.items()}
    if issubclass(kind, (list, tuple)):
        return [_complete(item) for item in value]
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headings, or the line `empty` when there are none.

    On a terminal that is too narrow, columns that say nothing are left out, then the last one is
    cut. What is still too wide goes on in the next line: nothing that tells is ever missing.
    """
    cells = [[Text.from_markup(cell(item)) for item in row] for row in rows]
    if not cells:
        console().print(f"[dim]{escape(empty)}[/dim]")
        return
    table = [[Text(name, style="bold") for name in columns], *cells]
    if sys.stdout.isatty():
        table = _fitted(table, console().width)
    widths = _widths(table)
    for row in table:
        console().print(_line(row, widths), soft_wrap=True)


def _fitted(table: list[list[Text]], width: int) -> list[list[Text]]:
    """Return a table (its headings first) of this width, as far as that can be."""
    for column in reversed(range(1, len(table[0]))):
        if _whole(table) <= width:
            break
        if all(row[column].plain in SAYS_NOTHING for row in table[1:]):
            table = [row[:column] + row[column + 1 :] for row in table]
    room = _widths(table)[-1] - (_whole(table) - width)
    for row in table if _whole(table) > width else []:
        row[-1].truncate(max(room, len(table[0][-1].plain), LEAST_CUT), overflow="ellipsis")
    return table


def _widths(table: list[list[Text]]) -> list[int]:
    return [max(text.cell_len for text in column) for column in zip(*table, strict=True)]


def _whole(table: list[list[Text]]) -> int:
    widths = _widths(table)
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _line(row: list[Text], widths: list[int]) -> Text:
    """Return a row as one line, without blanks at its end."""
    padded = (
        Text.assemble(text, " " * (width - text.cell_len))
        for text, width in zip(row, widths, strict=True)
    )
    line = Text(GAP).join(padded)
    line.rstrip()
    return line


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair a line; those without a value are left out."""
    told = [(name, cell(value)) for name, value in pairs if value not in (None, "", (), {})]
    indent = max((len(name) for name, _ in told), default=0) + len(GAP)
    for name, value in told:
        for number, line in enumerate(_folded(Text.from_markup(value), indent)):
            head = Text("" if number else name, style="bold")
            head.pad_right(indent - head.cell_len)
            head.append_text(line)
            head.rstrip()
            console().print(head, soft_wrap=True)


def _folded(text: Text, indent: int) -> list[Text]:
    """Return the lines of a text; on a terminal, none longer than there is room."""
    lines = list(text.split("\n"))
    if not sys.stdout.isatty():
        return lines
    room = max(console().width - indent, LEAST_CUT)
    return [part for line in lines for part in line.wrap(console(), room)]


def cell(value: Any) -> str:
    """Return a value as safe, readable text: control characters and markup are taken out."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return shown_moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    text = printable(str(value))
    style = STYLES.get(text)
    return f"[{style}]{text}[/{style}]" if style else escape(text)
