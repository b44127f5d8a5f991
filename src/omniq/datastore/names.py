"""Names of queues and keys, and the prefix before them."""

from __future__ import annotations

from omniq.exceptions import ConfigError, ValidationError

DEFAULT_PREFIX = "datastore:"
LONGEST_NAME = 1000


def check_name(field: str, name: object) -> str:
    """Return a name that every store can keep.

    Raises:
        ValidationError: no string, empty, longer than 1000 characters, or not fit for UTF-8.
    """
    if not isinstance(name, str):
        raise ValidationError(field, f"expected a string, got {type(name).__name__}")
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValidationError(field, f"has {len(name)} characters, not 1 to {LONGEST_NAME}")
    if not name.isascii() and not _is_unicode(name):
        raise ValidationError(field, "holds half a character (a lone surrogate)")
    return name


def check_prefix(prefix: object) -> str:
    """Return a prefix, which may be empty.

    Raises:
        ConfigError: no string, or one that no name may begin with.
    """
    try:
        return check_name("prefix", prefix) if prefix != "" else ""
    except ValidationError as error:
        raise ConfigError(str(error)) from error


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
