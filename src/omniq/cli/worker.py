"""`omniq worker`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from omniq.cli.target import load
from omniq.exceptions import ConfigError, ValidationError
from omniq.worker.health import clear
from omniq.worker.metrics import MetricsAddress, check_metrics
from omniq.worker.processes import Supervisor
from omniq.worker.serve import ServeOptions, configure_logging, serve
from omniq.worker.worker import Worker

Flag = Parameter(negative=())
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Queues = Annotated[tuple[str, ...], Parameter(name=["--queues", "-q"], negative=())]
Processes = Annotated[int, Parameter(name=["--processes", "-p"], validator=Number(gte=1, lte=256))]


def worker(
    app: str,
    *,
    queues: Queues = (),
    concurrency: Annotated[int, Parameter(name=["--concurrency", "-c"])] = 32,
    processes: Processes = 1,
    burst: Annotated[bool, Flag] = False,
    grace: float = 20.0,
    lease: float | None = None,
    schedules: bool = True,
    allow_module: Annotated[tuple[str, ...], Flag] = (),
    health_file: str | None = None,
    metrics_port: int | None = None,
    metrics_host: str | None = None,
    log_level: LogLevel = "INFO",
) -> int:
    """Run tasks until stopped by Ctrl-C or SIGTERM; a second one gives running tasks back at once.

    Args:
        app: module, module:attr, file.py or file.py:attr.
        queues: Queues in strict order; repeat or separate by commas.
        concurrency: Tasks running at once in each process.
        processes: Worker processes; with more than one, a supervisor restarts those that die.
        burst: End when nothing is claimable any more.
        grace: Seconds running tasks get to end on a stop.
        lease: Seconds a silent worker keeps a task.
        schedules: Fire schedules.
        allow_module: Also run unregistered functions of this module; repeat for more.
        health_file: Touch this file whenever the queue answered; see omniq health.
        metrics_port: Count what is done, and serve it for Prometheus at this port; of several
            processes, at this and the next ones.
        metrics_host: The address of this machine to serve metrics at; 127.0.0.1 if left out.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """
    options: dict[str, Any] = {
        "queues": queue_names(queues),
        "concurrency": concurrency,
        "burst": burst,
        "grace_seconds": grace,
        "lease_seconds": lease,
        "schedules": schedules,
        "allow_modules": list(allow_module),
        "health_file": health_file,
    }
    metrics = _metrics(metrics_host, metrics_port)
    serving = ServeOptions(app=app, worker=options, log_level=log_level, metrics=metrics)
    Worker(known := load(app), **options)  # refuse bad options and broken applications at once
    if metrics is not None:
        check_metrics(known, metrics, processes)
    if health_file is not None:
        clear(health_file)
    if processes == 1:
        serve(serving)
        return 0
    configure_logging(log_level)
    return Supervisor(serving, processes, grace_seconds=grace).run()


def queue_names(given: tuple[str, ...]) -> list[str] | None:
    """Return the names of queues as they were given: several times, or separated by commas.

    None where nothing was given at all.

    Raises:
        ValidationError: what was given names no queue.
    """
    names = [name for item in given for name in item.split(",") if name]
    if given and not names:
        raise ValidationError("queues", "names none; is the variable it is made from unset?")
    return names or None


def _metrics(host: str | None, port: int | None) -> MetricsAddress | None:
    if port is not None:
        return MetricsAddress(host=host or "127.0.0.1", port=port)
    if host is not None:
        raise ConfigError("--metrics-host says where to serve --metrics-port; give that, too")
    return None
