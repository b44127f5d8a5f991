"""Which application or store a command works on."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

import omniq
from omniq.cli.exits import AppLoadError
from omniq.core import OmniQ
from omniq.models.masking import masked
from omniq.worker.loader import AppNotFoundError, load_app

T = TypeVar("T")

APP_VARIABLE = "OMNIQ_APP"
OUR_CODE = str(Path(omniq.__file__).parent)
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


def on_target(target: str | None, act: Callable[[OmniQ], Awaitable[T]]) -> T:
    """Open what `--app` names, do something with it, close it.

    Its code is imported before any event loop runs, so what it does on import may block.
    """
    app = open_target(target)

    async def run() -> T:
        async with app:
            return await act(app)

    return asyncio.run(run())


def load(target: str) -> OmniQ:
    """Return the application of this name; whatever its code raises becomes an `AppLoadError`."""
    refuse_store(target)
    try:
        return load_app(target)
    except AppNotFoundError as error:
        raise AppLoadError(str(error)) from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error} ({_place(error)})"
        raise AppLoadError(f"loading {target} failed: {what}") from error


def refuse_store(target: str) -> None:
    """Raise an `AppLoadError` if the name of a store stands in the place of an application."""
    if "://" in target:
        raise AppLoadError(
            f"{masked(target)!r} is a store, not an application; name the module that makes it, "
            "as in `omniq worker tasks`, and the store in $OMNIQ_URL or in OmniQ(…)"
        )


def _place(error: BaseException) -> str:
    """Return the line at which the user's own code failed: none of ours, none of the importer."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((OUR_CODE, "<frozen importlib"))]
    last = (theirs or frames)[-1]
    return f"{last.filename}:{last.lineno}"
