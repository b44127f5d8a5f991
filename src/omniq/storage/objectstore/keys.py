"""Keys of objects: relative to a location, and never outside of it."""

from __future__ import annotations

from omniq.exceptions import ConfigError

LONGEST_KEY = 800


def check_key(key: str) -> None:
    """Refuse a key that would not stay below the location.

    Raises:
        ConfigError: it has empty or dotted parts, control characters, or is too long.
    """
    parts = key.split("/")
    if (
        all(part not in ("", ".", "..") for part in parts)
        and key.isprintable()
        and len(key.encode()) <= LONGEST_KEY
    ):
        return
    raise ConfigError(f"{key!r} is no key of an object")
