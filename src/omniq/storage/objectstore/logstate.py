"""`LogState`: what a log is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

OnChange = Callable[[str, Any | None, Any | None], None]
"""Called with the id of an item, and the item as it was and is; None: it was or is not there."""


class LogState(Protocol):
    """What a log is about. All methods are called in one thread."""

    on_change: OnChange | None
    """Called for each item that a commit changes, just before it is made or applied."""

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

    def committed(self, item_id: str, /) -> Any | None:
        """Return an item as the last commit left it, whatever is being tried since."""
        ...

    def committed_ids(self) -> Iterable[str]:
        """Return the ids of all items the last commit left, and maybe some that are new."""
        ...

    def clear(self) -> None:
        """Become empty."""
        ...
