"""One of something per running event loop, so that no object is bound to a single loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes a value the first time each event loop asks; forgets it when the loop is gone."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[weakref.ref[asyncio.AbstractEventLoop], T] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value of the running loop. Raises RuntimeError outside of one."""
        loop = asyncio.get_running_loop()
        value = self._values.get(weakref.ref(loop))
        if value is None:
            with self._lock:
                values = self._values
                key = weakref.ref(loop, lambda gone: values.pop(gone, None))
                value = values.setdefault(key, self._make())
        return value

    def pop(self) -> T | None:
        """Forget and return the value of the running loop, if it has one."""
        return self._values.pop(weakref.ref(asyncio.get_running_loop()), None)
