"""The application that the worker processes of `test_workers` serve; TEST_PLACE says where."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from omniq import OmniQ, current_task
from omniq.backend.file import FileBackend

q = OmniQ(backend=FileBackend(*json.loads(os.environ["TEST_PLACE"])))


@q.task
async def note(number: int) -> int:
    """Append a line to this process's own file: what ran, as which claim."""
    _append(f"{number} {current_task().task.claim_count}\n")
    return number


@q.task
def hang_once(number: int) -> int:
    """Never end in the first run."""
    claim_count = current_task().task.claim_count
    _append(f"{number} {claim_count}\n")
    if claim_count == 1:
        time.sleep(600)
    return number


def _append(line: str) -> None:
    with Path(os.environ["TEST_FOLDER"], f"{os.getpid()}.log").open("a") as log:
        log.write(line)
