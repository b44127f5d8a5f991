"""`omniq migrate`: everything of one store to another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from omniq.cli.exits import Exit
from omniq.cli.output import Json, console, print_json, print_table
from omniq.exceptions import ConfigError
from omniq.migration import Moved, Progress, Report
from omniq.migration import migrate as copy_all
from omniq.models.config import OmniQConfig

T = TypeVar("T")
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
    there = lasting(place(target))
    report = run_to_end(copy_all(place(source), there, verify=verify, progress=progress()))
    if json:
        print_json({**asdict(report), "is_complete": report.is_complete})
    else:
        _print(report)
    return Exit.OK if report.is_complete else Exit.FAILED


def place(text: str) -> str | OmniQConfig:
    """Return the place an argument names: the configuration in a file, or a URL as it is."""
    is_file = Path(text).suffix.lower() in (".yaml", ".yml", ".toml")
    return OmniQConfig.read(text) if is_file and "://" not in text else text


def lasting(target: str | OmniQConfig) -> str | OmniQConfig:
    """Return the target, unless it is gone with this command. Raises ConfigError."""
    config = target
    if isinstance(config, str):
        config = OmniQConfig.from_dict({"url": config}, source="the target")
    for name, backend in config.resolved({}).items():
        if backend.backend_type == "memory":
            raise ConfigError(
                f"{name} of the target: what is in memory:// is gone when this command ends; "
                "name a store that lasts"
            )
    return target


def run_to_end(call: Coroutine[Any, Any, T]) -> T:
    """Run a migration; somebody who interrupts it is told what to do."""
    try:
        return asyncio.run(call)
    except KeyboardInterrupt:
        clear_progress()
        sys.stderr.write("interrupted; start it again, and it goes on where it was\n")
        raise


def progress() -> Progress | None:
    """Return what shows progress, where somebody looks on."""
    return _show if sys.stderr.isatty() else None


def clear_progress() -> None:
    """Take the line of the progress away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")


def _show(kind: str, done: int, total: int | None) -> None:
    of_all = "" if total is None else f" of {total:,}"
    sys.stderr.write(f"\r\033[K{kind}: {done:,}{of_all}")
    sys.stderr.flush()


def _print(report: Report) -> None:
    clear_progress()
    if report.others:
        console().print(
            f"[yellow]the target had {report.others:,} other tasks before; they stay[/yellow]"
        )
    rows = ((kind, *getattr(report, kind)) for kind in _KINDS)
    print_table(("RECORDS", "COPIED", "THERE BEFORE"), rows, empty="nothing")
    for name, ids in (("same unique key", report.conflicts), ("unreadable", report.damaged)):
        if ids:
            console().print(f"[red]left out[/red] ({name}): {', '.join(ids[:10])} ({len(ids):,})")
    print_digests(report)


def print_digests(report: Report | Moved) -> None:
    """Print what was verified, if it was."""
    for kind, digest in (report.digests or {}).items():
        verdict = "[green]same[/green]" if digest.is_same else "[red]different[/red]"
        here, there = digest.records
        console().print(f"{kind}: {verdict}, {here:,} and {there:,}, sha256 {digest.target}")
        if digest.different:
            console().print(f"  {', '.join(digest.different[:10])}")
    if report.missing_events is not None:
        console().print(f"events: {report.missing_events:,} missing")
