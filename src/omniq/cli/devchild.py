"""The child process of `omniq dev`: a worker, with the dashboard in the same event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from omniq.cli.exits import exit_code
from omniq.cli.output import tell_error
from omniq.cli.target import load
from omniq.core import OmniQ
from omniq.exceptions import OmniQError
from omniq.worker.serve import configure_logging, end_process, loop_factory, run_until_stopped

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)


class DevOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told.

    Attributes:
        app: the application, see `load_app`.
        worker: keyword arguments of `Worker`.
        dashboard_fd: the socket of the dashboard, if it is wanted.
        parent_fd: a pipe that ends when the parent does; then this process stops too.
    """

    app: str
    worker: dict[str, Any]
    dashboard_fd: int | None
    parent_fd: int


def main() -> None:
    """Entry of the process: its options come as JSON in the only argument."""
    configure_logging("INFO")
    options = msgspec.convert(json.loads(sys.argv[1]), DevOptions)
    if options.dashboard_fd is not None:  # programs that tasks start must not hold the port
        os.set_inheritable(options.dashboard_fd, False)
    code = 0
    try:
        app = load(options.app)
        _run(_work(app, options))
    except OmniQError as error:
        tell_error(str(error))
        code = exit_code(error)
        if options.dashboard_fd is not None:
            logger.warning("waiting for a change")
            _run(_show(str(error), options))
    end_process(code)


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work)


async def _work(app: OmniQ, options: DevOptions) -> None:
    from omniq.dashboard import dashboard
    from omniq.dashboard.server import serving

    worker = app.worker(**options.worker)
    async with AsyncExitStack() as stack:
        if options.dashboard_fd is not None:
            listening = _socket_of(options.dashboard_fd)
            site = _guarded(dashboard(app), listening)
            await stack.enter_async_context(serving(site, listening))
        await run_until_stopped(worker, options.parent_fd)
    await app.disconnect()


async def _show(problem: str, options: DevOptions) -> None:
    """Show what is wrong in the place of the dashboard, until told to stop."""
    from omniq.dashboard.server import problem_page, serve_until_stopped

    assert options.dashboard_fd is not None  # noqa: S101 - seen by the caller
    listening = _socket_of(options.dashboard_fd)
    text = f"{problem}\n\nomniq dev waits for a change of the code.\n"
    site = _guarded(problem_page(text), listening)
    await serve_until_stopped(site, listening, parent_fd=options.parent_fd)


def _socket_of(number: int) -> socket.socket:
    """Return the socket of the dashboard; a server closes its own copy when it ends."""
    return socket.socket(fileno=os.dup(number))


def _guarded(site: ASGIApp, listening: socket.socket) -> ASGIApp:
    from omniq.dashboard.server import guarded, password_from

    return guarded(site, listening, password_from(None))
