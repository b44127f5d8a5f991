"""`manage.py omniq_worker`: runs the tasks of one entry of TASKS."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from omniq.cli.exits import exit_code
from omniq.cli.worker import worker
from omniq.exceptions import OmniQError
from omniq.integrations.django.api import task_backends
from omniq.integrations.django.backend import OmniQBackend

_TARGET = "omniq.integrations.django.worker"


class Command(BaseCommand):
    """Run tasks until stopped; see `omniq worker --help` for what the options mean."""

    help = "Run Django tasks by OmniQ until stopped by Ctrl-C or SIGTERM."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options of `omniq worker`, and which entry of TASKS is meant."""
        parser.add_argument("--backend", default="default", help="Which entry of TASKS.")
        parser.add_argument(
            "--queues", "-q", help="Comma-separated, in strict order. Default: all."
        )
        parser.add_argument("--concurrency", "-c", type=int, default=32)
        parser.add_argument("--processes", "-p", type=int, default=1)
        parser.add_argument("--burst", action="store_true", help="End when nothing is left to do.")
        parser.add_argument("--grace", type=float, default=20.0, metavar="SECONDS")
        parser.add_argument("--lease", type=float, default=None, metavar="SECONDS")
        parser.add_argument("--metrics-port", type=int, default=None, metavar="PORT")
        parser.add_argument("--metrics-host", default=None, metavar="HOST")
        parser.add_argument("--log-level", default="INFO")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run; the exit codes are those of `omniq worker`."""
        alias = options["backend"]
        if alias not in task_backends.settings:
            raise CommandError(f"there is no TASKS[{alias!r}]")
        backend = task_backends[alias]
        if not isinstance(backend, OmniQBackend):
            raise CommandError(f"TASKS[{alias!r}] is no OmniQBackend")
        names = options["queues"].split(",") if options["queues"] else backend.queue_names
        try:
            code = worker(
                f"{_TARGET}:apps.{alias}",
                queues=tuple(names or ["default"]),
                concurrency=options["concurrency"],
                processes=options["processes"],
                burst=options["burst"],
                grace=options["grace"],
                lease=options["lease"],
                metrics_port=options["metrics_port"],
                metrics_host=options["metrics_host"],
                log_level=options["log_level"],
            )
        except OmniQError as error:
            raise CommandError(str(error), returncode=exit_code(error)) from error
        if code:
            sys.exit(code)
