"""The commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version as distribution_version
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from omniq.cli import (
    completion,
    config,
    doctor,
    health,
    migrate,
    move,
    queues,
    schedules,
    schema,
    status,
    tasks,
    worker,
)
from omniq.cli.exits import Exit, exit_code
from omniq.cli.output import Json, print_json, tell_error
from omniq.exceptions import OmniQError

DISTRIBUTION = "omniq-tasks"


def installed_version() -> str:
    """Return the version of the installed distribution."""
    return distribution_version(DISTRIBUTION)


cli = App(
    name="omniq",
    help="OmniQ: the same task queue on every store.",
    version=installed_version,
    version_flags=["--version"],
)
cli.command(worker.worker)
cli.command(tasks.enqueue)
cli.command(tasks.tasks)
cli.command(queues.queues)
cli.command(schedules.schedules)
cli.command(status.status)
cli.command(doctor.doctor)
cli.command(health.health)
cli.command(config.config)
cli.command(migrate.migrate)
cli.command(move.move)
cli.command(completion.completion)
cli.command(schema.migrate_schema)


@cli.command
def version(
    *,
    json: Json = False,
    verbose: Annotated[bool, Parameter(negative=(), help="Also the versions underneath.")] = False,
) -> None:
    """Print the version."""
    told = {"omniq": installed_version()}
    if verbose or json:
        told |= status.environment()
    if json:
        print_json(told)
    else:
        sys.stdout.write("\n".join(f"{name} {number}" for name, number in told.items()) + "\n")


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit; see `omniq.cli.exits` for the codes."""
    sys.exit(execute(arguments))


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code."""
    try:
        result = cli(arguments, exit_on_error=False, print_error=True)
    except (OmniQError, KeyboardInterrupt) as error:
        if isinstance(error, OmniQError):
            tell_error(str(error))
        return exit_code(error)
    except SystemExit as error:
        return int(error.code or 0)
    except CycloptsError:
        return Exit.USAGE
    return int(result or 0)
