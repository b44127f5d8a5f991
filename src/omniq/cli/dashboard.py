"""`omniq dashboard`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from omniq.cli.output import console
from omniq.cli.target import Target, open_target
from omniq.core import OmniQ
from omniq.exceptions import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PORT = 8989
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65_535))]


def dashboard(
    *,
    app: Target = None,
    host: str = "127.0.0.1",
    port: Port = PORT,
    read_only: Annotated[bool, Parameter(negative=())] = False,
    password_file: Path | None = None,
) -> int:
    """Show queues, tasks and schedules in a browser, until stopped by Ctrl-C.

    Args:
        host: Address to listen at. Any but this machine's own needs a password.
        port: Port to listen at; 0 takes a free one.
        read_only: Nothing can be cancelled, run again or paused.
        password_file: Holds the password; else $OMNIQ_DASHBOARD_PASSWORD does, if set.
    """
    from omniq.dashboard import dashboard as pages_of
    from omniq.dashboard.server import guarded, listen, password_from

    shown = open_target(app)
    if not shown.task_queue.capabilities.shared:
        raise ConfigError(
            "this application keeps its tasks in its own process, where nobody else sees them; "
            "mount the dashboard in it, or use `omniq dev`"
        )
    with listen(host, port) as listening:
        site = guarded(
            pages_of(shown, read_only=read_only), listening, password_from(password_file)
        )
        asyncio.run(_serve(shown, site, listening))
    return 0


async def _serve(shown: OmniQ, site: ASGIApp, listening: socket.socket) -> None:
    from omniq.dashboard.server import serve_until_stopped

    async with shown:
        say_where(listening)
        await serve_until_stopped(site, listening)


def say_where(listening: socket.socket) -> None:
    """Print where a browser finds the dashboard."""
    from omniq.dashboard.server import url_of

    console().print(f"dashboard: {url_of(listening)}", markup=False)
