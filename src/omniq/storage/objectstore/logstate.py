"""`LogState`: what a log is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class LogState(Protocol):
    """What a log is about. All methods are called in one thread."""

    def begin(self) -> None:
        """Begin a step: what changes from here on can be taken back."""
        ...

    def take_back(self) -> None:
        """Undo the last step."""
        ...

    def changes(self) -> list[bytes]:
        """Return what all steps changed together, as records without line breaks."""
        ...

    def keep(self) -> None:
        """Forget how to take the steps back."""
        ...

    def apply(self, records: Iterable[bytes]) -> list[bytes]:
        """Make the changes of a commit as one; return the records that make no sense."""
        ...

    def dump(self) -> Iterable[bytes]:
        """Return records that make this state of an empty one."""
        ...

    def clear(self) -> None:
        """Become empty."""
        ...
