"""Finding an application by what a person types: `module`, `module:attr`, `file.py`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from omniq.core import OmniQ
from omniq.exceptions import ConfigError

PREFERRED = ("app", "q", "queue", "omniq")


class AppNotFoundError(ConfigError):
    """What was typed leads to no `OmniQ`."""


def load_app(target: str) -> OmniQ:
    """Return the `OmniQ` that `target` names.

    Without an attribute, the module's only `OmniQ` is taken, or the one called app, q, queue or
    omniq. The current folder (for a file: its folder) is importable.

    Raises:
        AppNotFoundError: nothing fits; the message says what was tried.
    """
    place, _, attribute = target.partition(":")
    if not place:
        raise AppNotFoundError(_no_app(target))
    module = _load_file(Path(place)) if _is_file(place) else _load_module(place)
    found = _attribute(module, attribute) if attribute else _only_app(module, target)
    if isinstance(found, OmniQ):
        return found
    raise AppNotFoundError(f"{target}: {attribute} is no OmniQ, but of type {type(found).__name__}")


def _no_app(target: str) -> str:
    return f"{target!r} names no application; use module, module:attr or file.py"


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppNotFoundError(f"there is no file {path}")
    if not path.stem.isidentifier():
        raise AppNotFoundError(f"{path}: {path.stem!r} is no module name; rename the file")
    return _import(path.stem, str(path.parent.absolute()))


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppNotFoundError(_no_app(name))
    return _import(name, str(Path.cwd()))


def _import(name: str, folder: str) -> ModuleType:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppNotFoundError(
                f"there is no module {name} in {folder} or on sys.path"
            ) from error
        raise


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppNotFoundError(f"module {module.__name__} has no {path}") from None
    return found


def _only_app(module: ModuleType, target: str) -> OmniQ:
    apps = {name: item for name, item in vars(module).items() if isinstance(item, OmniQ)}
    if len({id(item) for item in apps.values()}) == 1:
        return next(iter(apps.values()))
    for name in PREFERRED:
        if name in apps:
            return apps[name]
    if apps:
        raise AppNotFoundError(
            f"{target} has several: {', '.join(sorted(apps))}; name one as {target}:…"
        )
    raise AppNotFoundError(f"{target} has no OmniQ; make one, as in `q = OmniQ()`")
