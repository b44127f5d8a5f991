"""Ids and names: making them, and refusing hostile ones."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import PurePath

from omniq.clock import to_micros
from omniq.exceptions import ValidationError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII).fullmatch
_FUNC = re.compile(r"[A-Za-z_][A-Za-z0-9_.:<>-]{0,255}", re.ASCII).fullmatch
_KEY_LIMIT = 256
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""A random hexadecimal digit as one that begins with the bits 10."""
_FIRES = uuid.UUID("6f6d6e69-7100-5000-8000-666972650000")


def new_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits."""
    millis = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10).hex()
    variant = _VARIANTS[random[3]]
    return f"{millis[:8]}-{millis[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def first_id(moment: datetime) -> str:
    """Return the least id that `new_id` may make in the millisecond of this moment."""
    millis = f"{to_micros(moment) // 1000:012x}"
    return f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000"


def new_token() -> str:
    """Return a fresh random lease token (128 bits)."""
    return os.urandom(16).hex()


def new_worker_id() -> str:
    """Return a fresh name that says where a worker runs."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
    return f"w-{host or 'host'}-{os.getpid()}-{new_token()[:12]}"


def fire_id(schedule_id: str, fire_at: datetime) -> str:
    """Return the id of the task that this schedule makes for this fire time.

    Derived (UUIDv5), so that any number of schedulers firing the same moment insert the same task.
    """
    return str(uuid.uuid5(_FIRES, f"{schedule_id}@{to_micros(fire_at)}"))


def stable_name(thing: Callable[..., object]) -> str:
    """Return ``module.qualname`` of a function or class, the same in every process.

    What a program defines as ``__main__`` is named as the worker that imports it will name it.
    """
    return f"{stable_module(thing)}.{thing.__qualname__}"


def stable_module(thing: object) -> str:
    """Return the module of a function or class; for ``__main__`` the name it is imported under.

    That is the name of ``python -m <name>``, or the stem of ``python <stem>.py``. Typed at a
    prompt, there is none: it stays ``__main__``.
    """
    module: str = thing.__module__
    if module not in {"__main__", "__mp_main__"}:
        return module
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    return PurePath(path).stem if path and not path.startswith("<") else module


def check_name(field: str, name: object) -> str:
    """Return `name` if it is a safe id or queue name in every backend.

    Safe is: 1 to 128 of ``A-Z a-z 0-9 _ . -``, starting with a letter or digit, without ``..``.

    Raises:
        ValidationError: it is anything else.
    """
    if isinstance(name, str) and _NAME(name) and ".." not in name:
        return name
    raise ValidationError(
        field,
        f"{_shown(name)} is not a valid name; use 1 to 128 of A-Z a-z 0-9 _ . - "
        "starting with a letter or digit, without '..'",
    )


def check_func(field: str, name: object) -> str:
    """Return `name` if it can name a task function.

    Raises:
        ValidationError: it is anything else.
    """
    if isinstance(name, str) and _FUNC(name) and ".." not in name:
        return name
    raise ValidationError(
        field,
        f"{_shown(name)} is not a valid task name; use 1 to 256 of A-Z a-z 0-9 _ . : - "
        "starting with a letter or underscore, without '..'",
    )


def check_key(field: str, key: object) -> str:
    """Return `key` if it is a usable unique key: 1 to 256 printable characters.

    Raises:
        ValidationError: it is anything else.
    """
    if isinstance(key, str) and 0 < len(key) <= _KEY_LIMIT and key.isprintable():
        return key
    raise ValidationError(
        field, f"{_shown(key)} is not a valid key; use 1 to {_KEY_LIMIT} printable characters"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
