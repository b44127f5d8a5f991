"""The marker: the task in the source that says where the source moves to.

It lives in a queue of its own that no worker serves. Whoever claims it is the mover, as long as the
lease lasts; once all is moved it is put off for good. So it is never purged.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import datetime
from typing import Any

import msgspec

from omniq.exceptions import ConfigError
from omniq.models.task import Task, TaskStatus
from omniq.moving.parking import FAR, MOVE

COMPONENTS = ("tasks", "results", "events", "schedules")
_SETTLED = "everybody knows"


class Marker(msgspec.Struct, frozen=True):
    """What a marker says.

    Attributes:
        target: the configuration of the target, as `OmniQConfig.from_dict` takes it.
        places: for each component that moves, which place it is in, see `Stores.places`. One that
            is not named stays where it is.
        is_settled: whether everybody knows of the move, so that new tasks go to the target.
        is_done: whether the source is empty, so that only the target is used.
        held_until: until when its mover has it, by the clock of the store; None: nobody has.
        claim: another one with each mover.
    """

    target: dict[str, Any]
    places: dict[str, str]
    is_settled: bool = False
    is_done: bool = False
    held_until: datetime | None = None
    claim: int = 0


def marker_task(target: Mapping[str, Any], places: Mapping[str, str]) -> Task:
    """Return the task that marks its store as moving."""
    said = {"target": dict(target), "places": dict(places)}
    return Task(func=MOVE, id=MOVE, queue_name=MOVE, metadata=said)


def read_marker(task: Task | None) -> Marker | None:
    """Return what a marker says; None where there is none, or one that was cancelled.

    Raises:
        ConfigError: it cannot be read: another version of OmniQ wrote it, perhaps.
    """
    if task is None or task.is_final:
        return None
    try:
        said = msgspec.convert(task.metadata, Marker)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the mark that this store moves cannot be read: {error}") from error
    return msgspec.structs.replace(
        said,
        is_settled=task.error == _SETTLED,
        is_done=task.status is TaskStatus.SCHEDULED and task.due_at == FAR,
        held_until=task.due_at if task.status is TaskStatus.RUNNING else None,
        claim=task.claim_count,
    )


def settled(task: Task) -> Task:
    """Return the marker, claimed by the mover, once everybody knows of it."""
    after = copy(task)
    after.error = _SETTLED  # which a claim by another mover leaves as it is
    return after


def done(task: Task) -> Task:
    """Return the marker, claimed by the mover, as it stays for good."""
    after = copy(task)
    after.status, after.due_at = TaskStatus.SCHEDULED, FAR
    after.lease_token = after.worker_id = None
    return after
