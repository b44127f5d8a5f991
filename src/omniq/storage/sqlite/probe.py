"""Seeing that another connection changed the database, without reading it."""

from __future__ import annotations

import sqlite3


class DataVersion:
    """A connection of its own that asks `PRAGMA data_version` (a few microseconds)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def version(self) -> object:
        """Return a number that differs after each commit of another connection; None: not now."""
        try:
            return self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
