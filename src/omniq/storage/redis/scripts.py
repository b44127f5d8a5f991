"""The server-side scripts, loaded by name from the `.lua` files beside this module."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_FOLDER = "lua"


class Script(NamedTuple):
    """A script as the server knows it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str, *preludes: str) -> Script:
    """Return the script of that name, behind these files of shared functions."""
    source = "\n".join(_source(part) for part in ("clock", *preludes, name))
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - as EVALSHA names it


def _source(name: str) -> str:
    return files(__package__ or "").joinpath(_FOLDER, f"{name}.lua").read_text(encoding="utf-8")
