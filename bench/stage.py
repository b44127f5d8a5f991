"""A new directory, an empty server and new processes for one experiment."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.catalogue import Entry
from bench.process import Child
from bench.recorder import RunReader
from bench.servers import serving

SPARE_SLOTS = 1000


class InexactError(Exception):
    """A drain lost a task or ran one twice."""


@dataclass(frozen=True, slots=True)
class Stage:
    """An adapter's client in a process of its own, and the workers started beside it."""

    entry: Entry
    directory: Path
    capacity: int
    url: str
    client: Child
    workers: ExitStack

    def start_workers(self, processes: int, *, role: str = "worker") -> list[Child]:
        """Start workers, wait until all are set up, and let them begin together."""
        commands, each = (1, processes) if self.entry.supervised else (processes, 1)
        children = [
            Child(
                self.entry,
                role,
                self.directory,
                url=self.url,
                capacity=self.capacity,
                processes=each,
            )
            for _ in range(commands)
        ]
        for child in children:
            self.workers.enter_context(child)
        for child in children:
            child.await_ready()
        for child in children:
            child.go()
        return children

    def checked_runs(self, n: int) -> RunReader:
        """End the workers and return the log of their runs, which has each of ``n`` tasks once.

        Raises:
            InexactError: it has not.
        """
        self.workers.close()
        runs = RunReader(self.directory)
        exactness = runs.exactness(n)
        if not exactness.holds:
            raise InexactError(str(exactness))
        return runs


@contextmanager
def stage(entry: Entry, n: int) -> Generator[Stage]:
    """Set a stage with room to log the runs of ``n`` tasks twice; clear it away afterwards."""
    capacity = 2 * n + SPARE_SLOTS
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with (
            serving(entry.backend, directory) as url,
            Child(entry, "client", directory, url=url, capacity=capacity) as client,
            ExitStack() as workers,
        ):
            client.await_ready()
            yield Stage(entry, directory, capacity, url, client, workers)
