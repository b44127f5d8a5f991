"""Compare-and-swap and heartbeats: each change is one publish that expects the revision it saw."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime

from omniq import lifecycle
from omniq.exceptions import StaleTaskError
from omniq.models.task import Task, TaskStatus
from omniq.storage.nats.component import rounds
from omniq.storage.nats.dependants import Dependants
from omniq.storage.nats.inserts import key_frame, key_holder
from omniq.storage.nats.records import Record, bare_task
from omniq.storage.nats.shelf import ATTEMPTS, Shelf, Write, becoming
from omniq.storage.taskstore import Change, Lease


class Changes:
    """Works on records this process holds where it can, and reads where it must."""

    def __init__(self, shelf: Shelf, dependants: Dependants) -> None:
        self._shelf = shelf
        self._dependants = dependants

    async def swap(self, changes: Sequence[Change], now: datetime) -> list[bool]:
        """Apply changes; see `TaskStore.swap`."""
        answers = [False] * len(changes)
        for places in rounds([change.before.id for change in changes]):
            pending = {changes[place].before.id: place for place in places}
            found = await self._apply(
                [changes[place] for place in places],
            )
            for record in found:
                answers[pending[record.place.task_id]] = True
            final = {
                record.place.task_id: status
                for record in found
                if (status := TaskStatus(record.head.status)).is_final
            }
            await self._dependants.settle(final, now)
        return answers

    async def extend(
        self, leases: Sequence[Lease], ends_at: datetime
    ) -> list[Record]:
        """Move the end of leases; return the records of those still held."""

        def lengthened(record: Record, lease: Lease) -> Write | None:
            if not record.is_held_as(lease.claim_count, lease.lease_token, TaskStatus.RUNNING):
                return None
            task = bare_task(record)
            task.due_at = ends_at
            return becoming(record, task)

        unique = {lease.task_id: lease for lease in leases}
        return await self._write_each(unique, lengthened)

    async def _apply(self, changes: Sequence[Change]) -> list[Record]:
        """Apply changes of different tasks; return the records of those made."""
        wanted = {change.before.id: change for change in changes}
        revived = {key: change for key, change in wanted.items() if _revives_key(change)}
        made = await self._write_each(
            {key: change for key, change in wanted.items() if key not in revived}, _swapped
        )
        for task_id, change in revived.items():
            made += await self._revive(task_id, change)
        return made

    async def _write_each(self, wanted, make) -> list[Record]:  # type: ignore[no-untyped-def]
        """Write what `make` makes of each record and what is wanted of it, until it stands."""
        held = self._shelf.held
        known = {task_id: held[task_id] for task_id in wanted if task_id in held}
        made: list[Record] = []
        left = set(wanted)
        for _ in range(ATTEMPTS):
            writes: list[Write] = []
            for task_id, record in known.items():
                write = make(record, wanted[task_id])
                if write is not None:
                    writes.append(write)
            answers = await self._shelf.write(writes)
            done = [record for record in answers if record is not None]
            made += done
            left -= {record.place.task_id for record in done}
            if not left:
                return made
            known = await self._shelf.read(sorted(left))
            left = {one for one in known if make(known[one], wanted[one]) is not None}
            known = {one: known[one] for one in left}
            if not left:
                return made
        raise StaleTaskError(f"task {min(left)} kept changing; try again")

    async def _revive(self, task_id: str, change: Change) -> list[Record]:
        """Make a final task live again, if no other live task holds its key by now."""
        shelf, key = self._shelf, change.before.unique_key or ""
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
            if await shelf.write_together([write], [frame]):
                return [record._replace(head=write.head)]
        raise StaleTaskError(f"the key of task {task_id} kept changing; try again")


def _swapped(record: Record, change: Change) -> Write | None:
    """Return what a change makes of a record; None if it is lost."""
    before, after = change
    if not record.is_held_as(before.claim_count, before.lease_token, before.status):
        return None
    if before.status is TaskStatus.RUNNING:
        after = lifecycle.merge_running(bare_task(record), after)
    return becoming(record, after)


def _revives_key(change: Change) -> bool:
    before, after = change
    return before.unique_key is not None and before.is_final and not after.is_final
