"""Private servers for tests: a free loopback port, a folder of their own, ended by handle."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(name: str) -> str:
    """Return the path of a program of this environment, or else of the machine."""
    path = Path(sysconfig.get_path("scripts"), name)
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def answers(port: int, send: bytes = b"", expect: bytes = b"") -> bool:
    """Whether a server on this port says what is expected."""
    with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
        connection.settimeout(1)
        connection.sendall(send)
        return connection.recv(64).startswith(expect)


class Server:
    """A server process that can be stopped, killed and started again on the same data and port."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        url: str,
        probe: Callable[[], bool],
        folder: Path,
        *,
        stop_signal: int = signal.SIGTERM,
        **options: Any,
    ) -> None:
        self.name, self.url, self.folder = name, url, folder
        self.log = folder / f"{name}.log"
        self._command = [str(part) for part in command]
        self._probe, self._stop_signal, self._options = probe, stop_signal, options
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._options
            )
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at:
            if self.process.poll() is not None:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {tail}")
            with contextlib.suppress(OSError):
                if self._probe():
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        self.stop()
        raise TimeoutError(f"{self.name} did not answer within {START_SECONDS:g} s")

    def ask_to_stop(self) -> None:
        """Ask the process to end, and do not wait."""
        if self.process.poll() is None:
            self.process.send_signal(self._stop_signal)

    def stop(self) -> None:
        """Ask the process to end, and make it end."""
        if self.process.poll() is None:
            self.ask_to_stop()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()


_shared: list[Server] = []
_kept: list[AbstractContextManager[Server]] = []


def keep(context: AbstractContextManager[Server]) -> Server:
    """Enter a context that is left when this process ends; return its server.

    It is held here, too: from Python 3.13 on a forked child drops what is to be done at exit, and
    a context nobody holds any more is left.
    """
    _kept.append(context)
    atexit.register(context.__exit__, None, None, None)
    return context.__enter__()


def share(server: Server) -> Server:
    """Keep a server until this process ends.

    All are asked to end at once: who runs the tests waits for a process some seconds only.
    """
    _shared.append(server)
    atexit.unregister(_stop_shared)
    atexit.register(_stop_shared)  # before the removal of any folder registered so far
    return server


def _stop_shared() -> None:
    for server in _shared:
        server.ask_to_stop()
    for server in _shared:
        server.stop()


def is_root() -> bool:
    """Whether this process runs as root, which some servers refuse."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
