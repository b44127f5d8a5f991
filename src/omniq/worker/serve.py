"""One worker process: signals, event loop, log lines."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from omniq.exceptions import OmniQError, StorageError
from omniq.worker.loader import load_app
from omniq.worker.metrics import MetricsAddress, metrics_served
from omniq.worker.worker import Worker

logger = logging.getLogger(__name__)
NO_STORE = 3
"""Exit code of a process whose store cannot be reached or used, as of the command itself."""
EXIT_SECONDS = 2.0
"""How long a supervised process takes at its end for what was registered with `atexit`."""


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker process is told.

    Attributes:
        app: the application, see `load_app`.
        worker: keyword arguments of `Worker`.
        log_level: of the root logger.
        metrics: where to serve what is counted.
        parent_fd: a pipe that ends when the supervisor does; then this process stops too.
    """

    app: str
    worker: dict[str, Any] = {}
    log_level: str = "INFO"
    metrics: MetricsAddress | None = None
    parent_fd: int | None = None


def serve(options: ServeOptions) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal gives running tasks back at once."""
    configure_logging(options.log_level)
    app = load_app(options.app)
    worker = Worker(app, **options.worker)
    collect_garbage_rarely()
    with (
        metrics_served(app, options.metrics),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(_serve(worker, options.parent_fd))


async def _serve(worker: Worker, parent_fd: int | None) -> None:
    await run_until_stopped(worker, parent_fd)
    await worker.app.disconnect()


async def run_until_stopped(worker: Worker, parent_fd: int | None) -> None:
    """Run a worker until SIGTERM or SIGINT, or until the process at `parent_fd` is gone."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process
            loop.add_signal_handler(number, worker.stop)
    if parent_fd is not None:
        loop.add_reader(parent_fd, _parent_gone, worker, parent_fd)
    await worker.run()


def _parent_gone(worker: Worker, parent_fd: int) -> None:
    asyncio.get_running_loop().remove_reader(parent_fd)
    logger.warning("the supervisor is gone; worker %s stops", worker.id)
    worker.stop()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's maker of event loops where it is installed, else None."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def collect_garbage_rarely() -> None:
    """Look for reference cycles less often than Python does; what is loaded by now, never.

    A worker makes many short-lived objects that reference counting frees. Measured: 10 to 20 % of
    its time went into looking through them for cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def configure_logging(level: str) -> None:
    """Send log lines of this level on to standard error, for the command line."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s %(message)s"
    )


def main() -> None:
    """Entry of a supervised process: its options come as JSON in the only argument."""
    code = 0
    try:
        serve(msgspec.convert(json.loads(sys.argv[1]), ServeOptions))
    except OmniQError as error:
        logger.error("%s", error)  # noqa: TRY400 - no bug of ours; as the command says it alone
        code = NO_STORE if isinstance(error, StorageError) else 1
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End after what was registered for it: exporters of traces and errors send their last there.

    Neither that nor a thread stuck in C code holds the process for long.
    """
    run_registered = atexit._run_exitfuncs  # pyright: ignore[reportPrivateUsage] - nothing public runs them before `_exit`
    ending = threading.Thread(target=run_registered, name="omniq-exit", daemon=True)
    ending.start()
    ending.join(EXIT_SECONDS)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
