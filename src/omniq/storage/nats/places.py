"""Where a task stands in the stream: the subject says its status, its queue and its id.

    <namespace>.tasks.<group>.<letter>.<queue>.<id>

A task is one message, and a change of state one publish that expects the last sequence of the task
(whatever its subject). The group says what the message is to the server and to claims:

* ``r``, ready: what claims read, in the order of arrival. ``r.p`` is PENDING; ``r.s``, ``r.r`` and
  ``r.w`` were put there by the server because their moment came.
* ``t``, timed: a scheduled message of the server, SCHEDULED (``t.s``) or RUNNING (``t.r``): at
  `due_at` the server moves it to ``r``.
* ``w``, waiting for parents; timed too, so that it is looked after if nobody told it of their end.
* ``f``, final; ``o`` when its `finished_at` is not the present (a migrated task).

The server does not look twice: a message it is about to move on may arrive in ``r`` after the task
has changed. So what claims read there and is not PENDING is read again before it is believed.

A scheduled message is removed by the publish that replaces it (so PENDING is one as well, for a day
that does not come); any other is deleted right after.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from omniq.models.task import TaskStatus
from omniq.storage.nats.component import token, untoken

NEVER = datetime(2200, 1, 1, tzinfo=UTC)
"""The server counts nanoseconds in 64 bits, which end in 2262."""
ODD = timedelta(minutes=10)
"""A final task whose `finished_at` is further from the present is kept apart."""

PAUSED = b"paused"
"""What is stored for a paused queue."""
LETTERS: dict[TaskStatus, str] = {
    TaskStatus.PENDING: "p",
    TaskStatus.SCHEDULED: "s",
    TaskStatus.RUNNING: "r",
    TaskStatus.WAITING: "w",
    TaskStatus.COMPLETED: "c",
    TaskStatus.FAILED: "f",
    TaskStatus.CANCELLED: "k",
    TaskStatus.EXPIRED: "e",
}
STATUSES = {letter: status for status, letter in LETTERS.items()}
READY, TIMED, WAITS, FINAL, ODDLY_FINAL = "r", "t", "w", "f", "o"
_FIRST_GROUP = {
    TaskStatus.PENDING: READY,
    TaskStatus.SCHEDULED: TIMED,
    TaskStatus.RUNNING: TIMED,
    TaskStatus.WAITING: WAITS,
}
GROUPS: dict[TaskStatus, tuple[str, ...]] = {
    TaskStatus.PENDING: (READY,),
    TaskStatus.SCHEDULED: (TIMED, READY),
    TaskStatus.RUNNING: (TIMED, READY),
    TaskStatus.WAITING: (WAITS, READY),
    TaskStatus.COMPLETED: (FINAL, ODDLY_FINAL),
    TaskStatus.FAILED: (FINAL, ODDLY_FINAL),
    TaskStatus.CANCELLED: (FINAL, ODDLY_FINAL),
    TaskStatus.EXPIRED: (FINAL, ODDLY_FINAL),
}
"""In which groups tasks of a status may stand."""


class Place(NamedTuple):
    """A subject, taken apart."""

    group: str
    status: TaskStatus
    queue: str
    task_id: str

    @property
    def was_moved(self) -> bool:
        """Whether the server put the message there."""
        return self.group == READY and self.status is not TaskStatus.PENDING

    @property
    def is_scheduled(self) -> bool:
        """Whether the message there is one of the server's schedule, which a publish can remove."""
        return self.group in {TIMED, WAITS} or (
            self.group == READY and self.status is TaskStatus.PENDING
        )


class Places:
    """The subjects of one namespace."""

    def __init__(self, prefix: str) -> None:
        self.base = f"{prefix}.tasks"
        self.ready = f"{self.base}.{READY}"
        self.wake = f"{prefix}.wake.ready"
        self._final = f"{prefix}.wake.final"
        self._start = len(self.base) + 1

    def subject(self, place: Place) -> str:
        """Return the subject of a place."""
        group, status, queue, task_id = place
        return f"{self.base}.{group}.{LETTERS[status]}.{token(queue)}.{token(task_id)}"

    def read(self, subject: str) -> Place:
        """Take a subject apart."""
        group, letter, queue, task_id = subject[self._start :].split(".")
        return Place(group, STATUSES[letter], untoken(queue), untoken(task_id))

    def queue_of(self, subject: str) -> str:
        """Return the queue in a subject of `paused` or `name`."""
        return untoken(subject.rpartition(".")[2])

    def anywhere(self, task_id: str, queue: str | None = None) -> str:
        """Return the pattern of all subjects a task can have; in any queue if none is given."""
        return f"{self.base}.*.*.{'*' if queue is None else token(queue)}.{token(task_id)}"

    def some(
        self, group: str = "*", status: TaskStatus | None = None, queue: str | None = None
    ) -> str:
        """Return the pattern of the tasks of a group, status and queue, each any by default."""
        letter = "*" if status is None else LETTERS[status]
        return f"{self.base}.{group}.{letter}.{'*' if queue is None else token(queue)}.*"

    def key(self, queue: str, digest: str) -> str:
        """Return the subject that holds who has a unique key."""
        return f"{self.base}.u.{token(queue)}.{digest}"

    def edge(self, parent_id: str, child_id: str) -> str:
        """Return the subject that says that a child waits for a parent."""
        return f"{self.base}.e.{token(parent_id)}.{token(child_id)}"

    def parent_of(self, edge: str) -> str:
        """Return the parent in the subject of an edge."""
        return untoken(edge.split(".")[-2])

    def edges(self, parent_id: str | None = None) -> str:
        """Return the pattern of the edges of a parent, or of all."""
        return f"{self.base}.e.{'*' if parent_id is None else token(parent_id)}.*"

    def paused(self, queue: str | None = None) -> str:
        """Return the subject that holds that a queue is paused, or the pattern of all of them."""
        return f"{self.base}.p.{'*' if queue is None else token(queue)}"

    def name(self, queue: str | None = None) -> str:
        """Return the subject that holds the name of a queue, or the pattern of all of them."""
        return f"{self.base}.n.{'*' if queue is None else token(queue)}"

    def wakes(self, queue: str) -> str:
        """Return the pattern of what is heard when a task of a queue becomes ready."""
        return f"{self.wake}.*.{token(queue)}.*"

    def resumed(self, queue: str) -> str:
        """Return a subject that `wakes` matches, to be told when a queue is resumed."""
        return f"{self.wake}.x.{token(queue)}.x"

    def final(self, task_id: str) -> str:
        """Return the subject that is told when a task became final."""
        return f"{self._final}.{token(task_id)}"


def first_place(
    status: TaskStatus, queue: str, task_id: str, finished_at: datetime | None, now: datetime
) -> Place:
    """Return where a task of this status is put; `now` is the present."""
    group = _FIRST_GROUP.get(status)
    if group is None:
        odd = finished_at is None or abs(now - finished_at) > ODD
        group = ODDLY_FINAL if odd else FINAL
    return Place(group, status, queue, task_id)
