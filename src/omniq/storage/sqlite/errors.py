"""The one place that turns errors of the sqlite3 driver into ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

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
_MAGIC = b"SQLite format 3\0"
"""What each database begins with, but for one that is still empty."""
_LATER = _ADVICE.keys() - {"SQLITE_NOTADB", "SQLITE_CORRUPT"}
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


def refuse_other_file(path: Path) -> None:
    """Refuse what is no database, and that before anything is made beside it.

    Raises:
        sqlite3.DatabaseError: as SQLite itself would, later.
    """
    if not path.exists():
        return
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) in (b"", _MAGIC):
                return
    error = sqlite3.DatabaseError("file is not a database")
    error.sqlite_errorname = "SQLITE_NOTADB"
    raise error


def is_busy(error: BaseException) -> bool:
    """Whether a lock of another program kept the transaction from beginning."""
    return isinstance(error, sqlite3.Error) and _base_name(error) == "SQLITE_BUSY"


def _base_name(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])
