"""Workers that write down what they run, to be killed in a storm; run by test_history.

python storm_app.py <lease seconds>

Forks a worker for each line of input and says its process id: forked from a process that has all
modules loaded, a worker is there in a moment. Its store is named by OMNIQ_URL.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from omniq import OmniQ, Snooze, Worker, current_task

q = OmniQ()
Value = list[object]


@contextmanager
def written_down() -> Generator[Value]:
    """Note start and end of the run; give what the task returns."""
    task = current_task().task
    note("start", task.id, task.claim_count)
    end = "failed"
    try:
        yield [task.id, task.claim_count, os.getpid()]
        end = "ok"
    except Snooze:
        end = "snoozed"
        raise
    except asyncio.CancelledError:
        end = ""
        raise
    finally:
        if end:
            note(end, task.id, task.claim_count)


def note(what: str, task_id: str, claim: int) -> None:
    """Append a line in one write: a killed process leaves whole lines."""
    line = json.dumps([what, task_id, claim, time.monotonic()])
    with Path(os.environ["TEST_FOLDER"], f"{os.getpid()}.log").open("ab", buffering=0) as log:
        log.write(f"{line}\n".encode())


@q.task(name="steady")
async def steady(seconds: float) -> Value:
    """Take a moment."""
    with written_down() as value:
        await asyncio.sleep(seconds)
        return value


@q.task(name="threaded")
def threaded(seconds: float) -> Value:
    """Take a moment, in a thread."""
    with written_down() as value:
        time.sleep(seconds)
        return value


@q.task(name="flaky")
async def flaky(failures: int) -> Value:
    """Fail that many attempts."""
    with written_down() as value:
        if current_task().attempt <= failures:
            raise ValueError("not yet")
        return value


@q.task(name="drowsy")
async def drowsy() -> Value:
    """Ask for more time once."""
    with written_down() as value:
        if current_task().task.claim_count == 1:
            raise Snooze(0.05)
        return value


async def work(lease_seconds: float) -> None:
    """Be a worker until SIGTERM."""
    worker = Worker(q, concurrency=6, lease_seconds=lease_seconds, cleanup=False, schedules=False)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await q.disconnect()


def main(lease_seconds: float) -> None:
    """Fork workers on demand; when the input ends, kill those that are left."""
    started: list[int] = []
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    while sys.stdin.readline():
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(work(lease_seconds))
            os._exit(0)
        started.append(process)
        print(process, flush=True)
    for process in started:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main(float(sys.argv[1]))
