"""Worker processes on an object store, one of them killed in the middle of its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq import OmniQ, TaskStatus
from omniq.backend.file import FileBackend
from omniq.models.task import Task
from omniq.testing.waiting import wait_until
from tests.servers.objects import PLACES, Place

APP = str(Path(__file__).with_name("worker_app.py"))
NOTES = 40


class Workers:
    """Processes of one test, ended with it."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "TEST_FOLDER": str(folder),
            "TEST_PLACE": json.dumps(place),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "omniq", "worker", APP, "--lease", "3", "-c", "8"]
        with (self.folder / "workers.out").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def ran(self) -> list[str]:
        """Return what the tasks of all processes wrote."""
        texts = (path.read_text() for path in self.folder.glob("*.log"))
        return sorted(line for text in texts for line in text.splitlines())


@pytest.fixture
def place() -> Place:
    return PLACES["gcs"]()


@pytest.fixture
def workers(tmp_path: Path, place: Place) -> Iterator[Workers]:
    workers = Workers(tmp_path, place)
    yield workers
    for process in workers.processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_killed_worker_s_task_runs_again_and_all_others_once(
    workers: Workers, place: Place
) -> None:
    """When its lease has ended, by the other worker; results and events are there for all."""
    app = OmniQ(backend=FileBackend(*place))
    async with app:
        queue = app.task_queue
        await queue.enqueue(Task(func="worker_app.hang_once", id="hung", args=(-1,)))
        victim = workers.start()
        await wait_until(lambda: "-1 1" in workers.ran(), timeout=60, description="it hangs")
        victim.kill()
        notes = [Task(func="worker_app.note", id=f"n{n}", args=(n,)) for n in range(NOTES)]
        await queue.enqueue_many(notes)
        for _ in range(2):
            workers.start()

        done = {"default": {TaskStatus.COMPLETED: NOTES + 1}}

        async def is_done() -> bool:
            return await queue.counts() == done

        await wait_until(is_done, timeout=90, description="all are done")
        results = await app.result_storage.get_many(["hung", *(one.id for one in notes)])

    expected = ["-1 1", "-1 2", *(f"{n} 1" for n in range(NOTES))]
    assert workers.ran() == sorted(expected)
    assert [one.result for one in results if one is not None] == [-1, *range(NOTES)]
    for process in workers.processes[1:]:
        process.terminate()
        assert process.wait(60) == 0
