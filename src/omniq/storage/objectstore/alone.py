"""Stores without conditional writes: one process alone, whose own writers exclude each other."""

from __future__ import annotations

import asyncio
import logging
import os
from weakref import WeakValueDictionary

from omniq.storage.file.location import Location

logger = logging.getLogger("omniq.storage.objectstore")

_locks: WeakValueDictionary[tuple[int, str, str], asyncio.Lock] = WeakValueDictionary()
_warned: set[str] = set()


def lock_of(location: Location) -> asyncio.Lock:
    """Return the lock that all drivers of this process share for a place."""
    key = (os.getpid(), location.protocol, location.path)
    lock = _locks.get(key)
    if lock is None:
        lock = _locks[key] = asyncio.Lock()
    return lock


def warn_once(place: str) -> None:
    """Say once a process that nobody else may use this place."""
    if place not in _warned:
        _warned.add(place)
        logger.warning(
            "%s has no conditional writes: only one process may use it at a time, and nothing "
            "keeps a second one out",
            place,
        )
