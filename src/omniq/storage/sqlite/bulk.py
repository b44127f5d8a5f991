"""Writing many rows in few steps.

`executemany` steps SQLite once for each row, and between any two steps another thread may take the
interpreter. One statement with the values of many rows runs in a single step, during which Python
is free: the event loop goes on while the disk is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

ROWS_PER_STATEMENT = 50


class BulkInsert:
    """An INSERT of rows of one width.

    Args:
        head: the statement up to and including VALUES.
        width: number of columns.
        tail: what follows the values, as ``ON CONFLICT …``.
    """

    def __init__(self, head: str, width: int, tail: str = "") -> None:
        marks = f"({', '.join('?' * width)})"
        self._one = f"{head} {marks} {tail}"
        self._many = f"{head} {', '.join([marks] * ROWS_PER_STATEMENT)} {tail}"

    def run(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[tuple[Any, ...]],
        tail_values: tuple[Any, ...] = (),
    ) -> int:
        """Insert rows; return how many were written. `tail_values` fill the marks of the tail."""
        written, whole = 0, len(rows) - len(rows) % ROWS_PER_STATEMENT
        for start in range(0, whole, ROWS_PER_STATEMENT):
            values = tuple(chain.from_iterable(rows[start : start + ROWS_PER_STATEMENT]))
            written += connection.execute(self._many, values + tail_values).rowcount
        for row in rows[whole:]:
            written += connection.execute(self._one, row + tail_values).rowcount
        return written
