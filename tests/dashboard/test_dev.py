"""`omniq dev`: a worker and the dashboard, started anew when the code changes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from omniq import ConfigError, OmniQ, Task, TaskStatus
from omniq.cli.app import execute
from omniq.cli.reloading import Reloader
from omniq.testing.waiting import wait_until
from tests.dashboard.programs import PATIENCE, Program, program

APP = """
import asyncio
from pathlib import Path

from omniq import OmniQ

q = OmniQ("sqlite:///shop.db")


@q.task(name="shop.greet")
async def greet() -> str:
    return "hello"


@q.task(name="shop.hold")
async def hold() -> None:
    Path("started").touch()
    await asyncio.Event().wait()
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Write the application; a program that looks meanwhile sees the old or the new one."""

    def write(text: str) -> None:
        new = tmp_path / "shop.new"
        new.write_text(text)
        new.replace(tmp_path / "shop.py")

    write(APP)
    return write


@pytest.fixture
async def q(tmp_path: Path) -> AsyncIterator[OmniQ]:
    """Whoever enqueues, elsewhere."""
    async with OmniQ(f"sqlite:///{tmp_path}/shop.db") as q:
        yield q


async def result_of(q: OmniQ, task_id: str) -> object:
    await q.enqueue_task(Task(func="shop.greet", id=task_id))
    return await q.get_result(task_id, timeout=PATIENCE)


async def pid_of(running: Program) -> int:
    """The process of the worker: its name says so."""
    await running.says("omniq.worker.start worker w-")
    return int(running.said().split("omniq.worker.start worker w-")[-1].split()[0].split("-")[-2])


async def test_new_code_runs_the_next_task(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """Nobody has to restart anything; the dashboard stays where it is."""
    with program(tmp_path, "dev", "shop", "--port", "0") as running:
        assert await result_of(q, "first") == "hello"
        await running.shows("/tasks/first", "&#39;hello&#39;")

        write(APP.replace('"hello"', '"goodbye"'))
        await running.says("changed: shop.py")
        await running.says("omniq.worker.start", times=2)

        assert await result_of(q, "second") == "goodbye"
        await running.shows("/tasks/second", "&#39;goodbye&#39;")
        assert await running.ends() == 0


async def test_broken_code_says_why_and_the_next_change_mends_it(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """In the terminal, and in the browser, which comes back by itself."""
    write("from omniq import OmniQ\nq = OmniQ(\n")
    with program(tmp_path, "dev", "shop", "--port", "0") as running:
        page = await running.shows("/", "SyntaxError", status=503)
        await running.says("waiting for a change")

        write(APP)
        assert await result_of(q, "first") == "hello"
        await running.shows("/", "completed")
        assert await running.ends() == 0

    assert page.headers["refresh"] == "2"
    assert "shop.py:2" in running.said()


async def test_without_the_dashboard_it_waits_for_a_change_as_well(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """Also when the application ends its process."""
    write("import os\nos._exit(7)\n")
    with program(tmp_path, "dev", "shop", "--no-dashboard") as running:
        await running.says("waiting for a change")

        write(APP)
        assert await result_of(q, "first") == "hello"
        assert await running.ends() == 0

    assert "dashboard:" not in running.said()


async def test_a_running_task_is_given_back_on_a_restart(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """And runs again with the new code, without having cost an attempt."""
    with program(tmp_path, "dev", "shop", "--no-dashboard", "--grace", "0") as running:
        await q.enqueue_task(Task(func="shop.hold", id="held"))
        await wait_until(
            (tmp_path / "started").exists, description="the task started", timeout=PATIENCE
        )

        write(APP.replace("await asyncio.Event().wait()", "return None"))

        async def is_done() -> bool:
            task = await q.get_task("held")
            return task is not None and task.status is TaskStatus.COMPLETED

        await wait_until(is_done, description="the new code ran it", timeout=PATIENCE)
        task = await q.get_task("held")
        assert await running.ends() == 0

    assert task is not None
    assert (task.attempt, task.claim_count, task.lost_leases) == (1, 2, 0)


async def test_a_second_signal_gives_running_tasks_back_at_once(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """As of a worker by itself: who is impatient loses nothing."""
    with program(tmp_path, "dev", "shop", "--port", "0", "--grace", "600") as running:
        await q.enqueue_task(Task(func="shop.hold", id="held"))
        await wait_until(
            (tmp_path / "started").exists, description="the task started", timeout=PATIENCE
        )
        running.process.send_signal(signal.SIGINT)
        assert await running.ends(signal.SIGTERM) == 0

    task = await q.get_task("held")
    assert task is not None
    assert (task.status, task.attempt, task.lost_leases) == (TaskStatus.PENDING, 0, 0)


async def test_a_task_that_does_not_react_holds_nothing_up(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """A thread deep in a library cannot be interrupted; its process ends all the same."""
    stuck = APP.replace("async def hold", "def hold")
    write(
        "import ctypes\n"
        + stuck.replace("await asyncio.Event().wait()", "ctypes.CDLL(None).sleep(600)")
    )
    with program(tmp_path, "dev", "shop", "--no-dashboard", "--grace", "0") as running:
        await q.enqueue_task(Task(func="shop.hold", id="held"))
        await wait_until(
            (tmp_path / "started").exists, description="the task started", timeout=PATIENCE
        )
        assert await running.ends() == 0

    task = await q.get_task("held")
    assert task is not None
    assert (task.status, task.attempt, task.lost_leases) == (TaskStatus.PENDING, 0, 0)


async def test_what_is_kept_in_memory_is_shown(
    tmp_path: Path, write: Callable[[str], None]
) -> None:
    """Worker, schedules and dashboard share one process."""
    text = APP.replace("sqlite:///shop.db", "memory://")
    write(f"{text}\n\nq.every(1, name='shop.tick')(lambda: 'tick')\n")
    with program(tmp_path, "dev", "shop", "--port", "0") as running:
        await running.shows("/activity", "COMPLETED")
        await running.shows("/schedules", "shop.tick")
        assert await running.ends(signal.SIGTERM) == 0


async def test_the_worker_ends_when_its_parent_is_killed(
    tmp_path: Path, write: Callable[[str], None]
) -> None:
    """No orphan keeps the port, or runs old code."""
    with program(tmp_path, "dev", "shop", "--port", "0") as running:
        child = await pid_of(running)
        running.kill()

        def is_gone() -> bool:
            try:
                os.kill(child, 0)
            except ProcessLookupError:
                return True
            return False

        try:
            await wait_until(is_gone, description="the child ended", timeout=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


async def test_only_folders_that_were_named_are_watched(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """Generated code elsewhere does not restart it."""
    (tmp_path / "code").mkdir()
    with program(tmp_path, "dev", "shop", "--no-dashboard", "--watch", "code") as running:
        await running.says("omniq.worker.start")
        (tmp_path / "other.py").write_text("")
        (tmp_path / "code" / "notes.txt").write_text("")
        (tmp_path / "code" / "new.py").write_text("")
        await running.says("changed: ")
        await running.says("omniq.worker.start", times=2)
        assert await running.ends() == 0

    assert running.said().count("changed: ") == 1
    assert "changed: code/new.py" in running.said()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--queues", "a b"], "'a b' is not a valid name"),
        (["--concurrency", "0"], "concurrency: 0 is no integer between"),
        (["--grace", "-1"], "grace: -1 seconds is not between"),
        (["--watch", "absent"], "--watch absent: there is no such file or folder"),
        (["--host", "0.0.0.0", "--port", "0"], "needs a password"),
        (["--port", "x"], "Invalid value"),
    ],
)
def test_held_wrong_it_says_what_to_do(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At once: no change of the code would mend an option."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIQ_DASHBOARD_PASSWORD", raising=False)

    assert execute(["dev", "shop", *arguments]) == 2

    assert said in capsys.readouterr().err


def test_a_store_is_no_application(capsys: pytest.CaptureFixture[str]) -> None:
    """No change of the code would make it one."""
    assert execute(["dev", "redis://u:HIDDEN@h"]) == 4

    said = capsys.readouterr().err
    assert "is a store, not an application" in said
    assert "HIDDEN" not in said


async def test_files_that_cannot_be_watched_are_told_at_once(tmp_path: Path) -> None:
    """Instead of a command that seems to work and never restarts anything."""
    reloader = Reloader("shop", {"grace_seconds": 0.0}, [tmp_path / "gone"])

    with pytest.raises(ConfigError, match=r"cannot watch for changes.*--watch"):
        await reloader.run(None)


async def test_programs_that_tasks_start_do_not_hold_the_port(
    tmp_path: Path, q: OmniQ, write: Callable[[str], None]
) -> None:
    """A daemon they leave behind would keep the next dashboard from starting."""
    write(
        APP.replace('return "hello"', 'os.system("sleep 300 & echo $! > daemon")') + "import os\n"
    )
    with program(tmp_path, "dev", "shop", "--port", "0") as running:
        url = await running.url()
        await q.enqueue_task(Task(func="shop.greet", id="first"))
        await running.shows("/tasks/first", "COMPLETED")
        daemon = int((tmp_path / "daemon").read_text())
        try:
            assert await running.ends() == 0
            async with httpx.AsyncClient() as browser:
                with pytest.raises(httpx.ConnectError):
                    await browser.get(url)
        finally:
            os.kill(daemon, signal.SIGKILL)
