"""`omniq migrate`: everything of one store to another."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from omniq.cli.exits import Exit
from omniq.cli.output import Json, console, print_json, print_table
from omniq.migration import Place, Report
from omniq.migration import migrate as copy_all
from omniq.models.config import OmniQConfig

_KINDS = ("tasks", "results", "events", "schedules")


def migrate(
    source: str,
    target: str,
    /,
    *,
    verify: Annotated[bool, Parameter(negative=(), help="Compare all records afterwards.")] = False,
    json: Json = False,
) -> int:
    """Copy all tasks, results, events and schedules of a stopped application.

    Args:
        source: URL of a store, or a YAML or TOML file that names the stores.
        target: likewise.
        verify: compare all records afterwards.
        json: print JSON.
    """
    progress = _progress if sys.stderr.isatty() else None
    report = asyncio.run(copy_all(_place(source), _place(target), verify=verify, progress=progress))
    if json:
        print_json({**asdict(report), "is_complete": report.is_complete})
    else:
        _print(report)
    return Exit.OK if report.is_complete else Exit.FAILED


def _place(text: str) -> Place:
    is_file = Path(text).suffix.lower() in (".yaml", ".yml", ".toml")
    return OmniQConfig.read(text) if is_file and "://" not in text else text


def _progress(kind: str, done: int, total: int | None) -> None:
    of_all = "" if total is None else f" of {total:,}"
    sys.stderr.write(f"\r\033[K{kind}: {done:,}{of_all}")
    sys.stderr.flush()


def _print(report: Report) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    rows = ((kind, *getattr(report, kind)) for kind in _KINDS)
    print_table(("RECORDS", "COPIED", "THERE BEFORE"), rows, empty="nothing")
    for name, ids in (("same unique key", report.conflicts), ("unreadable", report.damaged)):
        if ids:
            console().print(f"[red]left out[/red] ({name}): {', '.join(ids[:10])} ({len(ids):,})")
    for kind, digest in (report.digests or {}).items():
        verdict = "[green]same[/green]" if digest.is_same else "[red]different[/red]"
        here, there = digest.records
        console().print(f"{kind}: {verdict}, {here:,} and {there:,}, sha256 {digest.target}")
        if digest.different:
            console().print(f"  {', '.join(digest.different[:10])}")
    if report.missing_events is not None:
        console().print(f"events: {report.missing_events:,} missing")
