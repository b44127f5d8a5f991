"""`omniq health`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from omniq.cli.exits import Exit
from omniq.cli.output import Json, console, print_json
from omniq.worker.health import check


def health(
    path: Path,
    *,
    within: Annotated[float, Parameter(validator=Number(gt=0))] = 30.0,
    json: Json = False,
) -> int:
    """Say whether a worker on this machine works: for probes of containers.

    Args:
        path: the `--health-file` of the worker.
        within: so many seconds ago its queue must have answered it.
        json: print JSON.
    """
    found = check(path, within)
    if json:
        print_json(found._asdict())
    else:
        console().print(found.text, markup=False)
    return Exit.OK if found.is_healthy else Exit.FAILED
