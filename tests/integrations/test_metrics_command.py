"""`omniq worker --metrics-port`: workers as processes, scraped as Prometheus does."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from omniq import OmniQ
from omniq.integrations.prometheus import instrument, served
from omniq.testing.waiting import wait_until

APP = """
import os
from omniq import OmniQ, current_task

q = OmniQ("sqlite:///{folder}/jobs.db?durability=fast")


@q.task(name="work")
async def work() -> int:
    return os.getpid()


@q.task(name="die")
async def die() -> None:
    if current_task().task.claim_count == 1:
        os._exit(17)
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "metrics_app.py"
    path.write_text(APP.format(folder=tmp_path))
    return str(path)


@pytest.fixture
def first_port() -> int:
    """The first of two ports that follow each other and are free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
        return port


@contextmanager
def command(*arguments: str) -> Generator[None]:
    """Run `omniq worker`; stop it at the end, in order."""
    started = [sys.executable, "-m", "omniq", "worker", *arguments]
    with subprocess.Popen(started, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def refused(*arguments: str) -> str:
    """What `omniq worker` says when it does not even begin."""
    started = [sys.executable, "-m", "omniq", "worker", *arguments, "--burst"]
    ended = subprocess.run(started, capture_output=True, text=True)
    assert ended.returncode == 2
    return ended.stderr


def samples(port: int, name: str) -> float:
    """The sum of all samples of this name that begin like this; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    found = re.findall(rf"^{re.escape(name)}[^ ]* (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)


async def test_each_process_serves_what_it_does_also_after_a_crash(
    app: str, first_port: int, tmp_path: Path
) -> None:
    """Two processes at two ports; who is started again is found where it was."""
    ports = (first_port, first_port + 1)
    attempts = 'omniq_task_attempts_total{outcome="completed",queue="default",task="work"}'

    async def total(name: str) -> float:
        return sum(await asyncio.gather(*(asyncio.to_thread(samples, p, name) for p in ports)))

    async def both_serve() -> bool:
        info = [await asyncio.to_thread(samples, port, "python_info") for port in ports]
        return info == [1, 1]

    q = OmniQ(f"sqlite:///{tmp_path}/jobs.db?durability=fast")
    async with q:
        with command(app, "--processes", "2", "--metrics-port", str(first_port)):
            await wait_until(both_serve, description="both serve", timeout=60)
            await q.task_function("work").enqueue_many([()] * 50)

            async def all_counted() -> bool:
                return await total(attempts) == 50

            await wait_until(all_counted, description="all are counted", timeout=60)
            await q.enqueue("die")

            async def taken_over() -> bool:
                return await total("omniq_tasks_abandoned_total") == 1 and await both_serve()

            await wait_until(taken_over, description="another took it over", timeout=60)


async def test_a_port_that_is_taken_is_refused_before_any_task_is_claimed(
    app: str, first_port: int, tmp_path: Path
) -> None:
    """Of several processes too, at once, and not by each in turn for ever."""
    q = OmniQ(f"sqlite:///{tmp_path}/jobs.db?durability=fast")
    taken = first_port + 1
    with socket.create_server(("127.0.0.1", taken)):
        async with q:
            handle = await q.enqueue("work")
            several = refused(app, "--metrics-port", str(first_port), "--processes", "2")
            alone = refused(app, "--metrics-port", str(taken))
            task = await handle.task()

    message = f"metrics cannot be served at 127.0.0.1:{taken}: Address already in use"
    assert message in several
    assert message in alone
    assert (task.status.value, task.claim_count) == ("pending", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metrics-port", "0"), "begin at 1"),
        (("--metrics-port", "65535", "--processes", "2"), "end at 65535"),
        (("--metrics-port", "9100", "--metrics-host", "nowhere.invalid"), "nowhere.invalid:9100"),
        (("--metrics-host", "127.0.0.1"), "give that, too"),
    ],
)
def test_an_address_that_is_none_is_refused(
    app: str, options: tuple[str, ...], message: str
) -> None:
    """Before anything is started."""
    assert message in refused(app, *options)


def test_without_the_package_it_says_what_to_install(app: str) -> None:
    """A worker that is not asked for metrics needs none of it, and neither does `import omniq`."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import omniq.core\n"
        "from omniq.cli.app import execute\n"
        "assert execute(['worker', sys.argv[1], '--burst', '--log-level', 'ERROR']) == 0\n"
        "sys.exit(execute(['worker', sys.argv[1], '--burst', '--metrics-port', '9100']))"
    )
    ended = subprocess.run([sys.executable, "-c", code, app], capture_output=True, text=True)

    assert ended.returncode == 2
    assert "metrics need prometheus-client; install it with: pip install" in ended.stderr
    assert "'omniq-tasks[prometheus]'" in ended.stderr


def test_the_registry_of_the_application_is_served_and_the_port_given_back(
    first_port: int,
) -> None:
    """An application that was instrumented with a registry of its own keeps it."""
    q, registry = OmniQ("memory://"), CollectorRegistry()
    instrument(q, registry=registry)
    Gauge("omniq_test", "Ours.", registry=registry).set(7)

    for _ in range(2):
        with served(q, first_port):
            assert samples(first_port, "omniq_test") == 7
        assert samples(first_port, "omniq_test") == 0
