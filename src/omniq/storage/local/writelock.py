"""One writer at a time, across processes: fair, and without polling.

The kernel frees the lock of a process that dies. In SQLite, every write transaction of OmniQ holds
this lock from BEGIN to COMMIT, and so does every checkpoint.
That does two things. Processes queue in the kernel, which wakes the next one at once, instead of
sleeping in SQLite's busy handler. And no commit ever overlaps a checkpoint, which is the condition
of the WAL-reset bug of SQLite 3.7.0 to 3.51.2 (a commit racing a checkpoint could corrupt the
file).
"""

from __future__ import annotations

import os
import sys
import weakref
from pathlib import Path
from types import TracebackType


class WriteLock:
    """A lock file taken exclusively; a context manager for one thread."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._fd = os.open(path, flags, 0o600)
        _open_locks.add(self)

    def __enter__(self) -> None:
        if sys.platform != "win32":  # there, SQLite's own locking must do
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.platform != "win32":  # there, SQLite's own locking must do
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        _open_locks.discard(self)
        os.close(self._fd)


_open_locks: weakref.WeakSet[WriteLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: close the files, which would keep a lock when the parent is killed."""
    for lock in list(_open_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
