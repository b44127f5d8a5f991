"""Compare-and-swap and heartbeats: each change is one publish that expects the revision it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from omniq import lifecycle
from omniq.exceptions import StaleTaskError
from omniq.models.task import TaskStatus
from omniq.storage.nats.component import rounds
from omniq.storage.nats.dependants import Dependants, final_of
from omniq.storage.nats.inserts import key_frame, key_holder
from omniq.storage.nats.records import Record, bare_task
from omniq.storage.nats.shelf import ATTEMPTS, Shelf, Write, becoming
from omniq.storage.values import Change, Lease

W = TypeVar("W")


class Changes:
    """Works on records this process holds where it can, and reads where it must."""

    def __init__(self, shelf: Shelf, dependants: Dependants) -> None:
        self._shelf = shelf
        self._dependants = dependants

    async def swap(self, changes: Sequence[Change], now: datetime) -> list[bool]:
        """Apply changes; see `TaskStore.swap`."""
        answers = [False] * len(changes)
        for places in rounds([change.before.id for change in changes]):
            place_of = {changes[place].before.id: place for place in places}
            made = await self._apply({one: changes[place] for one, place in place_of.items()})
            for record in made:
                answers[place_of[record.place.task_id]] = True
            await self._dependants.settle(final_of(made), now)
        lost = [change for change, made in zip(changes, answers, strict=True) if not made]
        await self._tell_again(lost, now)
        return answers

    async def _tell_again(self, lost: Sequence[Change], now: datetime) -> None:
        """Tell dependants of ends that stand, by a call that was cut off before it told them."""
        ends = {change.before.id: change.after for change in lost if change.after.is_final}
        if not ends:
            return
        standing = [
            record
            for task_id, record in (await self._shelf.read(list(ends))).items()
            if record.is_held_as(ends[task_id].claim_count, None, ends[task_id].status)
        ]
        await self._dependants.settle(final_of(standing), now)

    async def extend(self, leases: Sequence[Lease], ends_at: datetime) -> list[Record]:
        """Move the end of leases; return the records of those still held."""

        def lengthened(record: Record, lease: Lease) -> Write | None:
            if not record.is_held_as(lease.claim_count, lease.lease_token, TaskStatus.RUNNING):
                return None
            task = bare_task(record)
            task.due_at = ends_at
            return becoming(record, task)

        return await self._write_each({lease.task_id: lease for lease in leases}, lengthened)

    async def _apply(self, wanted: dict[str, Change]) -> list[Record]:
        """Apply a change to each task; return the records of those made."""
        plain = {one: change for one, change in wanted.items() if not _takes_key(change)}
        made = await self._write_each(plain, _swapped)
        for task_id, change in wanted.items():
            if task_id not in plain:
                made += await self._revive(task_id, change)
        return made

    async def _write_each(
        self, wanted: Mapping[str, W], make: Callable[[Record, W], Write | None]
    ) -> list[Record]:
        """Store what `make` makes of each record and what is wanted of it.

        None means that it is lost. A record that is only known from before is read anew then, and
        whenever it turns out to have changed.
        """
        held, made = self._shelf.held, list[Record]()
        known = {task_id: held[task_id] for task_id in wanted if task_id in held}
        left = set(wanted)
        for _ in range(ATTEMPTS):
            written = [make(record, wanted[task_id]) for task_id, record in known.items()]
            answers = await self._shelf.write([one for one in written if one is not None])
            done = [record for record in answers if record is not None]
            made += done
            left -= {record.place.task_id for record in done}
            fresh = await self._shelf.read(sorted(left))
            known = {one: fresh[one] for one in fresh if make(fresh[one], wanted[one]) is not None}
            left = set(known)
            if not left:
                return made
        raise StaleTaskError(f"task {min(left)} kept changing; try again")

    async def _revive(self, task_id: str, change: Change) -> list[Record]:
        """Make a final task live again, if no other live task holds its key by now."""
        shelf = self._shelf
        for _ in range(ATTEMPTS):
            record = (await shelf.read([task_id])).get(task_id)
            write = None if record is None else _swapped(record, change)
            if record is None or write is None:
                return []
            key = shelf.codec.task(record).unique_key or ""
            queue = record.place.queue
            revision, holder = await key_holder(shelf, queue, key)
            if holder is not None:
                return []
            frame = key_frame(shelf, queue, key, task_id, revision)
            made = await shelf.write_together(write, [frame])
            if made is not None:
                return [made]
        raise StaleTaskError(f"the key of task {task_id} kept changing; try again")


def _swapped(record: Record, change: Change) -> Write | None:
    """Return what a change makes of a record; None if it is lost."""
    before, after = change
    if not record.is_held_as(before.claim_count, before.lease_token, before.status):
        return None
    if before.status is TaskStatus.RUNNING and not after.is_final:
        after = lifecycle.merge_running(bare_task(record), after)
    return becoming(record, after)


def _takes_key(change: Change) -> bool:
    """Whether a final task with a unique key becomes live again."""
    before, after = change
    return before.unique_key is not None and before.is_final and not after.is_final
