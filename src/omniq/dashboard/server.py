"""The dashboard by itself: its address, who may reach it, and a server that ends when told to."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from omniq.dashboard.extra import needed_for
from omniq.dashboard.guard import LoopbackOnly, SafeHeaders, is_loopback, require_password
from omniq.exceptions import ConfigError

with needed_for("dashboard"):
    import uvicorn

PASSWORD_VARIABLE = "OMNIQ_DASHBOARD_PASSWORD"  # noqa: S105 - the name of a variable
BACKLOG = 128
GOODBYE_SECONDS = 2
"""How long answers under way get at the end; without it, an open connection would hold it up."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at this address.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=kind, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen at {host!r}, port {port}: {error}; choose another --host or --port"
        ) from error


def url_of(listening: socket.socket) -> str:
    """Return where a browser finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def password_from(file: Path | None) -> str | None:
    """Return the password of the dashboard: from this file, else from the environment, if any.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--password-file {file}: {error}") from error


def guarded(app: ASGIApp, listening: socket.socket, password: str | None) -> ASGIApp:
    """Return an application that answers only those who may ask at this address.

    On loopback that is this machine, by one of its own names; anywhere else, who has the password.

    Raises:
        ConfigError: the address can be reached from elsewhere, and there is no password; or it is
            too short.
    """
    refuse_open(listening, password)
    asking = app if password is None else require_password(app, password)
    return SafeHeaders(LoopbackOnly(asking) if _is_local(listening) else asking)


def refuse_open(listening: socket.socket, password: str | None) -> None:
    """Refuse an address that others can reach, where there is no password. Raises ConfigError."""
    if password is None and not _is_local(listening):
        raise ConfigError(
            f"{listening.getsockname()[0]} can be reached from other machines, so the dashboard "
            f"needs a password: --password-file FILE (not for omniq dev) or ${PASSWORD_VARIABLE}"
        )


def _is_local(listening: socket.socket) -> bool:
    return is_loopback(str(listening.getsockname()[0]))


def problem_page(text: str) -> ASGIApp:
    """Return an application that says why there is no dashboard now; browsers ask again."""
    return PlainTextResponse(text, 503, headers={"Refresh": "2"})


class Server(uvicorn.Server):
    """A server of uvicorn whose process keeps its signals to itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GOODBYE_SECONDS,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: a worker beside it hears them, too."""
        yield

    def stop(self, *_: object) -> None:
        """Answer what was asked, then end; asked again, end at once."""
        self.force_exit, self.should_exit = self.should_exit, True


@asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket) -> AsyncGenerator[Server]:
    """Answer at this address while the block runs."""
    server = Server(app)
    running = asyncio.create_task(server.serve([listening]), name="omniq-dashboard")
    try:
        yield server
    finally:
        server.stop()
        await asyncio.wait([running])


async def serve_until_stopped(
    app: ASGIApp, listening: socket.socket, *, parent_fd: int | None = None
) -> None:
    """Answer at this address until SIGTERM or SIGINT, or until the process at a pipe is gone."""
    server = Server(app)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends the process
            loop.add_signal_handler(number, server.stop)
    if parent_fd is not None:
        loop.add_reader(parent_fd, server.stop)
    await server.serve([listening])
