"""A log of runs that costs the same for every peer, to prove that each task ran exactly once.

Every benchmark task calls ``record(number)``. The first call in a process maps a file of its own,
``runs-<pid>.bin``, into memory; each call then takes the next free slot (``next()`` of an
``itertools.count`` is atomic under the GIL, so threads never share one) and writes two 64-bit words
there: the moment of the run and the task's number plus one. That is about 0.2 µs, no lock and no
system call; the pages belong to the kernel, so they outlive a killed worker, and another process
sees them at once. Nothing is ever overwritten: a task that ran twice has two slots.

After a drain the harness reads all files: each number from 0 to n-1 has to be there once, and no
other.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

WORDS_PER_RUN = 2
BYTES_PER_RUN = 8 * WORDS_PER_RUN
DIRECTORY_VARIABLE = "BENCH_DIRECTORY"
CAPACITY_VARIABLE = "BENCH_CAPACITY"


class RunLog:
    """The run log of this process, as memory shared with whoever reads the file."""

    def __init__(self, path: Path, capacity: int) -> None:
        unready = path.with_suffix(".new")
        with unready.open("wb+") as file:
            file.truncate(capacity * BYTES_PER_RUN)
            self._words = memoryview(mmap.mmap(file.fileno(), capacity * BYTES_PER_RUN)).cast("Q")
        unready.rename(path)
        self._offsets = count(0, WORDS_PER_RUN)

    def append(self, number: int) -> None:
        """Add one run, seen by readers at once; the number goes last, as it marks the slot used."""
        offset = next(self._offsets)
        self._words[offset + 1] = time.monotonic_ns()
        self._words[offset] = number + 1


_log: RunLog | None = None
_opening = threading.Lock()


def record(number: int) -> None:
    """Note that the task ``number`` runs now, in this process."""
    (_log or _open_log()).append(number)


def _open_log() -> RunLog:
    global _log  # noqa: PLW0603 - one log a process, opened by the first task that runs in it
    with _opening:
        if _log is None:
            path = Path(os.environ[DIRECTORY_VARIABLE]) / f"runs-{os.getpid()}.bin"
            _log = RunLog(path, int(os.environ[CAPACITY_VARIABLE]))
        return _log


def _forget_log() -> None:
    global _log  # noqa: PLW0603 - a forked worker must not append to its parent's slots
    _log = None


os.register_at_fork(after_in_child=_forget_log)


@dataclass(frozen=True, slots=True)
class Exactness:
    """What the run logs say about a drain of ``expected`` tasks."""

    expected: int
    lost: int
    doubled: int
    unknown: int

    @property
    def holds(self) -> bool:
        """Whether every task ran once and nothing else ran."""
        return not (self.lost or self.doubled or self.unknown)

    def __str__(self) -> str:
        return (
            f"of {self.expected} tasks: {self.lost} lost, {self.doubled} doubled, "
            f"{self.unknown} unknown"
        )


class RunReader:
    """Reads the run logs of all processes that work in one directory, also while they grow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._used: dict[Path, int] = {}
        self._maps: dict[Path, memoryview] = {}

    def count(self) -> int:
        """Return how many runs are logged so far, looking only at slots new since the last call."""
        for path in self._directory.glob("runs-*.bin"):
            words = self._words(path)
            used = self._used.get(path, 0)
            while used < len(words) // WORDS_PER_RUN and words[used * WORDS_PER_RUN]:
                used += 1
            self._used[path] = used
        return sum(self._used.values())

    def first_run_at(self) -> int:
        """Return the monotonic nanosecond at which the first task ran."""
        return min(moment for _, moment in self._runs())

    def started_at(self) -> dict[int, int]:
        """Return, by task number, the monotonic nanosecond of its run."""
        return dict(self._runs())

    def exactness(self, expected: int) -> Exactness:
        """Compare the logged runs with the numbers 0 to ``expected`` - 1."""
        runs = Counter(number for number, _ in self._runs())
        return Exactness(
            expected=expected,
            lost=sum(1 for number in range(expected) if number not in runs),
            doubled=sum(1 for times in runs.values() if times > 1),
            unknown=sum(1 for number in runs if number >= expected),
        )

    def _runs(self) -> Iterator[tuple[int, int]]:
        for path in self._directory.glob("runs-*.bin"):
            words = self._words(path).tolist()
            for number, moment in zip(words[::WORDS_PER_RUN], words[1::WORDS_PER_RUN], strict=True):
                if number:
                    yield number - 1, moment

    def _words(self, path: Path) -> memoryview:
        if path not in self._maps:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[path] = memoryview(mapped).cast("Q")
        return self._maps[path]
