"""Which parents a call needs: a task may wait for none but those that exist before it."""

from __future__ import annotations

from collections.abc import Container, Sequence

from omniq.exceptions import NotFoundError
from omniq.models.checks import checked_task
from omniq.models.task import Task


def parents_wanted(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of the parents that must be stored already, sorted.

    Those that come earlier in the same call need not be.
    """
    if not any(getattr(task, "depends_on", ()) for task in tasks):
        return []
    wanted: set[str] = set()
    earlier: set[str] = set()
    for task in tasks:
        if getattr(task, "depends_on", ()):
            wanted |= set(checked_task(task).depends_on) - earlier
        earlier.add(getattr(task, "id", ""))
    return sorted(wanted)


def refuse_missing(ids: Sequence[str], known: Container[str]) -> None:
    """Refuse parents that are not known.

    Raises:
        NotFoundError: one of `ids` is not.
    """
    for parent_id in ids:
        if parent_id not in known:
            raise NotFoundError(
                f"depends_on: there is no task {parent_id}; a parent comes before its children"
            )
