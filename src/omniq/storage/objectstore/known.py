"""Objects read or written lately, so that a listing need not fetch what has not changed."""

from __future__ import annotations

import threading
from collections import OrderedDict

from omniq.storage.objectstore.driver import Stored

MOST_BYTES = 16 << 20


class KnownObjects:
    """The last objects by key, up to a number of bytes. Whoever asks compares the version."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, stored: Stored) -> None:
        """Remember an object; the oldest ones are forgotten for it."""
        with self._lock:
            self._forget(key)
            self._stored[key] = stored
            self._bytes += len(stored.data)
            while self._bytes > self._most_bytes:
                self._forget(next(iter(self._stored)))

    def get(self, key: str) -> Stored | None:
        """Return what was last known of an object."""
        return self._stored.get(key)

    def _forget(self, key: str) -> None:
        gone = self._stored.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.data)
