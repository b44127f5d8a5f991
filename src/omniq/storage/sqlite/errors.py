"""The one place that turns errors of the sqlite3 driver into ours."""

from __future__ import annotations

import sqlite3

from omniq.exceptions import SchemaError, StorageError, StorageUnavailableError

_ADVICE = {
    "SQLITE_FULL": "the disk is full; nothing was stored",
    "SQLITE_READONLY": "the database is read-only; check the permissions of file and folder",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its folder exists and is writable",
    "SQLITE_BUSY": "another program holds the database; it did not let go in time",
    "SQLITE_LOCKED": "another connection holds the database; it did not let go in time",
    "SQLITE_IOERR": "the disk reported an error; nothing was stored",
    "SQLITE_NOTADB": "the file is not an SQLite database",
    "SQLITE_CORRUPT": "the database file is damaged; restore it from a backup",
}
_LATER = {"SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED"}


def translated(error: sqlite3.Error | OSError, path: str) -> StorageError:
    """Return our error for one of the driver's or the file system's."""
    if isinstance(error, OSError):
        return StorageUnavailableError(f"sqlite database {path}: {error.strerror or error}")
    name = getattr(error, "sqlite_errorname", "") or ""
    base = "_".join(name.split("_")[:2])
    advice = _ADVICE.get(base)
    text = f"sqlite database {path}: {error}" + (f" ({advice})" if advice else "")
    if "no such table" in str(error) or "no such column" in str(error):
        return SchemaError(f"{text}; the schema was changed by another program")
    return StorageUnavailableError(text) if base in _LATER else StorageError(text)
