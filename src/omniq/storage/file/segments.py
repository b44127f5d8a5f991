"""Append-only segments of lines on a local disk: ``YYYY/MM/DD/000001.jsonl``.

A day's lines go to its last segment until that has grown to a megabyte. Appending is done under a
lock that the kernel frees when a process dies; reading needs none, as a line that is still being
written has no line break yet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omniq.models.finding import Finding
from omniq.storage.file.doctor import folder_findings
from omniq.storage.file.errors import translated
from omniq.storage.file.folders import Folders, write_all
from omniq.storage.file.location import refuse_network
from omniq.storage.local.writelock import WriteLock

SEGMENT_BYTES = 1 << 20
META = ".omniq"
_SUFFIX = ".jsonl"
_DAYS_KEPT_OPEN = 4
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND


class LocalSegments:
    """The segments below one folder. Safe to use from any thread; errors are StorageErrors."""

    def __init__(self, root: Path, *, durable: bool, allow_network: bool = False) -> None:
        self.root = root
        self._allow_network = allow_network
        self._durable = durable
        self._guard = threading.Lock()
        self._forget()

    def __repr__(self) -> str:
        return str(self.root)

    def _forget(self) -> None:
        """Start as if never opened: at first, and in a forked child."""
        self._pid = os.getpid()
        self._folders: Folders | None = None
        self._lock: WriteLock | None = None
        self._current: dict[str, tuple[str, int]] = {}

    def open(self) -> None:
        """Make the folder. Idempotent."""
        with self._changing():
            pass

    def close(self) -> None:
        """Close all files. Idempotent; a later call opens again."""
        with self._guard:
            if self._pid != os.getpid():
                self._forget()
            for day in list(self._current):
                self._close_day(day)
            if self._folders is not None:
                self._folders.close()
            if self._lock is not None:
                self._lock.close()
            self._forget()

    def append(self, lines: Mapping[str, list[bytes]]) -> None:
        """Append lines (without line breaks) to these days; synced once if durable."""
        written: list[int] = []
        with self._changing() as folders:
            for day, texts in lines.items():
                written.append(self._append(folders, day, b"\n".join(texts) + b"\n"))
        if self._durable:
            self._sync(written)

    def findings(self) -> list[Finding]:
        """Look at the folder and its disk."""
        with self._reading():
            return folder_findings(self.root, "full" if self._durable else "fast")

    def days(self) -> list[str]:
        """Return the days that have segments, in order."""
        with self._reading() as folders:
            return [
                f"{year}/{month}/{day}"
                for year in _numbers(folders.names(""), 4)
                for month in _numbers(folders.names(year), 2)
                for day in _numbers(folders.names(f"{year}/{month}"), 2)
            ]

    def segments(self, day: str) -> list[str]:
        """Return the names of a day's segments, in order."""
        with self._reading() as folders:
            return _segments(folders, day)

    def read(self, day: str, name: str) -> bytes:
        """Return the complete lines of a segment; none if it is gone."""
        with self._reading() as folders:
            data = folders.read(day, name) or b""
        return data[: data.rfind(b"\n") + 1]

    @contextmanager
    def rewriting(self) -> Generator[Rewriter]:
        """Let nobody append while segments are replaced or deleted."""
        with self._changing() as folders:
            yield Rewriter(folders, durable=self._durable)

    @contextmanager
    def _changing(self) -> Generator[Folders]:
        """Hold the lock of all processes, and that of this one."""
        with self._guard:
            try:
                if self._pid != os.getpid():
                    self._forget()
                if self._folders is None or self._lock is None:
                    self._start()
                assert self._folders is not None and self._lock is not None  # noqa: S101, PT018 - for the type checker
                with self._lock:
                    yield self._folders
            except OSError as error:
                raise translated(error, self.root) from error

    def _start(self) -> None:
        folders = Folders(self.root)
        try:
            if not self._allow_network:
                refuse_network(self.root)
            folders.make(META)
            self._lock = WriteLock(self.root / META / "lock")
        except BaseException:
            folders.close()
            raise
        self._folders = folders

    @contextmanager
    def _reading(self) -> Generator[Folders]:
        """Give descriptors of one's own: a long look must not hold up an append."""
        try:
            folders = Folders(self.root)
            try:
                yield folders
            finally:
                folders.close()
        except OSError as error:
            raise translated(error, self.root) from error

    def _append(self, folders: Folders, day: str, text: bytes) -> int:
        """Append to a day's last segment; return its descriptor. All or nothing."""
        file = self._segment(folders, day)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            text = b"\n" + text  # cut off by a power loss or a full disk: skipped when read
        try:
            write_all(file, text)
        except OSError:
            os.ftruncate(file, size)
            raise
        return file

    def _segment(self, folders: Folders, day: str) -> int:
        current = self._current.get(day)
        if current is not None:
            status = os.fstat(current[1])
            if status.st_nlink and status.st_size < SEGMENT_BYTES:
                return current[1]
            self._close_day(day)
        return self._open_day(folders, day)

    def _open_day(self, folders: Folders, day: str) -> int:
        names = _segments(folders, day)
        last = names[-1] if names else ""
        status = folders.status(day, last) if last else None
        if status is None or status.st_size >= SEGMENT_BYTES:
            last = f"{int(last.removesuffix(_SUFFIX) or 0) + 1:06d}{_SUFFIX}"
        file = folders.open_file(day, last, _APPEND, make=True)
        if self._durable and status is None:
            for folder in ("", day[:4], day[:7], day):
                folders.sync(folder)
        while len(self._current) >= _DAYS_KEPT_OPEN:
            self._close_day(next(iter(self._current)))
        self._current[day] = (last, file)
        return file

    def _close_day(self, day: str) -> None:
        file = self._current.pop(day)[1]
        try:
            if self._durable:
                os.fsync(file)
        finally:
            os.close(file)

    def _sync(self, files: list[int]) -> None:
        with self._guard:
            still_open = {file for _, file in self._current.values()}
            try:
                for file in still_open.intersection(files):
                    os.fsync(file)
            except OSError as error:
                raise translated(error, self.root) from error


class Rewriter:
    """Replaces and deletes segments under the lock."""

    def __init__(self, folders: Folders, *, durable: bool) -> None:
        self._folders = folders
        self._durable = durable

    def read(self, day: str, name: str) -> bytes:
        """Return what is in a segment; nothing if it is gone."""
        return self._folders.read(day, name) or b""

    def replace(self, day: str, name: str, data: bytes) -> None:
        """Replace what is in a segment."""
        self._folders.write(day, name, data, durable=self._durable)

    def delete(self, day: str, name: str) -> None:
        """Delete a segment, and its folders if they are empty now."""
        self._folders.delete(day, name)
        for folder in (day, day[:7], day[:4]):
            self._folders.prune(folder)


def _numbers(names: list[str], digits: int) -> list[str]:
    return sorted(name for name in names if len(name) == digits and name.isdigit())


def _segments(folders: Folders, day: str) -> list[str]:
    return sorted(
        name
        for name in folders.names(day)
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX).isdigit()
    )
