"""What makes changes of many files atomic, durable with one fsync, and known to other processes.

A transaction is first appended to the journal, then made in the files, some a moment later (`lag`).
Whoever takes the lock next and finds that the journal is longer than what was made finishes it, so
a process killed in between leaves nothing half done. After a power loss (the machine's boot id
differs), the whole journal is made again, so the files need no fsync of their own. A segment that
is full is put aside and deleted once the disk has everything. The same records tell other processes
what changed.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from omniq.storage.file.control import META, Control, Progress
from omniq.storage.file.folders import Folders, write_all
from omniq.storage.file.lag import Lag
from omniq.storage.file.machine import sync_disk
from omniq.storage.file.ops import Op, apply, check_folders

logger = logging.getLogger("omniq.storage.file")

SEGMENT_BYTES = 8 << 20
_PREFIX = "journal-"
_HEADER = struct.Struct("<II")
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
        self._lag = Lag()
        self._suspect = self._is_behind = False
        self._sweeper: threading.Thread | None = None
        files.make(META)
        self._control = Control(files)
        if not self._control.is_current():
            self._recover()
        self._known = self._control.read()
        self._position = self._known.made
        self._file = self._open(self._known.segment)

    def close(self) -> None:
        """Close the files; what was appended stays."""
        if self._sweeper is not None:
            self._sweeper.join()
        os.close(self._file)
        self._control.close()

    def catch_up(self) -> None:
        """Hear what others changed, and finish what one of them left undone."""
        known = self._control.read()
        if known != self._known:
            self._lag.yield_to_others()
            self._follow(known)
        if self._is_behind or os.fstat(self._file).st_size > self._position:
            self._finish()
        if self._suspect:
            self._rotate()
            sync_disk(self._file)
            self._suspect = False

    def commit(self, ops: Sequence[Op]) -> None:
        """Append a transaction and make it; many changes of states are made a moment later.

        Raises:
            OSError: it could not be appended: nothing was changed; or it could not be made: then
                it will be, by whoever uses the store next.
        """
        check_folders(self._files, ops)
        if self._is_behind:
            self._finish()
        may_wait = self._lag.takes(ops)
        if not may_wait:
            self.make_all()
        begin, end = self._position, self._append(ops)
        if may_wait:
            self._lag.add(ops, begin)
            self._tell(self._known.made, end)
        else:
            self._make(ops, end, end)
        self._observe(ops)

    @property
    def lags(self) -> bool:
        """Whether there are changes to make in a moment."""
        return bool(self._lag)

    def make_due(self) -> None:
        """Make what has waited long enough."""
        due = self._lag.due(self._position)
        if due is not None:
            self._make(due.changes, due.position, self._position)

    def make_all(self, task_id: str | None = None) -> None:
        """Make all changes that wait, unless those of a task are asked for and none of them waits.

        Raises:
            OSError: they could not be made; they will be, by whoever uses the store next.
        """
        if self._lag and (task_id is None or self._lag.holds(task_id)):
            self._make(self._lag.take_all(), self._position, self._position)

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

    def _append(self, ops: Sequence[Op]) -> int:
        """Append a transaction; return where the journal ends then."""
        body = _ENCODE(ops)
        record = _HEADER.pack(len(body), zlib.crc32(body)) + body
        try:
            write_all(self._file, record)
        except OSError:
            os.ftruncate(self._file, self._position)
            raise
        return self._position + len(record)

    def _make(self, ops: Sequence[Op], made: int, end: int) -> None:
        """Make changes, after which the files are as the journal says up to `made`."""
        self._is_behind = True
        apply(self._files, ops)
        self._tell(made, end)
        self._is_behind = False

    def _tell(self, made: int, end: int) -> None:
        """Take note of how far this process is, where all see it."""
        self._known = self._known._replace(made=made)
        self._position = end
        self._control.write(self._known, end)

    def _follow(self, known: Progress) -> None:
        """Hear what others did."""
        while self._known.segment < known.segment:
            self._hear(None)
            self._next_segment(known.segment)
        if self._position < known.made:
            self._hear(known.made)
        self._is_behind = self._position > known.made
        self._known = known

    def _hear(self, until: int | None) -> None:
        for ops, position in _records(self._file, self._position):
            if until is not None and position > until:
                break
            self._observe(ops)
            self._position = position

    def _finish(self) -> None:
        """Make what was appended but not made; cut off what was not appended as a whole."""
        self._lag.clear()
        self._known = self._known._replace(finishes=self._known.finishes + 1)
        self._tell(self._known.made, self._position)  # before the first: whose lag it is must know
        heard = self._position
        for ops, end in _records(self._file, self._known.made):
            apply(self._files, ops, again=True)
            self._tell(end, max(end, heard))
            if end > heard:
                self._observe(ops)
            else:
                self._lost()  # heard of before, but who looked at the files since saw old ones
        os.ftruncate(self._file, self._position)
        self._is_behind = False

    def _next_segment(self, last: int) -> None:
        os.close(self._file)
        following = self._known.segment + 1
        self._position = 0
        try:
            self._file = self._open(following)
        except FileNotFoundError:
            following = last
            self._file = self._open(last)
            self._position = self._control.read().made
            self._lost()
        self._known = self._known._replace(segment=following)

    def _rotate(self) -> None:
        self.make_all()
        if self._durable:
            _data_sync(self._file)
        number = self._known.segment + 1
        file = self._open(number, os.O_CREAT | os.O_TRUNC)
        if self._durable:
            self._files.sync(META)
        os.close(self._file)
        self._file, self._known = file, self._known._replace(segment=number)
        self._tell(0, 0)
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
        self._control.write(Progress(following, 0, 0), 0)
        if numbers:
            logger.info("replayed %d journal segments of %s", len(numbers), self._files.root)
        self._delete_until(following - 1)

    def _open(self, number: int, flags: int = 0) -> int:
        return self._files.open_file(META, _name(number), os.O_RDWR | os.O_APPEND | flags)


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
