"""OmniQ on SQLite, in its two levels of durability."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar

from bench.omniq_store import OmniQStore

SETTLED = """
SELECT min((SELECT count(*) FROM omniq_task WHERE status = 'completed'),
           (SELECT count(*) FROM omniq_result),
           (SELECT count(*) FROM omniq_event WHERE event_type = 'COMPLETED'))
"""


class OmniQSQLiteFull(OmniQStore):
    """OmniQ that syncs each commit to disk: the default."""

    durability: ClassVar[str] = "full"

    def url(self, directory: Path) -> str:
        return f"sqlite:///{directory}/omniq.db?durability={self.durability}"

    async def setup(self, directory: Path) -> None:
        await super().setup(directory)
        self._store = sqlite3.connect(directory / "omniq.db", isolation_level=None)

    async def finished(self) -> int:
        (count,) = self._store.execute(SETTLED).fetchone()
        return int(count)

    async def teardown(self) -> None:
        self._store.close()
        await super().teardown()


class OmniQSQLiteFast(OmniQSQLiteFull):
    """OmniQ that syncs at checkpoints only: survives a killed process, not a power cut."""

    durability = "fast"
