"""OmniQ in files, in its two levels of durability."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from bench.omniq_store import OmniQStore


class OmniQFileFull(OmniQStore):
    """OmniQ that syncs what it acknowledges: the default."""

    durability: ClassVar[str] = "full"

    def url(self, directory: Path) -> str:
        return f"file://{directory}/omniq?durability={self.durability}"

    async def setup(self, directory: Path) -> None:
        await super().setup(directory)
        self._root = directory / "omniq"

    async def finished(self) -> int:
        completed = _files(self._root / "tasks" / "default" / "completed")
        return min(completed, _files(self._root / "results" / "success"), self._events())

    def _events(self) -> int:
        days = (self._root / "events").glob("*/*/*/*.jsonl")
        return sum(path.read_bytes().count(b'"COMPLETED"') for path in days)


class OmniQFileFast(OmniQFileFull):
    """OmniQ without sync: survives a killed process, not a power cut."""

    durability = "fast"


def _files(folder: Path) -> int:
    try:
        return sum(1 for entry in os.scandir(folder) if entry.name.endswith(".json"))
    except FileNotFoundError:
        return 0
