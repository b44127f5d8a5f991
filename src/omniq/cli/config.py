"""`omniq config`: where each component would be kept, and who says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import App, Parameter

from omniq.cli.output import Json, console, print_json, print_table
from omniq.models.config import VARIABLES, OmniQConfig, StorageBackendConfig
from omniq.models.masking import masked, masked_options
from omniq.models.storage_config import misspelt

config = App(name="config", help="Look into the configuration.")


class Setting(NamedTuple):
    """One value of the configuration, and where it was said."""

    name: str
    value: object
    origin: str


@config.command
def show(
    *,
    file: Annotated[
        Path | None,
        Parameter(name=["--file", "-f"], help="A YAML or TOML file, as for OmniQ(config=…)."),
    ] = None,
    json: Json = False,
) -> None:
    """Print each value with its origin, passwords masked."""
    given = OmniQConfig() if file is None else OmniQConfig.read(file)
    settings = [
        setting
        for name, backend in given.resolved().items()
        for setting in _settings(name, backend, given)
    ]
    warnings = misspelt(os.environ)
    if json:
        print_json({"settings": [item._asdict() for item in settings], "warnings": warnings})
        return
    print_table(("SETTING", "VALUE", "SAID BY"), settings, empty="nothing")
    for warning in warnings:
        console().print(f"[yellow]warning:[/yellow] {warning}")


def _settings(name: str, backend: StorageBackendConfig, given: OmniQConfig) -> Iterator[Setting]:
    follows = name != "task_queue_backend" and backend == given.backend_of("task_queue_backend")
    own = given.explicit(name) is not None or backend.origin.startswith(VARIABLES[name])
    origin = (
        f"{backend.origin}, by way of the task queue" if follows and not own else backend.origin
    )
    yield Setting(f"{name}.backend_type", backend.backend_type, origin)
    if backend.url is not None:
        yield Setting(f"{name}.url", masked(backend.url), origin)
    for option, value in masked_options(backend.config).items():
        yield Setting(f"{name}.config.{option}", value, origin)
