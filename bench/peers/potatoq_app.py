"""The application that potatoq's worker command imports."""

from __future__ import annotations

import os

from potatoq import Potatoq

from bench.recorder import DIRECTORY_VARIABLE, record

app = Potatoq("bench", broker=f"sqlite:///{os.environ[DIRECTORY_VARIABLE]}/potatoq.db")


@app.task(name="noop")
def noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
