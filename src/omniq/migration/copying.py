"""What a migration reports, and the copying of results and schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from omniq.clock import utcnow
from omniq.exceptions import OmniQError
from omniq.migration.verifying import Digest
from omniq.models.task import TaskStatus
from omniq.storage.base import BaseQueue, BaseResultStorage, BaseScheduleStorage, TaskFilter

PAGE = 500
Progress = Callable[[str, int, int | None], None]


class MigrationError(OmniQError):
    """The source is in use, so that a copy of it would be wrong."""


class Copied(NamedTuple):
    """How many records were copied, and how many the target had already."""

    copied: int = 0
    present: int = 0

    def plus(self, copied: int, present: int) -> Copied:
        """Return the sum."""
        return Copied(self.copied + copied, self.present + present)


@dataclass
class Report:
    """What a migration did.

    Attributes:
        tasks, results, events, schedules: how many of each.
        others: how many tasks the target had before that are none of the source's; they stay.
        conflicts: ids of tasks left out because another live task of the target holds their
            unique key, and of those that wait for them.
        damaged: ids of tasks left out because the source cannot read their request.
        digests: when verified, for each kind of record what was found on both sides.
        missing_events: when verified, events of the source the target does not have.
    """

    tasks: Copied = field(default_factory=Copied)
    results: Copied = field(default_factory=Copied)
    events: Copied = field(default_factory=Copied)
    schedules: Copied = field(default_factory=Copied)
    others: int = 0
    conflicts: list[str] = field(default_factory=list[str])
    damaged: list[str] = field(default_factory=list[str])
    digests: dict[str, Digest] | None = None
    missing_events: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all was copied and, where it was verified, found to be the same."""
        same = all(digest.is_same for digest in (self.digests or {}).values())
        return same and not (self.conflicts or self.damaged or self.missing_events)


async def refuse_running(queue: BaseQueue) -> None:
    """Refuse a source whose tasks are held. Raises MigrationError."""
    running = TaskFilter(statuses=frozenset({TaskStatus.RUNNING}))
    now = utcnow()
    held = [t.id for t in await queue.find(running, limit=10_000) if t.due_at and t.due_at > now]
    if held:
        raise MigrationError(
            f"{len(held)} tasks run now, {held[0]} among them; stop the workers of {queue!r}, or "
            "wait until the leases of those that died have ended"
        )


async def task_count(queue: BaseQueue) -> int:
    """Return how many tasks a queue has."""
    return sum(sum(by_status.values()) for by_status in (await queue.counts()).values())


async def copy_results(
    source: BaseResultStorage, target: BaseResultStorage, progress: Progress
) -> Copied:
    """Copy the results that are not expired; one the target has is left alone."""
    done, after = Copied(), None
    while page := await source.find(after=after, limit=PAGE):
        present = await target.get_many([item.task_id for item in page])
        new = [item for item, there in zip(page, present, strict=True) if there is None]
        await target.set_many(new)
        done = done.plus(len(new), len(page) - len(new))
        after = page[-1].task_id
        progress("results", sum(done), None)
    return done


async def copy_schedules(
    source: BaseScheduleStorage, target: BaseScheduleStorage, progress: Progress
) -> Copied:
    """Copy schedules with their state; one the target has is left alone."""
    done = Copied()
    schedules = await source.list_schedules()
    for schedule in schedules:
        is_new = await target.get_schedule(schedule.id) is None
        if is_new:
            await target.save_schedule(schedule)
        done = done.plus(is_new, not is_new)
        progress("schedules", sum(done), len(schedules))
    return done
