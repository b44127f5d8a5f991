"""The application that the worker processes of the tests serve; its store is named by OMNIQ_URL."""

from __future__ import annotations

import os
import time
from pathlib import Path

from omniq import OmniQ, current_task

q = OmniQ()


@q.task
async def note(number: int) -> int:
    """Append a line to this process's own file: what ran, where, as which claim."""
    _append(f"{number} {current_task().task.claim_count}\n")
    return number


@q.task
def hold(number: int, seconds: float) -> int:
    """Take a while; say so at the start and at the end."""
    _append(f"start {number} {current_task().task.claim_count}\n")
    time.sleep(seconds)
    _append(f"end {number} {current_task().task.claim_count}\n")
    return number


@q.task(max_retries=5)
async def die() -> None:
    """End the process as a crash would."""
    os._exit(17)


def _append(line: str) -> None:
    with Path(os.environ["TEST_FOLDER"], f"{os.getpid()}.log").open("a") as log:
        log.write(line)
