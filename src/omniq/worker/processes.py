"""Several worker processes under a supervisor that restarts the dead."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

import msgspec

from omniq.worker.serve import NO_STORE, ServeOptions

logger = logging.getLogger(__name__)
RESTART_SECONDS = (0.2, 30.0)
"""First and longest pause before a process that died is started again."""
SETTLED_SECONDS = 10.0
"""A process that lived this long starts with the first pause again."""
KILL_SECONDS = 5.0
"""How long after its grace period a stopping process is killed."""


class Supervisor:
    """Keeps `count` worker processes alive until stopped, or until all bursts are over.

    The processes are fresh interpreters in sessions of their own: nothing is forked, and Ctrl-C
    reaches only the supervisor, which passes it on. Each holds a pipe whose end tells it that the
    supervisor is gone, however that died.
    """

    def __init__(self, options: ServeOptions, count: int, *, grace_seconds: float) -> None:
        self._options = options
        self._grace_seconds = grace_seconds
        self._slots = [_Slot(number) for number in range(count)]
        self._changed = threading.Event()
        self._signals: list[int] = []
        self._stopping_since: float | None = None
        self._asked = 0
        self._failed = 0

    def run(self) -> int:
        """Supervise; return the exit code.

        That is 0, 1 when a process had to be killed at the end, or 3 when the store of a burst
        cannot be reached or used: a burst waits for nothing.
        """
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._reading, self._writing = os.pipe()
        try:
            return self._supervise()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._writing)
            os.close(self._reading)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signature
        self._signals.append(number)
        self._changed.set()

    def _supervise(self) -> int:
        killed = False
        while True:
            self._pass_signals_on()
            for slot in self._slots:
                self._tend(slot)
            if all(slot.done for slot in self._slots):
                return self._failed or int(killed)
            killed |= self._kill_if_overdue()
            self._changed.wait(0.1)
            self._changed.clear()

    def _pass_signals_on(self) -> None:
        while self._signals:
            self._signals.pop()
            self._asked += 1
            self._stopping_since = self._stopping_since or time.monotonic()
            for slot in self._slots:
                slot.send(signal.SIGTERM)

    def _tend(self, slot: _Slot) -> None:
        """Start what is not there, note what ended."""
        if slot.done:
            return
        if slot.process is None:
            if self._stopping_since is not None:
                slot.done = True
            elif time.monotonic() >= slot.start_at:
                self._start(slot)
            return
        code = slot.process.poll()
        if code is None:
            return
        burst_is_over = code in (0, NO_STORE) and self._options.worker.get("burst", False)
        if burst_is_over:
            self._failed = self._failed or code
        if burst_is_over or self._stopping_since is not None:
            slot.done = True
            return
        pause = slot.ended()
        logger.error("a worker process ended with %s; restarting in %.1f s", _told(code), pause)

    def _start(self, slot: _Slot) -> None:
        try:
            slot.start(self._command(slot.number), self._reading)
        except OSError as error:  # out of memory, or of processes: the others go on
            pause = slot.ended()
            logger.error("a worker process cannot start: %s; again in %.1f s", error, pause)  # noqa: TRY400 - no bug of ours

    def _command(self, number: int) -> Sequence[str]:
        worker = dict(self._options.worker)
        if worker.get("health_file") is not None:
            worker["health_file"] = f"{worker['health_file']}.{number}"
        metrics = self._options.metrics
        options = msgspec.structs.replace(
            self._options,
            worker=worker,
            metrics=None if metrics is None else metrics.of(number),
            parent_fd=self._reading,
        )
        return [
            sys.executable,
            "-c",
            "from omniq.worker.serve import main; main()",
            json.dumps(msgspec.to_builtins(options)),
        ]

    def _kill_if_overdue(self) -> bool:
        if self._stopping_since is None:
            return False
        patience = self._grace_seconds if self._asked < 2 else 0.0
        if time.monotonic() < self._stopping_since + patience + KILL_SECONDS:
            return False
        killed = [slot.kill() for slot in self._slots]
        return any(killed)


class _Slot:
    """The place of one worker process, and who fills it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.done = False
        self.start_at = 0.0
        self._started_at = 0.0
        self._pause = RESTART_SECONDS[0]

    def start(self, command: Sequence[str], parent_fd: int) -> None:
        self._started_at = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, pass_fds=(parent_fd,), start_new_session=True
        )

    def ended(self) -> float:
        """Plan the restart of a process that died; return the seconds until then."""
        lived = time.monotonic() - self._started_at
        if lived > SETTLED_SECONDS:
            self._pause = RESTART_SECONDS[0]
        pause = self._pause
        self._pause = min(pause * 2, RESTART_SECONDS[1])
        self.process, self.start_at = None, time.monotonic() + pause
        return pause

    def send(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.kill()
        return True


def _told(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"
