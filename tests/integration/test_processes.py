"""Worker processes on one store: sharing, crashing, hanging, being supervised."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from omniq import OmniQ, TaskStatus
from omniq.testing.waiting import wait_until
from omniq.worker.serve import ServeOptions
from tests.servers.engines import ENGINES

APP = str(Path(__file__).with_name("process_app.py"))
ENDING_APP = """
import atexit, os, sys, threading
from pathlib import Path
from omniq import OmniQ

q = OmniQ("sqlite:///{folder}/queue.db")
if sys.argv[0] == "-c":  # a supervised process, not the supervisor
    atexit.register(threading.Event().wait)
    atexit.register(Path("{folder}", str(os.getpid()) + ".ended").touch)
"""
FINAL = {TaskStatus.COMPLETED, TaskStatus.FAILED}


class Fleet:
    """Worker processes of one test, ended with it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._environment = {**os.environ, "OMNIQ_URL": url, "TEST_FOLDER": str(folder)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start `omniq worker` with these options."""
        command = [sys.executable, "-m", "omniq", "worker", APP, "--log-level", "WARNING", *options]
        with (self.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def lines(self) -> list[str]:
        """Everything the tasks wrote, of all processes."""
        return [
            line
            for path in self.folder.glob("[0-9]*.log")
            for line in path.read_text().splitlines()
        ]

    def said(self) -> str:
        """Everything the workers logged."""
        return (self.folder / "workers.log").read_text()

    def end(self) -> None:
        """End all, also the stopped ones."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store: an SQLite file, unless the test is run on others too."""
    name: str = getattr(request, "param", "sqlite")
    return ENGINES[name].store() if name in ENGINES else f"sqlite:///{tmp_path}/queue.db"


on_each_store = pytest.mark.parametrize("url", ["sqlite", *ENGINES], indirect=True)


@pytest.fixture
def fleet(tmp_path: Path, url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, url)
    yield fleet
    fleet.end()


@pytest.fixture
async def app(url: str) -> AsyncIterator[OmniQ]:
    async with OmniQ(url) as app:
        yield app


async def all_final(app: OmniQ, number: int) -> bool:
    counts = (await app.counts()).get("default", {})
    return sum(counts.get(status, 0) for status in FINAL) >= number


async def enqueue(app: OmniQ, name: str, calls: list[tuple[Any, ...]], **options: Any) -> list[str]:
    function = app.task_function(f"process_app.{name}").options(**options)
    return [handle.id for handle in await function.enqueue_many(calls)]


async def test_six_processes_run_twenty_thousand_tasks_once_each(app: OmniQ, fleet: Fleet) -> None:
    """Six writers on one file: nothing is lost, nothing doubled, no lock error is seen."""
    number = 20_000
    await enqueue(app, "note", [(n,) for n in range(number)])
    processes = [fleet.start("--burst", "--concurrency", "100") for _ in range(6)]

    codes = [await asyncio.to_thread(process.wait, 100) for process in processes]

    assert codes == [0] * 6, fleet.said()
    ran = Counter(int(line.split()[0]) for line in fleet.lines())
    assert len(ran) == number
    assert set(ran.values()) == {1}
    assert (await app.counts())["default"] == {TaskStatus.COMPLETED: number}
    assert "locked" not in fleet.said()


@on_each_store
async def test_tasks_of_a_killed_worker_run_again(app: OmniQ, fleet: Fleet) -> None:
    """kill -9 of one of three: its neighbours notice long before the leases end, where they can."""
    await enqueue(app, "hold", [(n, 3.0) for n in range(12)])
    lease = "600" if app.task_queue.capabilities.detects_death else "4"
    workers = [fleet.start("--concurrency", "4", "--lease", lease) for _ in range(3)]
    await wait_until(lambda: len(fleet.lines()) >= 12, description="all tasks started", timeout=60)

    workers[0].kill()
    await wait_until(
        lambda: all_final(app, 12),
        description="all tasks ended, the killed worker's too",
        timeout=40,
    )

    ended = Counter(line.split()[1] for line in fleet.lines() if line.startswith("end"))
    assert ended == {str(n): 1 for n in range(12)}
    again = [line for line in fleet.lines() if line.startswith("start") and line.endswith(" 2")]
    assert len(again) == 4


@on_each_store
async def test_late_writes_of_a_stopped_worker_are_refused(app: OmniQ, fleet: Fleet) -> None:
    """A worker frozen past its lease wakes as a zombie: the run of the new holder stands."""
    await enqueue(app, "hold", [(n, 0.5) for n in range(4)])
    frozen = fleet.start("--concurrency", "4", "--lease", "1.5")
    await wait_until(lambda: len(fleet.lines()) >= 4, description="all tasks started")
    frozen.send_signal(signal.SIGSTOP)
    fleet.start("--concurrency", "4", "--lease", "1.5")
    await wait_until(lambda: all_final(app, 4), description="the second worker ran all")
    before = await app.task_queue.list_tasks()

    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    await asyncio.to_thread(frozen.wait, 20)

    assert await app.task_queue.list_tasks() == before
    assert {task.claim_count for task in before} == {2}
    for task in before:
        result = await app.result_storage.get(task.id)
        assert result is not None
        assert result.claim_count == 2


async def test_supervisor_restarts_the_dead_and_poison_is_stopped(app: OmniQ, fleet: Fleet) -> None:
    """A task that kills its process fails after three of them; its neighbours are unharmed."""
    (poison,) = await enqueue(app, "die", [()])
    await enqueue(app, "note", [(n,) for n in range(50)])
    supervisor = fleet.start("--processes", "2", "--concurrency", "1")

    await wait_until(lambda: all_final(app, 51), description="all ended", timeout=40)
    supervisor.terminate()
    code = await asyncio.to_thread(supervisor.wait, 20)

    task = await app.get_task(poison)
    assert task is not None
    assert task.status is TaskStatus.FAILED
    assert "poisoned" in (task.error or "")
    assert {line.split()[0] for line in fleet.lines()} == {str(n) for n in range(50)}
    assert (await app.counts())["default"][TaskStatus.COMPLETED] == 50
    assert "restarting" in fleet.said()
    assert code == 0


async def test_a_store_out_of_reach_is_one_line_a_try(tmp_path: Path) -> None:
    """Each process that cannot start says why, as a worker by itself does, and is started again."""
    fleet = Fleet(tmp_path, f"sqlite:///{tmp_path}/absent/queue.db")
    supervisor = fleet.start("--processes", "2")
    try:
        await wait_until(
            lambda: fleet.said().count("restarting in") >= 3, description="three tries", timeout=60
        )
        supervisor.terminate()
        assert await asyncio.to_thread(supervisor.wait, 20) == 0
    finally:
        fleet.end()

    said = fleet.said()
    assert "Traceback" not in said
    assert "ERROR   omniq.worker.serve sqlite database" in said
    assert "ERROR   omniq.worker.processes a worker process ended with" in said


async def test_workers_end_when_their_supervisor_is_killed(app: OmniQ, fleet: Fleet) -> None:
    """No orphan works on: the children notice the end of the pipe they hold."""
    await enqueue(app, "hold", [(n, 0.3) for n in range(2)])
    supervisor = fleet.start("--processes", "2", "--concurrency", "1")
    await wait_until(lambda: len(fleet.lines()) >= 2, description="both children work")
    children = [int(path.stem) for path in fleet.folder.glob("[0-9]*.log")]

    supervisor.kill()

    def gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in children)

    await wait_until(gone, description="the children ended")


async def test_sigterm_lets_a_worker_finish(app: OmniQ, fleet: Fleet) -> None:
    """The first signal waits for running tasks; exit code 0 says that nothing was cut off."""
    await enqueue(app, "hold", [(1, 0.5)])
    worker = fleet.start()
    await wait_until(lambda: len(fleet.lines()) == 1, description="the task started")

    worker.terminate()
    code = await asyncio.to_thread(worker.wait, 20)

    assert code == 0
    assert [line.split()[0] for line in fleet.lines()] == ["start", "end"]
    assert (await app.counts())["default"] == {TaskStatus.COMPLETED: 1}


async def test_a_second_signal_gives_tasks_back(app: OmniQ, fleet: Fleet) -> None:
    """An impatient stop does not lose what it interrupts, nor count it as an attempt."""
    (task_id,) = await enqueue(app, "hold", [(1, 60.0)])
    worker = fleet.start()
    await wait_until(lambda: len(fleet.lines()) == 1, description="the task started")

    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(worker.wait, 20)

    task = await app.get_task(task_id)
    assert code == 0
    assert task is not None
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)


def test_what_an_application_registered_for_the_end_runs_and_holds_up_nothing(
    tmp_path: Path,
) -> None:
    """Exporters of traces and errors send their last there; one that hangs is left."""
    app = tmp_path / "ending_app.py"
    app.write_text(ENDING_APP.format(folder=tmp_path))
    command = [sys.executable, "-m", "omniq", "worker", str(app), "--burst", "-p", "2"]

    subprocess.run(command, timeout=60, check=True)

    assert len(list(tmp_path.glob("*.ended"))) == 2


def test_the_process_options_are_plain_json() -> None:
    """What a supervisor hands to its children can be read back."""
    options = ServeOptions(app="x", worker={"queues": ["a"], "concurrency": 3})

    assert (
        msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(options))), ServeOptions)
        == options
    )
