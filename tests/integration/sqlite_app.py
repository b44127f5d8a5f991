"""Other processes on one SQLite file; run by test_sqlite_processes.

python sqlite_app.py create <path> <processes>  open the new file in all of them at once
python sqlite_app.py fork <path>                use one queue before and after a fork
python sqlite_app.py fork-busy <path>           fork, with all threads at work
python sqlite_app.py put <path> <task id>       enqueue once told to by a line of input
python sqlite_app.py wait <path>                listen for work until there is some
python sqlite_app.py bury <path>                end the leases of the dead
python sqlite_app.py work <path> <worker id>    live as this worker, with a task, until killed
python sqlite_app.py lend <path>                fork a child, then die while writing
python sqlite_app.py walk <folder> <files>      die at each step of some work, then recover
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

from omniq import OmniQ, RetryPolicy, Worker, current_task
from omniq.backend.sqlite import SQLiteBackend
from omniq.ids import new_token
from omniq.models.task import Task
from omniq.storage.sqlite import Database, SQLiteQueue
from omniq.testing.waiting import wait_until

DIED = 42
MOST_STEPS = 200


def child(run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> int:
    """Fork; run this in the child, and end that."""
    process = os.fork()
    if process == 0:
        signal.alarm(30)  # whatever happens, no child outlives its test
        code = 1
        try:
            asyncio.run(run(*args))
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return process


def forked(run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> int:
    """Run this in a forked child; return its exit code."""
    return exit_code(child(run, *args))


def exit_code(process: int) -> int:
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def create(path: str, processes: int) -> None:
    """Open the same new file in several processes at the same moment."""
    reading, writing = os.pipe()

    async def enqueue(number: int) -> None:
        os.close(writing)
        os.read(reading, 1)  # returns when the parent closes its end
        async with SQLiteQueue(path) as queue:
            await queue.enqueue(Task(func="f", id=f"t{number}"))

    started = [child(enqueue, number) for number in range(processes)]
    os.close(writing)
    codes = [exit_code(process) for process in started]
    say(codes=codes)


def fork(path: str) -> None:
    """Use an open queue in a forked child, which ends like any program; then go on with it."""
    queue = SQLiteQueue(path)
    queue.enqueue_sync(Task(func="f", id="of-the-parent"))
    queue.wait_sync(["default"], 0.01)  # so that the parent has wake-up sockets
    process = os.fork()
    if process == 0:
        queue.wait_final_sync(["of-the-parent"], 0.01)
        queue.enqueue_sync(Task(func="f", id="of-the-child"))
        say(child=sorted(task.id for task in queue.list_tasks_sync()), sockets=sockets(path))
        queue.close_sync()
        sys.exit(0)
    code = exit_code(process)
    queue.enqueue_sync(Task(func="f", id="of-the-parent-again"))
    found = sorted(task.id for task in queue.list_tasks_sync())
    say(code=code, parent=found, sockets=sockets(path))
    queue.close_sync()
    with closing(sqlite3.connect(path)) as connection, connection:
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    say(integrity=integrity, sockets=sockets(path))


async def fork_busy(path: str) -> None:
    """Fork while both threads of the database are at work."""
    queue = SQLiteQueue(path, durability="fast")

    async def use(_number: int) -> None:
        await queue.get_queue_size()

    async def work_on() -> None:
        while True:
            await asyncio.gather(queue.insert([Task(func="f")]), queue.find(limit=200))

    working = [asyncio.create_task(work_on()) for _ in range(4)]
    codes: list[int] = []
    for number in range(30):
        await queue.find(limit=200)
        codes.append(await asyncio.to_thread(forked, use, number))
    for task in working:
        task.cancel()
    say(codes=codes)


def sockets(path: str) -> int:
    return len(list(Path(f"{path}-wake").glob("*.sock")))


def put(path: str, task_id: str) -> None:
    """Enqueue when told to."""
    with SQLiteQueue(path) as queue:
        say(ready=True)
        sys.stdin.readline()
        queue.enqueue_sync(Task(func="f", id=task_id))


def wait(path: str) -> None:
    """Listen for work, and say how many sockets there are meanwhile."""

    async def main() -> None:
        before = sockets(path)
        async with SQLiteQueue(path) as queue:
            waiting = asyncio.create_task(queue.wait(["default"], 10))
            await wait_until(lambda: sockets(path) > before, description="there are sockets")
            say(sockets=sockets(path))
            await waiting

    asyncio.run(main())


def bury(path: str) -> None:
    """Say who is dead."""
    with SQLiteQueue(path) as queue:
        say(dead=queue.end_dead_leases_sync())


def work(path: str, worker_id: str) -> None:
    """Hold a task for an hour."""
    queue = SQLiteQueue(path)
    queue.announce_sync(worker_id)
    held = queue.claim_sync(
        ["default"], worker_id=worker_id, lease_token=new_token(), lease_seconds=3600
    )
    say(held=[task.id for task in held])
    sys.stdin.readline()


async def lend(path: str) -> None:
    """Leave a forked child behind, which inherited all that was open, and die mid-transaction."""
    database = Database(path)
    await database.open(database)
    process = os.fork()
    if process == 0:
        sys.stdin.readline()
        os._exit(0)
    say(child=process)
    doom = Doom(0)
    await database.write(lambda transaction: transaction.connection.set_trace_callback(doom))


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


# Dying at each step


class Doom:
    """Ends the process before the statement of that number that begins or ends a transaction."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, statement: str) -> None:
        if statement in {"BEGIN IMMEDIATE", "COMMIT"}:
            if self._left == 0:
                os._exit(DIED)
            self._left -= 1


def application(folder: Path, files: int) -> tuple[OmniQ, list[SQLiteBackend]]:
    """Return an application that keeps everything in one file, or results and events apart."""
    names = ["tasks", "results", "events"] if files > 1 else ["tasks"]
    backends = [SQLiteBackend(folder / f"{name}.db", durability="fast") for name in names]
    tasks, results, events = backends * (3 // files)
    app = OmniQ(backend=tasks, results=results, events=events)

    async def note(name: str) -> str:
        claim = current_task().task.claim_count
        with (folder / "runs.log").open("a") as log:
            log.write(json.dumps([name, claim]) + "\n")
        if name == "flaky" and claim == 1:
            raise ValueError("the first run always fails")
        return f"{name} {claim}"

    app.task(name="note", retry=RetryPolicy(max_retries=9, delay_seconds=0))(note)
    return app, backends


async def work_until_death(folder: Path, files: int, step: int) -> None:
    """Enqueue a family of tasks and run it, to the end or to the step that kills."""
    app, backends = application(folder, files)
    async with app:
        doom = Doom(step)
        for backend in backends:
            await backend.database.write(
                lambda transaction: transaction.connection.set_trace_callback(doom)
            )
        note = app.task_function("note")
        for name, options in FAMILY.items():
            await note.options(task_id=name, **options).enqueue(name)
            with (folder / "acknowledged.log").open("a") as log:
                log.write(f"{name}\n")
        await Worker(app, worker_id="doomed", burst=True, cleanup=False, schedules=False).run()


FAMILY: dict[str, Any] = {
    "parent": {"unique_key": "key"},
    "child": {"depends_on": ["parent"]},
    "flaky": {},
}


async def recover(folder: Path, files: int) -> None:
    """Run what is left, as a neighbour that noticed the death; write down what the store holds."""
    app, _ = application(folder, files)
    await app.task_queue.end_dead_leases()
    await Worker(app, worker_id="heir", burst=True, cleanup=False, schedules=False).run()
    tasks = await app.list_tasks(limit=None)
    results = await app.result_storage.get_many([task.id for task in tasks])
    facts = {
        task.id: {
            "status": task.status,
            "claim": task.claim_count,
            "result": None if result is None else [result.claim_count, result.result],
            "events": [str(event.event_type) for event in await app.get_events(task.id)],
        }
        for task, result in zip(tasks, results, strict=True)
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def walk(base: Path, files: int) -> None:
    """Do the work again and again, each time dying one step later, until it is done unharmed."""
    for step in range(MOST_STEPS):
        folder = base / f"{step:03d}"
        folder.mkdir()
        code = forked(work_until_death, folder, files, step)
        assert code in {0, DIED}, code
        assert forked(recover, folder, files) == 0
        if code == 0:
            return
    raise AssertionError(f"not done after {MOST_STEPS} steps")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create", path, processes]:
            create(path, int(processes))
        case ["fork", path]:
            fork(path)
        case ["fork-busy", path]:
            asyncio.run(fork_busy(path))
        case ["put", path, task_id]:
            put(path, task_id)
        case ["wait", path]:
            wait(path)
        case ["bury", path]:
            bury(path)
        case ["work", path, worker_id]:
            work(path, worker_id)
        case ["lend", path]:
            asyncio.run(lend(path))
        case ["walk", folder, files]:
            walk(Path(folder), int(files))
        case _:
            sys.exit(f"unknown: {sys.argv[1:]}")
