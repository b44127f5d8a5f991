"""The files below one root, reached without ever following a symbolic link.

Folders are opened one step at a time, each relative to the descriptor of the one above and with
O_NOFOLLOW, and kept open; files are opened relative to their folder's descriptor. So whatever
somebody plants inside the root, nothing outside of it is read or written. Not thread-safe.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR
from typing import TypeVar

R = TypeVar("R")

FOLDER_MODE = 0o700
FILE_MODE = 0o600
KEPT_MODE = 0o400
"""Mode of a file that no moment makes obsolete: it is replaced or deleted, never edited."""
_MOST_OPEN = 64
_CHUNK = 1 << 16
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_FILE_FLAGS = getattr(os, "O_NONBLOCK", 0)  # a planted pipe must not block
_SAFE_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Folders:
    """Files by folder and name. A folder is a path relative to the root, like ``default/pending``.

    Names come from checked ids or from listings; they hold no slash.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: OrderedDict[str, int] = OrderedDict()
        root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._root = os.open(root, _FOLDER_FLAGS | getattr(os, "O_CLOEXEC", 0))

    def close(self) -> None:
        """Close all descriptors. Idempotent."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def make(self, folder: str) -> None:
        """Make a folder and those above it, where missing."""
        self._fd(folder, make=True)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, in no order; none if there is no such folder."""
        try:
            return self._in(folder, os.listdir)
        except FileNotFoundError:
            return []

    def entries(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield name and status of each file in a folder, without those that vanish meanwhile."""
        try:
            fd = self._in(folder, os.dup)
        except FileNotFoundError:
            return
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        yield entry.name, entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        finally:
            os.close(fd)

    def exists(self, folder: str, name: str) -> bool:
        """Whether there is something of that name."""
        return bool(self.present(folder, (name,)))

    def present(self, folder: str, names: Sequence[str]) -> set[str]:
        """Return which of these names there are in a folder."""
        try:
            fd = self._fd(folder)
        except FileNotFoundError:
            return set()
        found = {
            name for name in names if os.access(name, os.F_OK, dir_fd=fd, follow_symlinks=False)
        }
        if len(found) < len(names) and self._renewed(folder):
            return self.present(folder, names)
        return found

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, links and hidden ones left out; in order."""
        return sorted(
            name
            for name, status in self.entries(folder)
            if S_ISDIR(status.st_mode) and not name.startswith(".")
        )

    def status(self, folder: str, name: str) -> os.stat_result | None:
        """Return the status of a file, or None."""
        try:
            return self._in(folder, lambda fd: os.stat(name, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def read(self, folder: str, name: str, most: int | None = None) -> bytes | None:
        """Return what is in a file (its first `most` bytes if given), or None if there is none."""
        try:
            file = self._in(
                folder,
                lambda fd: os.open(name, os.O_RDONLY | _FILE_FLAGS | _SAFE_FLAGS, dir_fd=fd),
            )
        except FileNotFoundError:
            return None
        try:
            return os.pread(file, most, 0) if most else _read_all(file)
        except OSError as error:
            error.filename = f"{folder}/{name}"
            raise
        finally:
            os.close(file)

    def open_file(self, folder: str, name: str, flags: int, *, make: bool = False) -> int:
        """Return the descriptor of a file; with `make`, its folder is made where missing."""
        return self._in(
            folder,
            lambda fd: os.open(name, flags | _FILE_FLAGS | _SAFE_FLAGS, FILE_MODE, dir_fd=fd),
            make=make,
        )

    def write(
        self,
        folder: str,
        name: str,
        data: bytes,
        *,
        micros: int | None = None,
        mode: int = FILE_MODE,
        durable: bool = False,
    ) -> None:
        """Put a file there as a whole: readers see the old one or the new one.

        Args:
            folder, name: where; the folder is made if missing.
            data: all that is in it.
            micros: its modification time, in microseconds since 1970.
            mode: its permissions.
            durable: bring the content, then the name, to the disk before returning.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS

        def create(fd: int) -> None:
            temporary = f".{name}.new"
            try:
                file = os.open(temporary, flags, mode, dir_fd=fd)
            except FileExistsError:  # left behind by a process that was killed here
                os.unlink(temporary, dir_fd=fd)
                file = os.open(temporary, flags, mode, dir_fd=fd)
            try:
                write_all(file, data)
                if micros is not None:
                    set_time(file, micros)
                if durable:
                    os.fsync(file)
            finally:
                os.close(file)
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
            if durable:
                os.fsync(fd)

        self._in(folder, create, make=True)

    def create(self, folder: str, name: str, data: bytes, *, micros: int | None, mode: int) -> bool:
        """Make a file, which for a moment is there but not whole; False if there is one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS
        try:
            file = self._in(folder, lambda fd: os.open(name, flags, mode, dir_fd=fd), make=True)
        except FileExistsError:
            return False
        try:
            write_all(file, data)
            if micros is not None:
                set_time(file, micros)
        finally:
            os.close(file)
        return True

    def rename(self, folder: str, name: str, to_folder: str, to_name: str) -> None:
        """Move a file; one that is there already is replaced. Raises FileNotFoundError."""
        self._between(
            folder, to_folder, lambda a, b: os.rename(name, to_name, src_dir_fd=a, dst_dir_fd=b)
        )

    def link(self, folder: str, name: str, to_folder: str, to_name: str) -> None:
        """Give a file a second name. Raises FileExistsError when that is taken."""
        self._between(
            folder,
            to_folder,
            lambda a, b: os.link(name, to_name, src_dir_fd=a, dst_dir_fd=b, follow_symlinks=False),
        )

    def delete(self, folder: str, name: str) -> bool:
        """Delete a file; return whether there was one."""
        try:
            self._in(folder, lambda fd: os.unlink(name, dir_fd=fd))
        except FileNotFoundError:
            return False
        return True

    def prune(self, folder: str) -> None:
        """Remove a folder if it is empty."""
        parent, _, name = folder.rpartition("/")
        self._forget(folder)
        try:
            self._in(parent, lambda fd: os.rmdir(name, dir_fd=fd))
        except OSError:
            return

    def sync(self, folder: str) -> None:
        """Bring the names of a folder to the disk."""
        self._in(folder, os.fsync)

    def _between(self, folder: str, to_folder: str, action: Callable[[int, int], None]) -> None:
        """Act on the descriptors of two folders; the second is made if missing."""
        to = self._fd(to_folder, make=True)
        try:
            action(self._fd(folder), to)
        except FileNotFoundError:
            if not self._renewed(folder, to_folder):
                raise
            to = self._fd(to_folder, make=True)
            action(self._fd(folder), to)

    def _in(self, folder: str, action: Callable[[int], R], *, make: bool = False) -> R:
        """Act on the descriptor of a folder; once more if that folder was replaced by another."""
        try:
            return action(self._fd(folder, make=make))
        except FileNotFoundError:
            if not self._renewed(folder):
                raise
            return action(self._fd(folder, make=make))

    def _fd(self, folder: str, *, make: bool = False) -> int:
        if not folder:
            return self._root
        fd = self._open.get(folder)
        if fd is not None:
            self._open.move_to_end(folder)
            return fd
        parent, _, name = folder.rpartition("/")
        above = self._fd(parent, make=make)
        flags = _FOLDER_FLAGS | _SAFE_FLAGS
        try:
            fd = os.open(name, flags, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            _make_folder(name, above)
            fd = os.open(name, flags, dir_fd=above)
        self._open[folder] = fd
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _renewed(self, *folders: str) -> bool:
        """Whether one of these, kept open, was removed; all are opened anew then."""
        for folder in folders:
            fd = self._open.get(folder)
            if fd is not None and not os.fstat(fd).st_nlink:
                self._forget_all()
                return True
        return False

    def _forget(self, folder: str) -> None:
        fd = self._open.pop(folder, None)
        if fd is not None:
            os.close(fd)

    def _forget_all(self) -> None:
        for folder in list(self._open):
            self._forget(folder)


def write_all(file: int, data: bytes) -> None:
    """Write all of `data` at the position of the descriptor."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])


def set_time(file: int, micros: int) -> None:
    """Set the modification time of an open file."""
    os.utime(file, ns=(micros * 1000, micros * 1000))


def _read_all(file: int) -> bytes:
    data = os.read(file, _CHUNK)
    if len(data) < _CHUNK:
        return data
    parts = [data]
    while data:
        data = os.read(file, _CHUNK << 4)
        parts.append(data)
    return b"".join(parts)


def _make_folder(name: str, above: int) -> None:
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=above)
    except FileExistsError:
        return
