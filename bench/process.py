"""The harness's side of a child process: start it, talk to it, weigh it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench.catalogue import Entry
from bench.recorder import CAPACITY_VARIABLE, DIRECTORY_VARIABLE
from bench.servers import URL_VARIABLE

REPOSITORY = Path(__file__).resolve().parent.parent
REPLY_SECONDS = 300.0
END_SECONDS = 5.0


class ChildError(Exception):
    """A child answered with an error, fell silent or ended."""


class Child:
    """One process with an adapter; see ``bench.child`` for the roles and acts."""

    def __init__(
        self,
        entry: Entry,
        role: str,
        directory: Path,
        *,
        url: str,
        capacity: int,
        processes: int = 1,
    ) -> None:
        self._stderr = directory / f"{role}-{os.urandom(3).hex()}.err"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.child", entry.target, role, str(processes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=REPOSITORY,
                env=_environment(directory, url, capacity),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def await_ready(self) -> None:
        """Return when the adapter is set up."""
        self._reply("set up")

    def go(self) -> None:
        """Let a ready worker begin."""
        self._write(b"go\n")

    def act(self, act: str, **arguments: Any) -> Any:
        """Have the client do one act; return its value."""
        self._write(json.dumps({"act": act, **arguments}).encode() + b"\n")
        return self._reply(act)

    def end(self) -> None:
        """End the process and all it forked: by closing its pipe and SIGTERM, then SIGKILL."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _pipe(self._process.stdout).close()

    def cpu_seconds(self) -> float:
        """Return the processor time that the process and its descendants have used."""
        return sum(_cpu_seconds(pid) for pid in _tree(self._process.pid))

    def peak_memory_bytes(self) -> int:
        """Return the peak resident memory of the process and its descendants, added up."""
        return sum(_peak_memory_bytes(pid) for pid in _tree(self._process.pid))

    def _write(self, line: bytes) -> None:
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(line)
            pipe.flush()
        except BrokenPipeError as error:
            raise ChildError(f"ended early: {self._last_words()}") from error

    def _reply(self, act: str) -> Any:
        pipe = _pipe(self._process.stdout)
        if not select.select([pipe], [], [], REPLY_SECONDS)[0]:
            raise ChildError(f"{act}: no answer within {REPLY_SECONDS:.0f} s")
        line = pipe.readline()
        if not line:
            raise ChildError(f"{act}: ended early: {self._last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise ChildError(f"{act}: {reply['error']}; {self._last_words()}")
        return reply["value"]

    def _last_words(self) -> str:
        """Return the last line that this process or a worker beside it wrote to stderr."""
        for path in (self._stderr, *self._stderr.parent.glob("*.err")):
            if lines := path.read_text(errors="replace").strip().splitlines():
                return lines[-1]
        return "it said nothing"


def _environment(directory: Path, url: str, capacity: int) -> Mapping[str, str]:
    return {
        **os.environ,
        DIRECTORY_VARIABLE: str(directory),
        URL_VARIABLE: url,
        CAPACITY_VARIABLE: str(capacity),
    }


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ChildError("The child has no pipe.")
    return pipe


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from _tree(int(child))


def _cpu_seconds(pid: int) -> float:
    """Add up all threads' nanoseconds; the ticks of /proc/<pid>/stat are too coarse for idling."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def _peak_memory_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
