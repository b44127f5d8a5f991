"""How a database file is: its engine, its log, its disk, its pages."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.local.disk import MIB, disk_findings
from omniq.storage.sqlite.schema import MIGRATIONS

LARGE_WAL_BYTES = 64 * MIB
CHECK_SECONDS = 5.0
"""A check of all pages that takes longer is given up."""
_WITHOUT_WAL_BUG = (3, 51, 3)
_FIXED_BEFORE = {(3, 50, 7), (3, 44, 6)}


def database_findings(
    name: str, path: Path, durability: str, connect: Callable[[], sqlite3.Connection]
) -> list[Finding]:
    """Look at a database with a connection of its own. Blocks, for some seconds at most."""
    return [
        version_finding(name, sqlite3.sqlite_version_info, is_guarded=sys.platform != "win32"),
        _durability(name, durability),
        _wal(name, path),
        _pages(name, connect),
        fine(name, f"schema version {len(MIGRATIONS)}, as this OmniQ knows it"),
        *disk_findings(path.parent),
    ]


def version_finding(name: str, version: tuple[int, ...], *, is_guarded: bool) -> Finding:
    """Judge the version of the SQLite library, with or without a lock around all writes."""
    text = f"SQLite {'.'.join(map(str, version[:3]))}"
    if version >= _WITHOUT_WAL_BUG or version[:3] in _FIXED_BEFORE:
        return fine(name, text)
    if is_guarded:
        return fine(name, f"{text}; OmniQ's write lock keeps its WAL-reset bug away")
    return risk(
        name,
        f"{text} has the WAL-reset bug, which can corrupt a file that several processes write, "
        "and there is no write lock on this system",
        "use one worker process, or a Python with SQLite 3.51.3 or newer",
    )


def _durability(name: str, durability: str) -> Finding:
    if durability == "full":
        return fine(name, "each commit is synced to the disk")
    return risk(
        name,
        "durability is 'fast': a power cut may lose the last moments, also what was acknowledged",
        "leave durability at 'full' unless every task can be enqueued anew",
    )


def _wal(name: str, path: Path) -> Finding:
    wal = path.with_name(path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size <= LARGE_WAL_BYTES:
        return fine(name, f"write-ahead log of {size / MIB:,.1f} MiB")
    return risk(
        name,
        f"its write-ahead log has {size / MIB:,.0f} MiB: something reads in one long transaction "
        "and keeps it from being written back, so everything gets slower",
        "find who has the file open (fuser, lsof) and end long reads, such as a sqlite3 shell",
    )


def _pages(name: str, connect: Callable[[], sqlite3.Connection]) -> Finding:
    connection = connect()
    try:
        ends_at = time.monotonic() + CHECK_SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > ends_at, 20_000)
        found = [text for (text,) in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if "interrupt" not in str(error):
            return _damaged(name, str(error))
        return fine(name, f"no damage found in a check cut short after {CHECK_SECONDS:g} s")
    except sqlite3.DatabaseError as error:
        return _damaged(name, str(error))
    finally:
        connection.close()
    return fine(name, "all pages in order") if found == ["ok"] else _damaged(name, found[0])


def _damaged(name: str, text: str) -> Finding:
    return broken(
        name,
        f"the file is damaged: {' '.join(text.split())}",
        "stop all workers, restore a backup, or save what can be read: "
        "sqlite3 omniq.db .recover | sqlite3 new.db",
    )
