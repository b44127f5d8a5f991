"""The commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter, UnusedCliTokensError
from rich.console import Console

from omniq.cli import (
    completion,
    config,
    dashboard,
    dev,
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
cli.command(dashboard.dashboard)
cli.command(dev.dev)
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
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    sys.exit(execute(arguments))


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code."""
    try:
        result = cli(arguments, exit_on_error=False, print_error=False)
    except (OmniQError, KeyboardInterrupt) as error:
        if isinstance(error, OmniQError):
            tell_error(str(error))
        return exit_code(error)
    except OSError as error:  # of standard output most likely: the disk is full
        tell_error(str(error))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written is given up
        return Exit.FAILED
    except SystemExit as error:
        return _code_of(error)
    except CycloptsError as error:
        Console(stderr=True).print(CycloptsPanel(_misused(error)))
        return Exit.USAGE
    return int(result or 0)


def _code_of(error: SystemExit) -> int:
    """Return the exit code as the interpreter would, which tells what is no number."""
    if error.code is None or isinstance(error.code, int):
        return error.code or Exit.OK
    tell_error(str(error.code))
    return Exit.FAILED


def _misused(error: CycloptsError) -> CycloptsError | str:
    """Return what to tell of a command line that is wrong."""
    if not isinstance(error, UnusedCliTokensError) or not error.unused_tokens:
        return error
    command = " ".join(("omniq", *(error.command_chain or ())))
    return (
        f'"{error.unused_tokens[0]}" is no command or argument of "{command}"; '
        f'see "{command} --help".'
    )
