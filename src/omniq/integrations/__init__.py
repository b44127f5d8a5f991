"""OmniQ inside other frameworks: each module needs the one it is named after, no more."""

from __future__ import annotations

from omniq.exceptions import ConfigError


def check_kind(name: str, value: object, kind: type) -> None:
    """Refuse another thing than was asked for, where it is given.

    Raises:
        ConfigError: it is another.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name}: expected {kind.__name__}, got {value!r:.80}")
