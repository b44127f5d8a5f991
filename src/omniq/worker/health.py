"""Signs of life of a worker for those who watch it: a file's age, and systemd's notifications.

A worker is healthy when it lately got an answer from its queue: to a claim, or, while all its slots
are busy, to a question. That its process is there, or a port open, says less.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from omniq.exceptions import ConfigError

logger = logging.getLogger(__name__)
BEAT_SECONDS = 5.0
"""A worker asks its queue at least this often."""
NOTIFY_VARIABLE = "NOTIFY_SOCKET"


class Health:
    """Tells the outside that this worker works.

    Args:
        path: a file whose time of change says when it last did; None keeps none. It is there from
            the first answer of the queue until the worker stops.

    Raises:
        ConfigError: the file cannot be written there.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._notify = os.environ.get(NOTIFY_VARIABLE)
        self._has_started = self._has_failed = False
        if self._path is not None:
            folder = self._path.parent
            if not folder.is_dir() or not os.access(folder, os.W_OK):
                raise ConfigError(f"health_file {self._path}: {folder} is no folder to write to")
            if self._path.is_dir():
                raise ConfigError(f"health_file {self._path}: is a folder")

    @property
    def is_watched(self) -> bool:
        """Whether anybody is to be told."""
        return self._path is not None or bool(self._notify)

    def beat(self) -> None:
        """Say that the queue just answered."""
        if self._path is not None:
            self._touch(self._path)
        if self._notify:
            self._send(b"WATCHDOG=1" if self._has_started else b"READY=1\nWATCHDOG=1")
        self._has_started = True

    def end(self) -> None:
        """Say that the worker stops: from now on it is not healthy."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._notify:
            self._send(b"STOPPING=1")

    def _touch(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, flags, 0o644)
            try:
                os.utime(descriptor if os.utime in os.supports_fd else path)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._has_failed:
                logger.warning("health file %s: %s; whoever watches it will be misled", path, error)
            self._has_failed = True

    def _send(self, message: bytes) -> None:
        """Tell systemd, which counts a message it does not get as none."""
        address = self._notify or ""
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            contextlib.suppress(OSError, AttributeError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.setblocking(False)
            sender.sendto(message, address)


class Check(NamedTuple):
    """What a health file says."""

    is_healthy: bool
    text: str


def check(path: str | Path, within_seconds: float) -> Check:
    """Return whether all workers that keep this file got an answer within that time.

    With several processes, each keeps a file of its own: ``PATH.0``, ``PATH.1`` and so on.
    """
    base = Path(path)
    ages = [(age, file) for file in _files(base) if (age := _age(file)) is not None]
    if not ages:
        return Check(False, f"{base} is not there: no worker has had an answer yet, or it stopped")
    oldest, file = max(ages)
    text = f"{file}: the last answer came {oldest:.1f} s ago"
    return Check(oldest <= within_seconds, text)


def clear(path: str | Path) -> None:
    """Delete what earlier workers left, so that nobody waits for processes that are no more."""
    for file in _files(Path(path)):
        with contextlib.suppress(OSError):
            file.unlink()


def _files(base: Path) -> list[Path]:
    """Return the file of a worker alone, and those of a supervisor's processes."""
    numbered = base.parent.glob(f"{glob.escape(base.name)}.*")
    return [base, *sorted(path for path in numbered if path.suffix[1:].isdigit())]


def _age(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None
