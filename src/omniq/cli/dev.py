"""`omniq dev`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from omniq.cli.dashboard import PORT, Port, say_where
from omniq.cli.target import refuse_store
from omniq.cli.worker import Queues, queue_names
from omniq.clock import check_seconds
from omniq.exceptions import ConfigError
from omniq.models.checks import check_limit, check_queues
from omniq.worker.serve import configure_logging

GRACE_SECONDS = 2.0
"""How long running tasks get to end before a restart gives them back."""


def dev(
    app: str,
    *,
    queues: Queues = (),
    concurrency: Annotated[int, Parameter(name=["--concurrency", "-c"])] = 32,
    host: str = "127.0.0.1",
    port: Port = PORT,
    dashboard: bool = True,
    watch: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    grace: float = GRACE_SECONDS,
) -> int:
    """Run a worker and the dashboard while you write, anew with each change; Ctrl-C ends it.

    Args:
        app: module, module:attr, file.py or file.py:attr.
        queues: Queues in strict order; repeat or separate by commas.
        concurrency: Tasks running at once.
        host: Address of the dashboard. Any but this machine's own needs $OMNIQ_DASHBOARD_PASSWORD.
        port: Port of the dashboard; 0 takes a free one.
        dashboard: Show the dashboard.
        watch: Folder whose Python files are watched; repeat for more. Default: the current one.
        grace: Seconds running tasks get to end before they are given back.
    """
    from omniq.dashboard.extra import needed_for

    if sys.platform == "win32":
        raise ConfigError("omniq dev needs Unix; run omniq worker and omniq dashboard instead")
    with needed_for("dev"):
        from omniq.cli.reloading import Reloader
    from omniq.dashboard.server import listen, password_from, refuse_open

    refuse_store(app)
    names = queue_names(queues)
    if names is not None:
        check_queues(names)
    options = {
        "queues": names,
        "concurrency": check_limit("concurrency", concurrency),
        "grace_seconds": check_seconds("grace", grace),
    }
    configure_logging("INFO")
    reloader = Reloader(app, options, _watched(app, watch))
    if not dashboard:
        return asyncio.run(reloader.run(None))
    with listen(host, port) as listening:
        refuse_open(listening, password_from(None))
        say_where(listening)
        return asyncio.run(reloader.run(listening))


def _watched(app: str, given: tuple[Path, ...]) -> list[Path]:
    """Return the folders to watch. Raises ConfigError."""
    for folder in given:
        if not folder.exists():
            raise ConfigError(f"--watch {folder}: there is no such file or folder")
    if given:
        return list(given)
    file = Path(app.partition(":")[0]).resolve()
    here = Path.cwd()
    is_elsewhere = file.is_file() and not file.is_relative_to(here)
    return [here, file.parent] if is_elsewhere else [here]
