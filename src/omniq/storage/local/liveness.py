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
import time
from collections.abc import Generator
from pathlib import Path

from omniq.exceptions import ConfigError
from omniq.storage.local.forks import fork_gate

BURIAL_SECONDS = 5.0
"""How long a rescuer may hold the lock of a dead worker whose id is used again."""
_SUFFIX = ".alive"
_guard = fork_gate()
"""Held while files are opened and locked: within a process, POSIX locks exclude nobody."""
_held: dict[Path, tuple[int, int]] = {}
"""Files locked by this process: their descriptor and the process that opened it."""
_burying: set[tuple[Path, int]] = set()
"""Files of the dead that this process is at, with its id."""


def hold(folder: Path, worker_id: str) -> None:
    """Take the lock that says `worker_id` lives in this process. Idempotent.

    Raises:
        ConfigError: it lives in another process.
    """
    if sys.platform == "win32":
        return  # leases alone must do
    path = _path(folder, worker_id)
    ends_at = time.monotonic() + BURIAL_SECONDS
    while not _hold(path):
        if time.monotonic() > ends_at:
            raise ConfigError(f"worker id {worker_id!r} is in use in another process")
        time.sleep(0.02)  # a rescuer is at it


def let_go(folder: Path, worker_id: str) -> None:
    """Free the lock and remove its file. Idempotent."""
    path = _path(folder, worker_id)
    with _guard:
        if _is_held(path):
            path.unlink(missing_ok=True)
            os.close(_held.pop(path)[0])


@contextlib.contextmanager
def dead_workers(folder: Path) -> Generator[list[str]]:
    """Give the workers found dead; their files are removed when the block ends without error.

    While the block runs, their locks are held, so nobody else buries the same worker.
    """
    with _guard:
        found = {path: fd for path in _files(folder) if (fd := _take(path)) is not None}
        _burying.update((path, os.getpid()) for path in found)
    try:
        yield [path.name.removesuffix(_SUFFIX) for path in found]
        for path in found:
            path.unlink(missing_ok=True)
    finally:
        with _guard:
            _burying.difference_update((path, os.getpid()) for path in found)
            for fd in found.values():
                os.close(fd)


def _path(folder: Path, worker_id: str) -> Path:
    return folder.resolve() / f"{worker_id}{_SUFFIX}"


def _files(folder: Path) -> list[Path]:
    """Return the lock files that may be those of the dead: not ours, not being buried here."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []
    paths = [folder.resolve() / name for name in names if name.endswith(_SUFFIX)]
    return [path for path in paths if not _is_held(path) and not _is_burying(path)]


def _hold(path: Path) -> bool:
    """Take the lock unless somebody has it."""
    with _guard:
        if _is_held(path):
            return True
        fd = None if _is_burying(path) else _take(path, os.O_CREAT)
        if fd is not None:
            _held[path] = (fd, os.getpid())
    return fd is not None


def _take(path: Path, flags: int = 0) -> int | None:
    """Open and lock a file that this process has not open; None if another process holds it."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fd = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        if flags:
            raise
        return None  # nobody is said to be dead because we cannot look
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    if _same_file(fd, path):
        return fd
    os.close(fd)  # a rescuer removed it in between
    return None


def _is_burying(path: Path) -> bool:
    return (path, os.getpid()) in _burying


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
