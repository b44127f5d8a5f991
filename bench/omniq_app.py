"""The application that OmniQ's worker command imports."""

from __future__ import annotations

import os

from bench.recorder import DIRECTORY_VARIABLE, record
from omniq import OmniQ

path = f"{os.environ[DIRECTORY_VARIABLE]}/omniq.db"
q = OmniQ(f"sqlite:///{path}?durability={os.environ['BENCH_DURABILITY']}")


@q.task
async def noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
