"""`omniq worker`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from omniq.cli.target import load
from omniq.worker.health import clear
from omniq.worker.processes import Supervisor
from omniq.worker.serve import ServeOptions, serve
from omniq.worker.worker import Worker

Flag = Parameter(negative=())
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def worker(
    app: Annotated[str, Parameter(help="module, module:attr, file.py or file.py:attr")],
    *,
    queues: Annotated[
        tuple[str, ...],
        Parameter(
            name=["--queues", "-q"],
            negative=(),
            help="Queues in strict order; repeat or separate by commas.",
        ),
    ] = (),
    concurrency: Annotated[
        int, Parameter(name=["--concurrency", "-c"], help="Tasks running at once in each process.")
    ] = 32,
    processes: Annotated[
        int,
        Parameter(
            name=["--processes", "-p"],
            validator=Number(gte=1, lte=256),
            help="Worker processes; with more than one, a supervisor restarts those that die.",
        ),
    ] = 1,
    burst: Annotated[bool, Flag] = False,
    grace: Annotated[float, Parameter(help="Seconds running tasks get to end on a stop.")] = 20.0,
    lease: Annotated[float | None, Parameter(help="Seconds a silent worker keeps a task.")] = None,
    schedules: Annotated[bool, Parameter(help="Fire schedules.")] = True,
    allow_module: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(), help="Also run unregistered functions of this module; repeat for more."
        ),
    ] = (),
    health_file: Annotated[
        str | None, Parameter(help="Touch this file whenever the queue answered; see omniq health.")
    ] = None,
    log_level: LogLevel = "INFO",
) -> int:
    """Run tasks until stopped by Ctrl-C or SIGTERM; a second one gives running tasks back at once.

    Args:
        burst: End when nothing is claimable any more.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """
    names = [name for item in queues for name in item.split(",") if name]
    options: dict[str, Any] = {
        "queues": names or None,
        "concurrency": concurrency,
        "burst": burst,
        "grace_seconds": grace,
        "lease_seconds": lease,
        "schedules": schedules,
        "allow_modules": list(allow_module),
        "health_file": health_file,
    }
    serving = ServeOptions(app=app, worker=options, log_level=log_level)
    Worker(load(app), **options)  # refuse bad options and broken applications before any start
    if health_file is not None:
        clear(health_file)
    if processes == 1:
        serve(serving)
        return 0
    return Supervisor(serving, processes, grace_seconds=grace).run()
