"""Seeing that another connection changed the database, without reading it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from omniq.storage.local.forks import fork_gate


class DataVersion:
    """A connection of its own that asks `PRAGMA data_version` (a few microseconds).

    Args:
        connect: opens the connection; where that fails, the next question tries again.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._gate = fork_gate()

    def version(self) -> object:
        """Return a number that differs after each commit of another connection; None: not now."""
        with self._gate:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return self._connection.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error:
                return None

    def close(self) -> None:
        """Close the connection."""
        with self._gate:
            if self._connection is not None:
                self._connection.close()
