"""Waking waiters, here and in other processes, without polling.

Each process that waits binds two datagram sockets in the store's companion folder: one hears which
queues got work, the other which tasks became final. A writer sends to every socket it finds there
after its commit; errors are ignored, as a lost wake-up costs latency only: behind the sockets, the
store's version is looked at every second (every 50 ms where sockets cannot be had).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

POLL_SECONDS = 1.0
POLL_WITHOUT_SOCKETS_SECONDS = 0.05
_EVERYTHING = "*"
_MOST_NAMES = 500
_RECEIVE_BYTES = 1 << 18
_DISK_CLOCK_NS = 100_000_000

READY, FINAL = "ready", "final"
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class ChangeProbe(Protocol):
    """Tells whether somebody changed the store; made, used and closed by one thread."""

    def version(self) -> object:
        """Return a value that differs after a change by another process; None: cannot tell now."""

    def close(self) -> None:
        """Give back what it holds."""


class WakeHub:
    """The waiters of one store in this process, and the way to those of other processes."""

    def __init__(self, folder: Path, make_probe: Callable[[], ChangeProbe]) -> None:
        self._folder = folder
        self._make_probe = make_probe
        self._lock = threading.Lock()
        self._waiters: dict[str, dict[str, set[_Waiter]]] = {READY: {}, FINAL: {}}
        self._listener: _Listener | None = None
        self._closed = False
        self._sender: socket.socket | None = None
        self._known: tuple[int, list[str]] = (-1, [])

    def register(self, topic: str, names: Iterable[str]) -> Waiting:
        """Start to listen for any of these names; what is announced from now on is not missed."""
        names = list(names)
        waiter: _Waiter = (
            asyncio.get_running_loop(),
            asyncio.get_running_loop().create_future(),
        )
        with self._lock:
            if self._closed:
                waiter[1].set_result(None)
            elif self._listener is None:
                self._listener = _Listener(self, self._folder, self._make_probe)
            for name in names:
                self._waiters[topic].setdefault(name, set()).add(waiter)
        return Waiting(self, topic, names, waiter)

    def forget(self, topic: str, names: list[str], waiter: _Waiter) -> None:
        """Stop listening."""
        with self._lock:
            for name in names:
                waiting = self._waiters[topic].get(name)
                if waiting is not None:
                    waiting.discard(waiter)
                    if not waiting:
                        del self._waiters[topic][name]

    def announce(self, ready_queues: set[str], final_ids: list[str]) -> None:
        """Wake who waits for these queues and tasks, in this process and the others."""
        if ready_queues:
            self.wake(READY, ready_queues)
        if final_ids:
            self.wake(FINAL, final_ids)
        if ready_queues or final_ids:
            self._send(ready_queues, final_ids)

    def wake(self, topic: str, names: Iterable[str]) -> None:
        """Wake the waiters of this process; ``*`` among the names wakes all of the topic."""
        with self._lock:
            waiters = self._waiters[topic]
            if not waiters:
                return
            names = list(names)
            if _EVERYTHING in names:
                names = list(waiters)
            found = {waiter for name in names for waiter in waiters.get(name, ())}
        for loop, future in found:
            with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there
                loop.call_soon_threadsafe(_finish, future)

    def has_waiters(self) -> bool:
        """Whether anybody in this process waits."""
        return bool(self._waiters[READY] or self._waiters[FINAL])

    def close(self) -> None:
        """Wake everybody and take the sockets away."""
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
        self.wake(READY, [_EVERYTHING])
        self.wake(FINAL, [_EVERYTHING])
        if listener is not None:
            listener.stop()
        if self._sender is not None:
            self._sender.close()

    def _send(self, ready_queues: set[str], final_ids: list[str]) -> None:
        for name in self._sockets():
            if self._listener is not None and name in self._listener.names:
                continue
            names: Iterable[str] = ready_queues if name.startswith(READY) else final_ids
            if names:
                self._send_to(name, names)

    def _send_to(self, name: str, names: Iterable[str]) -> None:
        text = "\n".join(names) if len(list(names)) <= _MOST_NAMES else _EVERYTHING
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        path = self._folder / name
        try:
            with _short(path) as address:
                self._sender.sendto(text.encode(), address)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)  # its process is gone
        except OSError:
            pass  # a full or unreachable socket: the poll behind it will do

    def _sockets(self) -> list[str]:
        """Return the names of all sockets in the folder; listed again only when it changed.

        The disk's clock is coarse: of a folder that changed just now, the list may be old already.
        """
        if not hasattr(socket, "AF_UNIX"):
            return []
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._known[0]:
                names = [name for name in os.listdir(self._folder) if name.endswith(".sock")]  # noqa: PTH208 - names only
                settled = time.time_ns() - changed > _DISK_CLOCK_NS
                self._known = (changed if settled else -1, names)
        except OSError:
            return []
        return self._known[1]


class Waiting:
    """One registration; a context manager that ends it."""

    def __init__(self, hub: WakeHub, topic: str, names: list[str], waiter: _Waiter) -> None:
        self._hub = hub
        self._topic = topic
        self._names = names
        self._waiter = waiter

    async def wait(self, timeout: float) -> None:
        """Return when woken, after `timeout` seconds at the latest."""
        loop, future = self._waiter
        timer = loop.call_later(timeout, _finish, future)
        try:
            await future
        finally:
            timer.cancel()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.forget(self._topic, self._names, self._waiter)


class _Listener:
    """The thread that hears other processes."""

    def __init__(self, hub: WakeHub, folder: Path, make_probe: Callable[[], ChangeProbe]) -> None:
        self._hub = hub
        self._folder = folder
        self._make_probe = make_probe
        self._sockets: dict[socket.socket, str] = {}
        self.names: frozenset[str] = frozenset()
        self._bind()
        self._stop_reading, self._stop_writing = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stop_reading, selectors.EVENT_READ)
        for listening in self._sockets:
            self._selector.register(listening, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._loop, name="omniq-wake", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        os.write(self._stop_writing, b"x")
        self._thread.join()
        self._selector.close()
        os.close(self._stop_writing)
        os.close(self._stop_reading)

    def _bind(self) -> None:
        """Bind both sockets; without them (no support, no permission) the poll alone serves."""
        mark = secrets.token_hex(6)  # process ids are the same in every container
        try:
            for topic in (READY, FINAL):
                name = f"{topic}-{os.getpid()}-{mark}.sock"
                path = self._folder / name
                listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                listening.setblocking(False)
                with _short(path) as address:
                    listening.bind(address)
                self._sockets[listening] = topic
                self.names |= {name}
        except (OSError, AttributeError):
            self._unbind()

    def _unbind(self) -> None:
        for listening in self._sockets:
            listening.close()
        for name in self.names:
            (self._folder / name).unlink(missing_ok=True)
        self._sockets, self.names = {}, frozenset()

    def _loop(self) -> None:
        probe = self._make_probe()
        version: object = None  # of the first poll: a change may have come before it
        interval = POLL_SECONDS if self._sockets else POLL_WITHOUT_SOCKETS_SECONDS
        try:
            while True:
                heard = self._select(interval)
                if heard is None:
                    return
                for listening in heard:
                    self._hear(listening)
                if not heard and self._hub.has_waiters():
                    version = self._poll(probe, version)
        finally:
            probe.close()
            self._unbind()

    def _select(self, seconds: float) -> list[socket.socket] | None:
        """Return the sockets with something to read, after `seconds` none; None: stop."""
        readable = [key.fileobj for key, _ in self._selector.select(seconds)]
        if self._stop_reading in readable:
            return None
        return [one for one in readable if isinstance(one, socket.socket)]

    def _hear(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                names = listening.recv(_RECEIVE_BYTES).decode().split("\n")
                self._hub.wake(self._sockets[listening], names)

    def _poll(self, probe: ChangeProbe, version: object) -> object:
        current = probe.version()
        if current is None:
            return version
        if current != version:
            self._hub.wake(READY, [_EVERYTHING])
            self._hub.wake(FINAL, [_EVERYTHING])
        return current


class _short:  # noqa: N801 - used like a function
    """The address of a socket, short enough for the kernel's limit of 107 bytes where possible."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 100:  # sun_path holds 107
            return str(self._path)
        self._fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
