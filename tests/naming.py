"""Names of test cases that are the same in every process."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def stable_id(value: object) -> str:
    """Return `repr(value)` without memory addresses."""
    return _ADDRESS.sub("", repr(value))
