"""What makes changes of many files atomic, durable with one fsync, and known to other processes.

A transaction is first appended to the journal, then made in the files. Whoever takes the lock next
and finds that the journal is longer than what was made finishes it, so a process killed in between
leaves nothing half done. After a power loss (the machine's boot id differs), the whole journal is
made again, so the files need no fsync of their own. A segment that is full is put aside and
deleted once the disk has everything. The same records tell other processes what changed.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from omniq.storage.file.folders import Folders, write_all
from omniq.storage.file.machine import boot_id, sync_disk
from omniq.storage.file.ops import Op, apply, check_folders

logger = logging.getLogger("omniq.storage.file")

META = ".omniq"
SEGMENT_BYTES = 8 << 20
_PREFIX = "journal-"
_HEADER = struct.Struct("<II")
_CONTROL = struct.Struct("<8sQQ16s")
_CHECKED = struct.Struct("<8sQQ16sI")
_MAGIC = b"omniq-1\n"
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list[Op]).decode

Observe = Callable[[Sequence[Op]], None]


class Journal:
    """The journal of one folder, used by one thread that holds the store's lock.

    Args:
        files: the folder.
        durable: whether `sync` brings what was appended to the disk.
        observe: told each transaction, of this process and of others, once and in order.
        lost: told when some were missed, so that everything must be looked at anew.
    """

    def __init__(
        self, files: Folders, *, durable: bool, observe: Observe, lost: Callable[[], None]
    ) -> None:
        self._files = files
        self._durable = durable
        self._observe = observe
        self._lost = lost
        self._file = -1
        self._segment = self._position = 0
        self._suspect = self._is_behind = False
        self._sweeper: threading.Thread | None = None
        files.make(META)
        self._control = Control(files)
        if not self._control.is_current():
            self._recover()
        self._segment, self._position = self._control.read()
        self._file = self._open(self._segment)

    def close(self) -> None:
        """Close the files; what was appended stays."""
        if self._sweeper is not None:
            self._sweeper.join()
        os.close(self._file)
        self._control.close()

    def catch_up(self) -> None:
        """Hear what others changed, and finish what one of them left undone."""
        segment, applied = self._control.read()
        while self._segment < segment:
            self._hear(None)
            self._next_segment(segment)
        if self._position < applied:
            self._hear(applied)
        if os.fstat(self._file).st_size > self._position:
            self._finish()
        if self._suspect:
            self._rotate()
            sync_disk(self._file)
            self._suspect = False

    def commit(self, ops: Sequence[Op]) -> None:
        """Append a transaction and make it.

        Raises:
            OSError: it could not be appended: nothing was changed; or it could not be made: then
                it will be, by whoever uses the store next.
        """
        check_folders(self._files, ops)
        if self._is_behind:
            self._finish()
        body = _ENCODE(ops)
        record = _HEADER.pack(len(body), zlib.crc32(body)) + body
        try:
            write_all(self._file, record)
        except OSError:
            os.ftruncate(self._file, self._position)
            raise
        self._is_behind = True
        apply(self._files, ops)
        self._advance(self._position + len(record))
        self._is_behind = False
        self._observe(ops)

    def sync(self) -> None:
        """Bring all that was committed to the disk, if the store is durable."""
        if self._durable:
            try:
                _data_sync(self._file)
            except OSError:
                self._suspect = True
                raise

    def rotate_if_full(self) -> None:
        """Start another segment once this one is full."""
        if self._position >= SEGMENT_BYTES:
            self._rotate()

    def _advance(self, position: int) -> None:
        self._position = position
        self._control.write(self._segment, position)

    def _hear(self, until: int | None) -> None:
        for ops, position in _records(self._file, self._position):
            if until is not None and position > until:
                break
            self._observe(ops)
            self._position = position

    def _finish(self) -> None:
        """Make what was appended but not made; cut off what was not appended as a whole."""
        for ops, position in _records(self._file, self._position):
            apply(self._files, ops, again=True)
            self._advance(position)
            self._observe(ops)
        os.ftruncate(self._file, self._position)
        self._is_behind = False

    def _next_segment(self, last: int) -> None:
        os.close(self._file)
        self._segment += 1
        self._position = 0
        try:
            self._file = self._open(self._segment)
        except FileNotFoundError:
            self._segment = last
            self._file = self._open(last)
            self._position = self._control.read()[1]
            self._lost()

    def _rotate(self) -> None:
        if self._durable:
            _data_sync(self._file)
        number = self._segment + 1
        file = self._open(number, os.O_CREAT | os.O_TRUNC)
        if self._durable:
            self._files.sync(META)
        os.close(self._file)
        self._file, self._segment = file, number
        self._advance(0)
        self._sweep(number - 2)

    def _sweep(self, last: int) -> None:
        """Delete old segments; the one before the present is kept for processes that lag behind."""
        if self._sweeper is not None and self._sweeper.is_alive():
            return
        if not self._durable:
            self._delete_until(last)
            return
        disk = os.dup(self._file)

        def run() -> None:
            try:
                sync_disk(disk)
                _delete(self._files.root, last)
            except OSError as error:
                logger.warning("checkpoint of %s: %s", self._files.root, error)
            finally:
                os.close(disk)

        self._sweeper = threading.Thread(target=run, name="omniq-file-sweep", daemon=True)
        self._sweeper.start()

    def _delete_until(self, last: int) -> None:
        for number in _segments(self._files):
            if number <= last:
                self._files.delete(META, _name(number))

    def _recover(self) -> None:
        """Make the whole journal again and start a new one."""
        numbers = _segments(self._files)
        for number in numbers:
            file = self._open(number)
            try:
                for ops, _ in _records(file, 0):
                    apply(self._files, ops, again=True)
            finally:
                os.close(file)
        following = numbers[-1] + 1 if numbers else 1
        file = self._open(following, os.O_CREAT | os.O_TRUNC)
        try:
            if self._durable and numbers:
                sync_disk(file)
        finally:
            os.close(file)
        self._control.write(following, 0)
        if numbers:
            logger.info("replayed %d journal segments of %s", len(numbers), self._files.root)
        self._delete_until(following - 1)

    def _open(self, number: int, flags: int = 0) -> int:
        return self._files.open_file(META, _name(number), os.O_RDWR | os.O_APPEND | flags)


class Control:
    """A page of memory shared by all processes: how much of the journal was made."""

    def __init__(self, files: Folders) -> None:
        file = files.open_file(META, "control", os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(file).st_size < mmap.PAGESIZE:
                os.ftruncate(file, mmap.PAGESIZE)
            _take_room(file, mmap.PAGESIZE)
            self._page = mmap.mmap(file, mmap.PAGESIZE)
        finally:
            os.close(file)
        self._boot = boot_id()

    def is_current(self) -> bool:
        """Whether it was written since the machine was started, and as a whole."""
        magic, _, _, boot, checksum = _CHECKED.unpack_from(self._page)
        intact = zlib.crc32(self._page[: _CONTROL.size]) == checksum
        return bool(magic == _MAGIC and intact and boot == self._boot and any(boot))

    def read(self) -> tuple[int, int]:
        """Return the present segment, and how much of it was made."""
        _, segment, applied, _ = _CONTROL.unpack_from(self._page)
        return segment, applied

    def write(self, segment: int, applied: int) -> None:
        """Say how much was made."""
        fields = _CONTROL.pack(_MAGIC, segment, applied, self._boot)
        self._page[: _CHECKED.size] = fields + zlib.crc32(fields).to_bytes(4, "little")

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()


class JournalProbe:
    """Sees that somebody changed the store, for the wake-up hub."""

    def __init__(self, root: Path) -> None:
        self._files = Folders(root)
        self._control = Control(self._files)

    def version(self) -> object:
        """Return how far the journal is."""
        return self._control.read()

    def close(self) -> None:
        """Close the files."""
        self._control.close()
        self._files.close()


def _take_room(file: int, size: int) -> None:
    """Give the start of a file room on the disk; an OSError if it is full.

    Writing to a hole through a mapping would kill the process then (SIGBUS).
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not offered by this file system
            raise


def _records(file: int, position: int) -> Iterator[tuple[list[Op], int]]:
    """Yield the transactions from a position on, and where each ends, up to the first torn one."""
    while True:
        header = os.pread(file, _HEADER.size, position)
        if len(header) < _HEADER.size:
            return
        length, checksum = _HEADER.unpack(header)
        body = os.pread(file, length, position + _HEADER.size)
        if len(body) < length or zlib.crc32(body) != checksum or not length:
            return
        position += _HEADER.size + length
        yield _DECODE(body), position


def _segments(files: Folders) -> list[int]:
    return sorted(
        int(name.removeprefix(_PREFIX))
        for name in files.names(META)
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdigit()
    )


def _name(number: int) -> str:
    return f"{_PREFIX}{number:09d}"


def _delete(root: Path, last: int) -> None:
    """Delete segments from another thread, with descriptors of its own."""
    files = Folders(root)
    try:
        for number in _segments(files):
            if number <= last:
                files.delete(META, _name(number))
    finally:
        files.close()


_data_sync = getattr(os, "fdatasync", os.fsync)
