"""Real disks that are full or read-only, as root and as an ordinary user."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


class TmpfsDisk:
    """A disk of two megabytes; `fill` leaves no room on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, *, leaving: int = 0) -> None:
        """Write until the disk is full, or nearly: down to that many bytes."""
        with (self.folder / FILLER).open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
            file.truncate(max(0, file.tell() - leaving))

    def make_room(self) -> None:
        """Delete what `fill` wrote."""
        (self.folder / FILLER).unlink(missing_ok=True)


class LimitedDisk:
    """A folder in which `fill` keeps this process from making any file longer than it is.

    To the process it is a full disk, but for the number of the error; as with a quota.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, *, leaving: int = 0) -> None:
        """Limit the size of files to that of the longest one here, or to so many bytes more."""
        longest = max((path.stat().st_size for path in self.folder.glob("*.db*")), default=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest + leaving, self._limits[1]))

    def make_room(self) -> None:
        """Take the limit back."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


SmallDisk = TmpfsDisk | LimitedDisk


@contextmanager
def tmpfs_disk(folder: Path) -> Generator[TmpfsDisk]:
    """Mount a small disk here; skip the test where that is not permitted."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "none", str(folder))
    try:
        yield TmpfsDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limited_disk(folder: Path) -> Generator[LimitedDisk]:
    """Give a folder that can be made to look full to this process, whoever runs it."""
    folder.mkdir()
    disk = LimitedDisk(folder)
    try:
        yield disk
    finally:
        disk.make_room()


@contextmanager
def read_only(path: Path) -> Generator[None]:
    """Make a file or folder read-only: by a mount for root, whom no permission stops."""
    if os.geteuid() == 0:
        mount("--bind", str(path), str(path))
        try:
            mount("-o", "remount,bind,ro", str(path))
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
    else:
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        yield
        path.chmod(mode)


def mount(*arguments: str) -> None:
    """Run `mount`; skip the test if it is not permitted."""
    try:
        done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the command `mount` (util-linux)")
    if done.returncode:
        pytest.skip(f"mounting needs root with CAP_SYS_ADMIN: {done.stderr.strip()}")
