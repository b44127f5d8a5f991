"""Arguments, results and metadata as text: whatever they are, and however large."""

from __future__ import annotations

from typing import Any

from omniq.readable import printable

LONGEST = 10_000
"""So many characters of one value are shown."""


def shown_value(value: Any, longest: int = LONGEST) -> str:
    """Return a value as Python would write it, cut where it is too long to read.

    A class of the application may say anything of itself, or fail: then its name is all there is.
    """
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - `__repr__` is user code
        text = f"<{type(value).__qualname__}, which cannot be shown: {type(error).__name__}>"
    return shown_text(text, longest)


def shown_text(text: str, longest: int = LONGEST) -> str:
    """Return a text fit to be shown, cut where it is too long to read."""
    if len(text) <= longest:
        return printable(text)
    return f"{printable(text[:longest])} … ({len(text):,} characters in all)"
