"""What must be asked of the operating system: when it was started, and to write everything out."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LENGTH = 16


@functools.cache
def boot_id() -> bytes:
    """Return 16 bytes that differ after each start of the machine; zeros where it does not tell."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))[:_LENGTH]
    except (OSError, ValueError):
        return bytes(_LENGTH)


def sync_disk(file: int) -> None:
    """Wait until everything written to the disk that `file` lies on has reached it.

    Raises:
        OSError: the disk reported an error.
    """
    syncfs = getattr(_libc(), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(file) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@functools.cache
def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None
