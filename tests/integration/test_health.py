"""Signs of life: the health file, `omniq health`, systemd's notifications."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from omniq.cli.app import execute
from omniq.exceptions import ConfigError, StorageUnavailableError
from omniq.storage.sqlite import SQLiteQueue
from omniq.testing.waiting import wait_until
from omniq.worker import Worker, health
from omniq.worker.health import check, clear

APP = """
from omniq import OmniQ
q = OmniQ("sqlite:///{folder}/jobs.db")
"""


@asynccontextmanager
async def working(worker: Worker) -> AsyncGenerator[None]:
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop(force=True)
        await running


async def test_the_file_is_fresh_while_the_queue_answers_and_gone_after(tmp_path: Path) -> None:
    """What a probe looks at."""
    path = tmp_path / "health"
    q = OmniQ(f"sqlite:///{tmp_path}/jobs.db")
    assert not check(path, 30).is_healthy

    async with q, working(q.worker(health_file=path)):
        await wait_until(path.exists, description="the first claim was answered")
        assert check(path, 30).is_healthy

    assert not path.exists()


async def test_an_idle_worker_beats_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty queue is no illness."""
    monkeypatch.setattr("omniq.worker.worker.WAIT_SECONDS", 0.02)
    path = tmp_path / "health"
    q = OmniQ(f"sqlite:///{tmp_path}/jobs.db")
    async with q, working(q.worker(health_file=path)):
        await wait_until(path.exists, description="the first claim was answered")
        os.utime(path, (1, 1))

        await wait_until(lambda: check(path, 30).is_healthy, description="it beats again")


async def test_a_worker_whose_slots_are_all_busy_beats_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long tasks are no illness either, though nothing is claimed meanwhile."""
    monkeypatch.setattr("omniq.worker.worker.BEAT_SECONDS", 0.02)
    path = tmp_path / "health"
    q = OmniQ(f"sqlite:///{tmp_path}/jobs.db")
    started = asyncio.Event()

    @q.task
    async def long() -> None:
        started.set()
        await asyncio.Event().wait()

    async with q, working(q.worker(health_file=path, concurrency=1)):
        await long.enqueue()
        await started.wait()
        os.utime(path, (1, 1))

        await wait_until(lambda: check(path, 30).is_healthy, description="it beats")


async def test_a_worker_whose_store_is_away_does_not_beat(tmp_path: Path) -> None:
    """The process runs and the loop turns, and yet no task would."""

    class Away(SQLiteQueue):
        claims = 0

        async def _claim(self, *args: Any, **options: Any) -> Any:
            self.claims += 1
            if self.claims > 1:
                raise StorageUnavailableError("away")
            return await super()._claim(*args, **options)

    queue = Away(f"{tmp_path}/jobs.db")
    url = f"sqlite:///{tmp_path}/other.db"
    q = OmniQ(tasks=queue, results=url, events=url, schedules=url)
    path = tmp_path / "health"
    async with q, working(q.worker(health_file=path)):
        await wait_until(path.exists, description="the first claim was answered")
        os.utime(path, (1, 1))
        await queue.enqueue_many([])
        await q.enqueue("wake.up")
        await wait_until(lambda: queue.claims > 3, description="it tried again")

        assert not check(path, 30).is_healthy


@pytest.mark.parametrize("place", ["nowhere/health", "."])
def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, place: str) -> None:
    """Not discovered when the container is killed for it."""
    with pytest.raises(ConfigError, match="health_file"):
        OmniQ("memory://").worker(health_file=tmp_path / place)


def test_the_oldest_of_several_processes_counts(tmp_path: Path) -> None:
    """One process that hangs must not hide behind the others."""
    path = tmp_path / "health"
    for number in range(3):
        Path(f"{path}.{number}").touch()
    assert check(path, 30).is_healthy
    os.utime(f"{path}.1", (time.time() - 60, time.time() - 60))

    found = check(path, 30)

    assert not found.is_healthy
    assert "health.1" in found.text
    clear(path)
    assert list(tmp_path.iterdir()) == []


def test_command_tells_by_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is all a probe understands."""
    path = tmp_path / "health"
    assert execute(["health", str(path)]) == 1
    assert "not there" in capsys.readouterr().out
    path.touch()
    assert execute(["health", str(path), "--within", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_healthy"] is True
    os.utime(path, (1, 1))
    assert execute(["health", str(path), "--within", "1e6"]) == 1
    assert execute(["health", str(path), "--within", "0"]) == 2


def test_each_process_of_a_supervisor_keeps_a_file(tmp_path: Path) -> None:
    """And what earlier processes left does not make the new ones ill."""
    (tmp_path / "jobs.py").write_text(APP.format(folder=tmp_path))
    path = tmp_path / "health"
    files = [Path(f"{path}.{number}") for number in range(2)]
    stale = Path(f"{path}.7")
    stale.touch()
    os.utime(stale, (1, 1))
    arguments = ["worker", "jobs:q", "-p", "2", "--health-file", str(path)]
    process = subprocess.Popen([sys.executable, "-m", "omniq", *arguments], cwd=tmp_path)
    try:
        asyncio.run(
            wait_until(
                lambda: all(file.exists() for file in files),
                description="both processes work",
                timeout=60,
            )
        )
        assert check(path, 60).is_healthy
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0

    assert not list(tmp_path.glob("health*"))


class TestSystemd:
    """`Type=notify` and `WatchdogSec=`, by a real socket of datagrams."""

    @pytest.fixture
    def socket_of_systemd(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(tmp_path / "notify"))
            receiver.setblocking(False)
            monkeypatch.setenv(health.NOTIFY_VARIABLE, str(tmp_path / "notify"))
            yield receiver

    async def test_readiness_watchdog_and_stopping_are_told(
        self, tmp_path: Path, socket_of_systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A start that cannot reach its store fails; one that hangs is started again."""
        monkeypatch.setattr("omniq.worker.worker.WAIT_SECONDS", 0.02)
        heard: list[bytes] = []

        def hear() -> bool:
            try:
                while True:
                    heard.append(socket_of_systemd.recv(100))
            except BlockingIOError:
                return len(heard) >= 3

        q = OmniQ(f"sqlite:///{tmp_path}/jobs.db")
        async with q, working(q.worker()):
            await wait_until(hear, description="three answers of the queue")
        hear()

        assert heard[0] == b"READY=1\nWATCHDOG=1"
        assert set(heard[1:-1]) == {b"WATCHDOG=1"}
        assert heard[-1] == b"STOPPING=1"

    async def test_a_socket_that_is_not_there_harms_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The variable may be inherited from a service that ended."""
        monkeypatch.setenv(health.NOTIFY_VARIABLE, str(tmp_path / "gone"))
        q = OmniQ(f"sqlite:///{tmp_path}/jobs.db")

        async with q:
            await q.worker(burst=True).run()
