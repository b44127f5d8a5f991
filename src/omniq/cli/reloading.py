"""Keeps one child process at work, and starts it anew when a file changes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from watchfiles import (
    Change,
    PythonFilter,
    awatch,  # pyright: ignore[reportUnknownVariableType] - takes events of trio, too
)

from omniq.cli.devchild import DevOptions
from omniq.exceptions import ConfigError
from omniq.waits import first_of
from omniq.worker.processes import KILL_SECONDS

logger = logging.getLogger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what changed, we say ourselves
SHOWN = 3
"""So many changed files are named."""


class Reloader:
    """Runs `omniq.cli.devchild` until told to stop, anew after each change of a Python file.

    The child is a fresh interpreter in a session of its own, so Ctrl-C reaches only this process,
    which passes it on. The socket of the dashboard stays open between two children: whoever asks
    meanwhile waits for the next.
    """

    def __init__(self, app: str, worker: dict[str, Any], watched: Sequence[Path]) -> None:
        self._app = app
        self._worker = worker
        self._watched = watched
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, listening: socket.socket | None) -> int:
        """Work until SIGINT or SIGTERM; return 0, or 1 when the child had to be killed at last.

        Raises:
            ConfigError: the files cannot be watched.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        killed = False
        reading, writing = os.pipe()
        try:
            async with self._watching():
                while not self._stop.is_set():
                    child = await self._started(listening, reading)
                    await self._until_due(child)
                    killed = await self._end(child)
        finally:
            os.close(writing)
            os.close(reading)
        return int(killed)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    @asynccontextmanager
    async def _watching(self) -> AsyncGenerator[None]:
        """Set `changed` whenever a Python file does, from before the block begins."""

        async def watch() -> None:
            try:
                async for changes in awatch(*self._watched, watch_filter=PythonFilter()):
                    logger.info("changed: %s", _named(changes))
                    self._changed.set()
            finally:
                self._stop.set()  # without a watch there is nothing to wait for

        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)  # its first step opens the watch
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await _watched_well(watcher)

    async def _started(self, listening: socket.socket | None, parent_fd: int) -> Process:
        self._changed.clear()
        dashboard_fd = None if listening is None else listening.fileno()
        options = DevOptions(
            app=self._app, worker=self._worker, dashboard_fd=dashboard_fd, parent_fd=parent_fd
        )
        return await create_subprocess_exec(
            sys.executable,
            "-c",
            "from omniq.cli.devchild import main; main()",
            json.dumps(msgspec.to_builtins(options)),
            pass_fds=[fd for fd in (dashboard_fd, parent_fd) if fd is not None],
            start_new_session=True,
        )

    async def _until_due(self, child: Process) -> None:
        """Return when the child is to end: after a change, or told to stop."""
        await first_of(self._changed.wait(), self._stop.wait(), child.wait())
        if child.returncode is not None and not self._stop.is_set() and not self._changed.is_set():
            logger.warning("waiting for a change")
            await first_of(self._changed.wait(), self._stop.wait())

    async def _end(self, child: Process) -> bool:
        """End a child in order, or by force when that takes too long; whether it took force."""
        with suppress(ProcessLookupError):
            child.terminate()
        patience = self._worker["grace_seconds"] + KILL_SECONDS
        await first_of(child.wait(), self._hurry.wait(), asyncio.sleep(patience))
        if child.returncode is None and self._hurry.is_set():
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)  # another one than before: equal ones may merge
            await first_of(child.wait(), asyncio.sleep(KILL_SECONDS))
        if child.returncode is not None:
            return False
        logger.warning("the application did not end in time, and is killed")
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        return True


async def _watched_well(watcher: asyncio.Task[None]) -> None:
    """Wait for the end of a watch. Raises ConfigError if it failed."""
    try:
        await watcher
    except OSError as error:
        raise ConfigError(
            f"cannot watch for changes: {error}; name smaller folders with --watch"
        ) from error


def _named(changes: set[tuple[Change, str]]) -> str:
    """Return which files changed, as they are seen from the current folder."""
    names = sorted({os.path.relpath(path) for _, path in changes})
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
