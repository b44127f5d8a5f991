"""Noticing at once that a worker on this machine died.

Each worker holds a POSIX lock on a file of its own in the store's companion folder. The kernel
frees it when the process ends, however it ends: whoever can take the lock knows that the worker is
gone. The file is opened exactly once in its process, because closing any descriptor of it would
free the lock; a forked child does not inherit it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path

_SUFFIX = ".alive"
_held: dict[Path, tuple[int, int]] = {}
"""Files locked by this process: their descriptor and the process that opened it."""


def hold(folder: Path, worker_id: str) -> None:
    """Take the lock that says `worker_id` lives in this process. Idempotent."""
    path = folder / f"{worker_id}{_SUFFIX}"
    if sys.platform == "win32" or _is_held(path):
        return  # on Windows leases alone must do
    import fcntl

    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        if _same_file(fd, path):
            _held[path] = (fd, os.getpid())
            return
        os.close(fd)  # a rescuer took it for dead and removed it in between


def let_go(folder: Path, worker_id: str) -> None:
    """Free the lock and remove its file. Idempotent."""
    path = folder / f"{worker_id}{_SUFFIX}"
    if _is_held(path):
        path.unlink(missing_ok=True)
        os.close(_held.pop(path)[0])


@contextlib.contextmanager
def dead_workers(folder: Path) -> Generator[list[str]]:
    """Give the workers found dead; their files are removed when the block ends without error.

    While the block runs, their locks are held, so no other process buries the same worker.
    """
    found: list[tuple[int, Path]] = []
    try:
        found = [(fd, path) for path in _files(folder) if (fd := _take(path)) is not None]
        yield [path.name.removesuffix(_SUFFIX) for _, path in found]
        for _, path in found:
            path.unlink(missing_ok=True)
    finally:
        for fd, _ in found:
            os.close(fd)


def _files(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []
    paths = [folder / name for name in names if name.endswith(_SUFFIX)]
    return [path for path in paths if not _is_held(path)]


def _take(path: Path) -> int | None:
    """Lock the file of another process's worker if that is dead; None while it lives."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    if _same_file(fd, path):
        return fd
    os.close(fd)
    return None


def _is_held(path: Path) -> bool:
    held = _held.get(path)
    return held is not None and held[1] == os.getpid()


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
