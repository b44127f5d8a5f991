"""The one place that turns errors of the sqlite3 driver into ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from omniq.exceptions import SchemaError, StorageError, StorageUnavailableError

_OTHER_FILE = "SQLITE_NOTADB"
_ADVICE = {
    "SQLITE_FULL": "the disk is full; nothing was stored",
    "SQLITE_READONLY": "the database is read-only; check the permissions of file and folder",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its folder exists and is writable",
    "SQLITE_BUSY": "another program holds the database; it did not let go in time",
    "SQLITE_LOCKED": "another connection holds the database; it did not let go in time",
    "SQLITE_IOERR": "the disk reported an error; nothing was stored",
    _OTHER_FILE: "the file is not an SQLite database",
    "SQLITE_CORRUPT": "the database file is damaged; restore it from a backup",
}
_LATER = _ADVICE.keys() - {_OTHER_FILE, "SQLITE_CORRUPT"}
"""What may have passed when tried again: a full disk, a quota, a lock, missing permissions."""
_OF_THE_SYSTEM = {
    errno.ENOENT: "SQLITE_CANTOPEN",
    errno.EACCES: "SQLITE_READONLY",
    errno.EPERM: "SQLITE_READONLY",
    errno.EROFS: "SQLITE_READONLY",
    errno.ENOSPC: "SQLITE_FULL",
}


def translated(error: sqlite3.Error | OSError, path: str) -> StorageError:
    """Return our error for one of the driver's or the file system's."""
    if isinstance(error, OSError):
        base = _OF_THE_SYSTEM.get(error.errno or 0, "SQLITE_IOERR")
        said = error.strerror or str(error)
    else:
        base, said = _base_name(error), str(error)
    advice = _ADVICE.get(base)
    text = f"sqlite database {path}: {said}" + (f" ({advice})" if advice else "")
    if "no such table" in text or "no such column" in text:
        return SchemaError(f"{text}; the schema was changed by another program")
    return StorageUnavailableError(text) if base in _LATER else StorageError(text)


@contextmanager
def translating(path: Path) -> Generator[None]:
    """Let errors of the driver, and of the file system beside a database, be ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translated(error, str(path)) from error


def not_a_database() -> sqlite3.DatabaseError:
    """Return what SQLite says of a file that is none of its own."""
    error = sqlite3.DatabaseError("file is not a database")
    error.sqlite_errorname = _OTHER_FILE
    return error


def is_other_file(error: sqlite3.Error) -> bool:
    """Whether the file is no database."""
    return _base_name(error) == _OTHER_FILE


def is_busy(error: BaseException) -> bool:
    """Whether a lock of another program kept the transaction from beginning."""
    return isinstance(error, sqlite3.Error) and _base_name(error) == "SQLITE_BUSY"


def _base_name(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])
