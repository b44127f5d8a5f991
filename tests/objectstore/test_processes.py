"""Several processes on one object store: they race, and they die at every request."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.ids import new_token
from omniq.models.task import Task, TaskStatus
from omniq.storage.objectstore import publisher, tree
from tests.objectstore.object_steps import backend_at
from tests.objectstore.shown import is_shown
from tests.servers.objects import PLACES, Place

SCRIPT = str(Path(__file__).with_name("object_steps.py"))
SHORT_LIFE = {
    "first": {TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED},
    "child": {TaskStatus.WAITING, TaskStatus.PENDING},
    "other": {TaskStatus.PENDING},
}
slow = pytest.mark.slow


class Racer:
    """A process that drains a queue with others."""

    def __init__(self, place: Place, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, "drain", json.dumps(place), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def says(self) -> Any:
        """Return what it tells next, None at its end."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        return json.loads(line) if line else None

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    async def ran(self) -> list[tuple[str, int]]:
        """Return the tasks it ran, with the number of the claim, once it has ended."""
        found: list[tuple[str, int]] = []
        while facts := await self.says():
            found += [(task_id, claim) for task_id, claim in facts["ran"]]
        assert self.process.wait() == 0
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def racers() -> Iterator[list[Racer]]:
    """Processes that end with the test."""
    started: list[Racer] = []
    yield started
    for racer in started:
        racer.end()


@pytest.mark.parametrize(
    ("store", "workers", "number"),
    [
        ("gcs", 2, 60),
        pytest.param("s3", 4, 300, marks=slow),
        pytest.param("gcs", 4, 300, marks=slow),
        pytest.param("azure", 4, 300, marks=slow),
    ],
)
@pytest.mark.timeout(300)
async def test_processes_that_race_run_each_task_once(
    racers: list[Racer], store: str, workers: int, number: int
) -> None:
    """Whoever creates the next object of the log wins; the others see what it took."""
    place = PLACES[store]()
    ids = [f"t{n:03d}" for n in range(number)]
    async with FileBackend(*place).get_task_queue() as queue:
        await queue.enqueue_many([Task(func="f", id=one) for one in ids])
        racers += [Racer(place, f"w{n}") for n in range(workers)]
        assert [await racer.says() for racer in racers] == ["ready"] * workers

        for racer in racers:
            racer.go()
        ran = [one for done in await asyncio.gather(*(one.ran() for one in racers)) for one in done]

        assert sorted(ran) == [(one, 1) for one in ids]
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: number}}


async def test_a_forked_child_opens_anew_and_leaves_the_parent_unharmed() -> None:
    """Pre-forking servers: threads and connections of the parent do not exist in the child."""
    command = [sys.executable, SCRIPT, "fork", json.dumps(PLACES["gcs"]())]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()

    both = ["of-the-child", "of-the-parent"]
    assert [json.loads(line) for line in output.splitlines()] == [
        both,
        [*both, "of-the-parent-again"],
        0,
    ]


async def told(store: str, how: str = "walk") -> tuple[Place, dict[str, set[str]]]:
    """Let processes die, one a request; return what each said before it did, by its folder."""
    place = PLACES[store]()
    command = [sys.executable, SCRIPT, how, json.dumps(place)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    lives: dict[str, set[str]] = {}
    for line in map(json.loads, output.splitlines()):
        if isinstance(line, dict):
            lives[line["folder"]] = set()
        else:
            lives[list(lives)[-1]].add(line)
    return place, lives


@pytest.mark.parametrize(
    "store", ["gcs", pytest.param("s3", marks=slow), pytest.param("azure", marks=slow)]
)
@pytest.mark.timeout(300)
async def test_a_process_that_dies_at_any_request_loses_nothing(store: str) -> None:
    """Of opening, enqueueing, claiming, storing a result and completing; others go on with it."""
    place, lives = await told(store)

    assert len(lives) > 8
    assert lives[list(lives)[-1]] == {"inserted", "claimed", "stored", "completed"}
    for folder, acknowledged in lives.items():
        backend = backend_at(list(place), folder)
        await verify(backend, acknowledged)
        await backend.disconnect()


async def verify(backend: FileBackend, acknowledged: set[str]) -> None:
    """Check that nothing acknowledged is lost, nothing is half done, and all of it can be run."""
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    tasks = {task.id: task for task in await queue.list_tasks()}
    assert tasks.keys() in ({}.keys(), SHORT_LIFE.keys())
    if not tasks:
        assert "inserted" not in acknowledged
        return
    assert all(tasks[name].status in allowed for name, allowed in SHORT_LIFE.items())
    done = tasks["first"].status is TaskStatus.COMPLETED
    assert done or "completed" not in acknowledged
    assert (tasks["child"].status is TaskStatus.PENDING) == done
    if done or "stored" in acknowledged:
        assert await results.get_result("first") == 1

    later = utcnow() + timedelta(seconds=61)
    ran: Counter[str] = Counter()
    while taken := await queue.claim(
        ["default"], worker_id="w2", lease_token=new_token(), limit=1, now=later
    ):
        ran[taken[0].id] += 1
        await queue.complete(taken[0], now=later)
    assert ran == Counter({"child", "other"} | (set() if done else {"first"}))
    assert await queue.enqueue(Task(func="next", unique_key="only-one", id="next")) == "next"


@pytest.mark.parametrize(
    "store", ["gcs", pytest.param("s3", marks=slow), pytest.param("azure", marks=slow)]
)
@pytest.mark.timeout(300)
async def test_a_publisher_that_dies_at_any_request_is_made_up_for(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process that works on the store publishes what the tree lacks."""
    place, lives = await told(store, "show")
    for name in ("INTERVAL_SECONDS", "FOLLOWER_SECONDS", "READER_SECONDS"):
        monkeypatch.setattr(publisher, name, 0.01)
    monkeypatch.setattr(tree, "SILENCE_SECONDS", 0.05)

    assert len(lives) > 20
    for folder in lives:
        backend = backend_at(list(place), folder)
        async with backend:
            await backend.get_task_queue().enqueue(Task(func="f", id="last"))
            await is_shown(backend)
