"""What cannot be stored is found before anything is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniq.exceptions import ValidationError
from omniq.models.task import Task
from omniq.plain import SURELY_STORABLE_BYTES, weight


def refuse_unstorable(refuse: Callable[[Task], None], tasks: Sequence[Task]) -> None:
    """Ask of each task whether it can be stored, unless it surely can.

    Raises:
        SerializationError, PayloadTooLargeError: as `refuse` does, with the place of the task.
    """
    for place, task in enumerate(tasks):
        if weight((*task.args, task.kwargs, task.metadata)) > SURELY_STORABLE_BYTES:
            try:
                refuse(task)
            except ValidationError as error:
                raise type(error)(f"task {place}: {error.field}", error.problem) from error
