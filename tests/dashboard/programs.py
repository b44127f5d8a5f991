"""`omniq dashboard` and `omniq dev` as processes of their own, on a free port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

from omniq.testing.waiting import wait_until

PATIENCE = 60.0
"""Processes start slowly on a busy machine."""


class Program:
    """A command that runs in a folder, and what it says."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._log = folder / "said.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "omniq", *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        """Everything it printed and logged so far."""
        return self._log.read_text()

    async def says(self, text: str, *, times: int = 1) -> None:
        """Wait until it has said this, so many times."""

        def is_said() -> bool:
            assert self.process.poll() is None, self.said()
            return self.said().count(text) >= times

        await wait_until(is_said, description=f"it says {text!r}", timeout=PATIENCE)

    async def url(self) -> str:
        """Return where its dashboard is."""
        await self.says("dashboard: http")
        (url,) = re.findall(r"dashboard: (\S+/)\n", self.said())
        return str(url)

    async def shows(self, path: str, text: str, *, status: int = 200) -> httpx.Response:
        """Wait until a page shows this; return the answer."""
        url = await self.url()
        answers: list[httpx.Response] = []

        async def is_shown() -> bool:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                answers.append(await client.get(url + path.lstrip("/")))
            return answers[-1].status_code == status and text in answers[-1].text

        await wait_until(is_shown, description=f"{path} shows {text!r}", timeout=PATIENCE)
        return answers[-1]

    async def ends(self, number: int = signal.SIGINT, *, seconds: float = 20) -> int:
        """Send a signal, as Ctrl-C does; return the exit code."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, seconds)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def program(folder: Path, *arguments: str, **environment: str) -> Generator[Program]:
    """Run a command while the block does."""
    running = Program(folder, *arguments, **environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            try:
                running.process.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
