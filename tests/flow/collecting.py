"""Node types whose last node keeps what arrives, so that a test can look at it."""

from __future__ import annotations

import asyncio
from typing import Any

from omniq.flow import NodeTypes
from tests.flow import samples


class Collector:
    """The node types of `samples`, and sinks that keep what they get.

    Attributes:
        got: the items that arrived at a ``keep`` node, by its config ``place``.
        gate: while it is cleared, ``slow`` nodes wait.
    """

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {}
        self.gate = asyncio.Event()
        self.types = NodeTypes()
        for kind in samples.types:
            if self.types.get(kind.name) is None:
                declare = getattr(self.types, kind.kind.replace("-", "_"))
                more = {"handles": kind.handles} if kind.handles else {}
                declare(kind.name, pool=kind.pool, **more)(kind.func)
        self.types.blocking("keep")(self._keep)
        self.types.blocking("mark")(self._mark)
        self.types.non_blocking("slow")(self._slow)

    def numbers(self, place: str = "end") -> list[int]:
        """Return the numbers that arrived, in order of arrival."""
        return [item["n"] for item in self.got.get(place, [])]

    async def _keep(self, data: Any, *, place: str = "end") -> Any:
        self.got.setdefault(place, []).append(data)
        return data

    async def _mark(self, data: Any) -> Any:
        data["marked"] = True
        return data

    async def _slow(self, data: Any) -> Any:
        await self.gate.wait()
        return data
