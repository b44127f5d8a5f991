"""The pytest plugin, and the packages that must load without drivers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("hypothesis", "sqlite3", "asyncpg", "redis", "nats", "fsspec", "anyio", "msgspec")


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, timeout=60
    )


def test_the_plugin_is_cheap_to_import() -> None:
    """It is part of every test run wherever OmniQ is installed."""
    code = "import sys, omniq.testing.plugin; print(*sys.modules)"

    loaded = set(run("-c", code).stdout.split())

    assert "omniq.testing.plugin" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_plugin_gives_a_queue_in_memory(tmp_path: Path) -> None:
    """New for each test, in sync and async tests alike."""
    (tmp_path / "test_app.py").write_text(
        "from omniq.models import Task\n"
        "def test_one(omniq_memory):\n"
        "    omniq_memory.get_task_queue().enqueue_sync(Task(func='job'))\n"
        "async def test_two(omniq_memory):\n"
        "    assert await omniq_memory.get_task_queue().dequeue() is None\n"
    )
    settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    options = [part for setting in settings for part in ("-o", setting)]

    ended = run("-m", "pytest", "-q", "-W", "error", *options, folder=tmp_path)

    assert "2 passed" in ended.stdout, ended.stdout


@pytest.mark.parametrize("package", ["omniq.results", "omniq.events"])
def test_the_storages_are_named_without_loading_a_driver(package: str) -> None:
    """Naming a class of one backend loads that backend only."""
    kind = "ResultStorage" if package.endswith("results") else "EventStorage"
    code = (
        f"import sys, {package} as p; base = p.Base{kind}; before = 'sqlite3' in sys.modules; "
        f"assert issubclass(p.SQLite{kind}, base) and p.AsyncMemory{kind} is p.Memory{kind}; "
        "print(before, 'sqlite3' in sys.modules)"
    )

    assert run("-c", code).stdout.split() == ["False", "True"]
    assert "has no attribute 'Nonsense'" in run("-c", f"import {package} as p; p.Nonsense").stderr
