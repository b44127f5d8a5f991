"""What cannot be stored is found before anything is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniq.exceptions import ValidationError
from omniq.models.task import Task
from omniq.plain import weight

SURELY_STORABLE_BYTES = 64 << 10
"""What takes no more once encoded is refused by no store."""


def is_surely_storable(task: Task) -> bool:
    """Whether no store can refuse a task for what it holds, judged without encoding it."""
    return weight((*task.args, task.kwargs, task.metadata)) <= SURELY_STORABLE_BYTES


def refuse_unstorable(refuse: Callable[[Task], None], tasks: Sequence[Task]) -> None:
    """Ask of each task whether it can be stored, unless it surely can.

    Raises:
        SerializationError, PayloadTooLargeError: as `refuse` does, with the place of the task.
    """
    for place, task in enumerate(tasks):
        if not is_surely_storable(task):
            try:
                refuse(task)
            except ValidationError as error:
                raise type(error)(f"task {place}: {error.field}", error.problem) from error
