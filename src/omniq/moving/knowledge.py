"""What a process knows of how far a move is.

Until everybody knows of it, new records stay where they were: somebody who does not know would not
find them elsewhere. All who know read both stores, so that it does not matter who hears of the next
step first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Knowledge(Protocol):
    """Tells how far the move is."""

    @property
    def is_settled(self) -> bool:
        """Whether everybody knew of the move when this process last looked."""
        ...

    @property
    def abandoned(self) -> int | None:
        """The claim of the mover that seems to be gone, with tasks in transit perhaps."""
        ...

    async def has_settled(self) -> bool:
        """Whether everybody knows of the move, asked now unless that is known."""
        ...

    async def confirm(self, task_ids: Sequence[str]) -> None:
        """See to tasks just written to the source, should the move have settled meanwhile."""
        ...


class Settled:
    """Knows that everybody knows."""

    is_settled = True
    abandoned = None

    async def has_settled(self) -> bool:
        """Return True."""
        return True

    async def confirm(self, task_ids: Sequence[str]) -> None:
        """Do nothing."""


EVERYBODY_KNOWS = Settled()
