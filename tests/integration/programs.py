"""Other processes that a test starts, talks with and ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

APP = str(Path(__file__).with_name("sqlite_app.py"))
Start = Callable[..., "Program"]


class Program:
    """A run of sqlite_app.py: what it says, line by line, and its input."""

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, APP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def says(self) -> dict[str, Any]:
        """Return the next facts it tells."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line, f"{self.process.args!r} ended with {self.process.wait()}"
        return dict(json.loads(line))

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it and close its pipes."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def programs() -> Generator[Start]:
    """Start programs with these arguments; they end with the block."""
    started: list[Program] = []

    def start(*arguments: object, prefix: tuple[str, ...] = ()) -> Program:
        started.append(Program(*map(str, arguments), prefix=prefix))
        return started[-1]

    try:
        yield start
    finally:
        for program in started:
            program.end()
