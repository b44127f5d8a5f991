"""What may be kept in a data store: plain JSON, written and read as it stands."""

from __future__ import annotations

import json
from typing import Any, cast

from omniq.exceptions import SerializationError


def serialize(data: object) -> str:
    """Return `data` as JSON text.

    Strings, numbers, booleans, None, lists and dicts with strings as keys come back as they were;
    a tuple comes back as a list.

    Raises:
        SerializationError: it holds anything else, a number that JSON has not (NaN, infinity), a
            key that is no string, or itself.
    """
    try:
        text = _encode(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError("data", f"not JSON: {error}") from error
    _check_keys(data)
    return text


def deserialize(data: str | bytes) -> Any:
    """Return what a JSON text stands for.

    Raises:
        SerializationError: it is no JSON.
    """
    try:
        return _decode(data if isinstance(data, str) else data.decode())
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError("data", f"not JSON: {error}") from error


_encode = json.JSONEncoder(allow_nan=False).encode
_decode = json.JSONDecoder().decode


def _check_keys(data: object) -> None:
    """Refuse keys that JSON would silently turn into strings."""
    left: list[object] = [data]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            mapping = cast("dict[object, object]", one)
            for key in mapping:
                if not isinstance(key, str):
                    kind = type(key).__name__
                    raise SerializationError("data", f"not JSON: the key {key!r} is of type {kind}")
            left.extend(mapping.values())
        elif isinstance(one, list | tuple):
            left.extend(cast("list[object]", one))
