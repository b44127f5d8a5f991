"""What tests look at a SQLite database with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from omniq.storage.local.filesystem import companion_folder
from omniq.storage.local.writelock import WriteLock
from omniq.storage.sqlite import Database


async def traced(database: Database) -> list[str]:
    """Return the list to which the statements of the writer will be appended."""
    seen: list[str] = []
    await database.write(lambda transaction: transaction.connection.set_trace_callback(seen.append))
    seen.clear()
    return seen


@contextlib.contextmanager
def held_write_lock(database: Database) -> Generator[None]:
    """Hold the lock that all writers of OmniQ take, as a process stopped mid-commit does."""
    lock = WriteLock(companion_folder(database.path) / "write.lock")
    with lock:
        yield
    lock.close()


others: set[threading.Thread] = set()
"""Threads that ran before the test did: those of another test are none of its business."""


def open_threads() -> list[str]:
    """Return the names of the threads of databases that were opened since `others` was taken."""
    names = [thread.name for thread in threading.enumerate() if thread not in others]
    return [name for name in names if name.startswith(("omniq-sqlite", "omniq-wake"))]
