"""Which application or store a command works on."""

from __future__ import annotations

import os
import traceback
from typing import Annotated

from cyclopts import Parameter

from omniq.cli.exits import AppLoadError
from omniq.core import OmniQ
from omniq.exceptions import ConfigError
from omniq.worker.loader import load_app

APP_VARIABLE = "OMNIQ_APP"
Target = Annotated[
    str | None,
    Parameter(
        name=["--app", "-a"],
        help=(
            "The application (module, module:attr, file.py), the URL of a store, or a YAML or TOML "
            "file that names the stores. Default: "
            "$OMNIQ_APP, else the store named by $OMNIQ_URL, else sqlite:///omniq.db."
        ),
    ),
]


def open_target(target: str | None) -> OmniQ:
    """Return the application or the bare store that `--app` names.

    Raises:
        AppLoadError: it cannot be loaded; the cause is told.
    """
    chosen = target or os.environ.get(APP_VARIABLE)
    if chosen is None:
        return OmniQ()
    if "://" in chosen or chosen.endswith((".db", ".sqlite", ".sqlite3")):
        return OmniQ(chosen)
    if chosen.endswith((".yaml", ".yml", ".toml")):
        return OmniQ(config=chosen)
    return load(chosen)


def load(target: str) -> OmniQ:
    """Return the application of this name; whatever its code raises becomes an `AppLoadError`."""
    try:
        return load_app(target)
    except ConfigError as error:
        raise AppLoadError(str(error)) from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        raise AppLoadError(f"loading {target} failed: {what}") from error
