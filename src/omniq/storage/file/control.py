"""A page of memory shared by all processes of a store: how far its journal and its files are."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from omniq.storage.file.folders import Folders
from omniq.storage.file.machine import boot_id

META = ".omniq"
_CONTROL = struct.Struct("<8sQQQQ16s")
_CHECKED = struct.Struct("<8sQQQQ16sI")
_MAGIC = b"omniq-2\n"


class Progress(NamedTuple):
    """How far the files are.

    Attributes:
        segment: the present segment of the journal.
        made: up to where in it the files are as it says.
        finishes: how often a process began to make what another had left undone.
    """

    segment: int
    made: int
    finishes: int


class Control:
    """The page. Whoever writes holds the store's lock."""

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
        magic, _, _, _, _, boot, checksum = _CHECKED.unpack_from(self._page)
        intact = zlib.crc32(self._page[: _CONTROL.size]) == checksum
        return bool(magic == _MAGIC and intact and boot == self._boot and any(boot))

    def read(self) -> Progress:
        """Return how far the files are."""
        _, segment, made, finishes, _, _ = _CONTROL.unpack_from(self._page)
        return Progress(segment, made, finishes)

    def write(self, progress: Progress, end: int) -> None:
        """Say how far the files are, and where the journal ends."""
        fields = _CONTROL.pack(_MAGIC, *progress, end, self._boot)
        self._page[: _CHECKED.size] = fields + zlib.crc32(fields).to_bytes(4, "little")

    def version(self) -> tuple[int, int]:
        """Return what differs after each change."""
        _, segment, _, _, end, _ = _CONTROL.unpack_from(self._page)
        return segment, end

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()


class ControlProbe:
    """Sees that somebody changed the store, for the wake-up hub."""

    def __init__(self, root: Path) -> None:
        self._files = Folders(root)
        self._control = Control(self._files)

    def version(self) -> object:
        """Return how far the journal is."""
        return self._control.version()

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
