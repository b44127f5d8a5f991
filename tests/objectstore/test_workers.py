"""Worker processes that race on an object store, one of them killed in the middle of its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq import OmniQ, TaskStatus
from omniq.backend.file import FileBackend
from omniq.models.task import Task
from omniq.testing.waiting import wait_until
from tests.servers.objects import PLACES, Place

APP = str(Path(__file__).with_name("worker_app.py"))
PART = 20
slow = pytest.mark.slow


class Workers:
    """Processes of one test, ended with it."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        self._environment = {
            **os.environ,
            "TEST_FOLDER": str(folder),
            "TEST_PLACE": json.dumps(place),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, lease: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "omniq", "worker", APP, "--lease", str(lease), "-c", "8"]
        with (self.folder / "workers.out").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def logs(self) -> dict[int, list[str]]:
        """Return what the tasks wrote, by process."""
        return {int(path.stem): path.read_text().splitlines() for path in self.folder.glob("*.log")}

    def ran(self) -> list[str]:
        """Return what the tasks of all processes wrote."""
        return [line for lines in self.logs().values() for line in lines]


@pytest.fixture
def workers(tmp_path: Path, store: str) -> Iterator[Workers]:
    workers = Workers(tmp_path, PLACES[store]())
    yield workers
    for process in workers.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("store", "number", "notes", "lease"),
    [
        ("gcs", 2, 30, 8),
        pytest.param("s3", 4, 300, 20, marks=slow),
        pytest.param("gcs", 4, 300, 20, marks=slow),
        pytest.param("azure", 4, 300, 20, marks=slow),
    ],
)
@pytest.mark.timeout(400)
async def test_workers_that_race_run_each_task_once_but_those_of_the_killed(
    workers: Workers, number: int, notes: int, lease: int
) -> None:
    """What one held when it was killed runs again when its lease ends; all else exactly once."""
    async with OmniQ(backend=FileBackend(*workers.place)) as app:
        queue = app.task_queue
        await queue.enqueue(Task(func="worker_app.hang_once", id="hung", args=(-1,)))
        victim = workers.start(lease)
        await wait_until(lambda: "-1 1" in workers.ran(), timeout=90, description="it hangs")
        others = [workers.start(lease) for _ in range(number - 1)]
        for start in range(0, notes, PART):
            part = range(start, min(start + PART, notes))
            await queue.enqueue_many(
                [Task(func="worker_app.note", id=f"n{n}", args=(n,)) for n in part]
            )
        await wait_until(
            lambda: len(workers.ran()) > notes // 4, timeout=90, description="they are at it"
        )
        victim.kill()
        done = {"default": {TaskStatus.COMPLETED: notes + 1}}

        async def is_done() -> bool:
            return await queue.counts() == done

        await wait_until(is_done, timeout=240, description="all are done")
        results = await app.result_storage.get_many(["hung", *(f"n{n}" for n in range(notes))])

    assert [one.result for one in results if one is not None] == [-1, *range(notes)]
    _check_runs(workers, victim.pid, notes)
    for process in others:
        process.terminate()
        assert process.wait(60) == 0


def _check_runs(workers: Workers, victim: int, notes: int) -> None:
    """Check that all ran, as their first claim unless that was the victim's."""
    elsewhere = Counter(
        line for pid, lines in workers.logs().items() if pid != victim for line in lines
    )
    last = set(workers.logs()[victim])
    assert "-1 2" in elsewhere
    assert set(elsewhere.values()) == {1}
    for n in range(notes):
        again = f"{n} 2" in elsewhere
        assert again or (f"{n} 1" in elsewhere) != (f"{n} 1" in last)
        assert not (again and f"{n} 1" in elsewhere)
