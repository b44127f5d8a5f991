"""From one store to another while producers and workers go on; see `omniq.moving`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omniq.app.stores import Sources, Stores
from omniq.blocking import run_blocking
from omniq.exceptions import LeaseLostError, StorageError
from omniq.ids import new_id, new_token
from omniq.migration.copying import Copied, MigrationError, Progress, copy_results
from omniq.migration.events import copy_events, missing_events
from omniq.migration.places import (
    Address,
    Place,
    address,
    open_source,
    refuse_empty,
    refuse_same,
    stores_of,
)
from omniq.migration.verifying import Digest, verified_move
from omniq.models.config import OmniQConfig
from omniq.models.task import Task, TaskStatus
from omniq.moving import times
from omniq.moving.marker import Marker, done, marker_task, read_marker, settled
from omniq.moving.parking import MOVE
from omniq.moving.stores import MovingSchedules
from omniq.moving.transfer import Transfer
from omniq.moving.watch import refuse_pickle
from omniq.storage.base import BaseQueue, Change, Lease


@dataclass
class Moved:
    """What a move did.

    Attributes:
        transferred: how many tasks were taken over before they ran; others ran in the source.
        finished, results, events: how many were copied, and how many the target had already.
        schedules: how many were taken over.
        stuck: ids of tasks that had to run in the source, and why.
        was_done: whether all was moved before, so that there were only latecomers to take over:
            tasks stored since by somebody who does not follow.
        digests: when verified, for each kind of record what was found on both sides.
        missing_events: when verified, events of the source the target does not have.
    """

    transferred: int = 0
    finished: Copied = field(default_factory=Copied)
    results: Copied = field(default_factory=Copied)
    events: Copied = field(default_factory=Copied)
    schedules: int = 0
    stuck: dict[str, str] = field(default_factory=dict[str, str])
    was_done: bool = False
    digests: dict[str, Digest] | None = None
    missing_events: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all is in the target and, where it was verified, found to be the same."""
        return all(d.is_same for d in (self.digests or {}).values()) and not self.missing_events


async def move(
    source: Place, target: Address, *, verify: bool = False, progress: Progress | None = None
) -> Moved:
    """Move a store to another one while producers and workers run; return when all is there.

    Applications that use the source follow by themselves within seconds: new tasks go to the
    target, workers take from both, handles find what they look for in either. No task is lost or
    runs in both. Interrupted at any point, it is simply started again; a task that was on its way
    runs only then. There is no way back but a move to a third place.

    The source keeps the address of the target, with the password in it, for as long as it is used.

    Args:
        source: where from.
        target: where to; a place that all processes can reach.
        verify: compare all finished tasks, results and events before the source is left.
        progress: called with the kind of record, how many are done, and how many there are.

    Raises:
        MigrationError: both are the same store, the source does not exist, is empty or moves
            elsewhere, another mover is at work, or the target cannot be shared or has moved itself.
        ConfigError: the target makes no sense, or reads pickle.
        ValidationError: the target cannot hold a finished task or a result of the source.
    """
    place = address(target)
    refuse_pickle(OmniQConfig.from_dict(place))
    old, new = stores_of(source), Stores(Sources(config=OmniQConfig.from_dict(place)), {})
    refuse_same(old, new)
    try:
        await open_source(old)
        marker = await _marked(old, new, place)
        if marker.is_done:
            late = Transfer(old.tasks, new.tasks)
            await late.pass_over()
            return Moved(transferred=late.moved, stuck=late.stuck, was_done=True)
        async with _Hold(old.tasks) as hold:
            mover = _Mover(old, new, marker, hold, progress or _silent)
            return await mover.run(verify=verify)
    finally:
        await old.disconnect()
        await new.disconnect()


def move_sync(
    source: Place, target: Address, *, verify: bool = False, progress: Progress | None = None
) -> Moved:
    """Block until `await move(…)` is done and return its result."""
    return run_blocking(partial(move, source, target, verify=verify, progress=progress), "move")


async def _marked(old: Stores, new: Stores, place: dict[str, Any]) -> Marker:
    """Mark the source, or find it marked; return what the marker says."""
    if not new.tasks.capabilities.shared:
        raise MigrationError("a target in memory lives in one process; the others cannot follow")
    known = await old.tasks.get_task(MOVE)
    if known is None:
        await refuse_empty(old)
    if read_marker(await new.tasks.get_task(MOVE)) is not None:
        raise MigrationError(f"{new.tasks!r} has been moved elsewhere itself; choose a new store")
    if known is None:
        await _refuse_same_place(old, new)
        places = {
            name: where for name, where in old.places.items() if old.keys[name] != new.keys[name]
        }
        await old.tasks.insert([marker_task(place, places)])
        known = await old.tasks.get_task(MOVE)
    marker = read_marker(known)
    if marker is None or marker.target != place:
        raise MigrationError(f"{old.tasks!r} moves to another store already; finish that first")
    return marker


async def _refuse_same_place(old: Stores, new: Stores) -> None:
    """Refuse one store under two names: what is written to one is seen in the other."""
    probe = Task(func=MOVE, id=f"{MOVE}.{new_id()}", queue_name=MOVE, status=TaskStatus.CANCELLED)
    await old.tasks.insert([probe])
    if await new.tasks.get_task(probe.id) is not None:
        raise MigrationError(f"source and target are the same store, {old.tasks!r}")


class _Hold:
    """The lease of the marker: who has it moves, and no one else."""

    def __init__(self, queue: BaseQueue) -> None:
        self._queue = queue
        self._seconds = times.lease_seconds(queue.capabilities)
        self._task: Task | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_lost = False

    async def __aenter__(self) -> _Hold:
        worker_id, ends_at = f"mover-{new_id()}", time.monotonic() + 1.5 * self._seconds
        await self._queue.announce(worker_id)
        while True:
            await self._queue.end_dead_leases()
            claimed = await self._queue.claim(
                [MOVE],
                worker_id=worker_id,
                lease_token=new_token(),
                lease_seconds=self._seconds,
            )
            if claimed:
                self._task = claimed[0]
                self._keeper = asyncio.create_task(self._keep(self._task))
                return self
            if time.monotonic() > ends_at:
                raise MigrationError(f"{self._queue!r} is being moved by another process; let it")
            await self._queue.wait([MOVE], 1.0)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        if self._task is None:
            return
        with suppress(StorageError, LeaseLostError):
            if kind is None:
                await self._queue.release(self._task)
            else:  # with tasks in transit perhaps: as if it had died, so that somebody sees to them
                await self._queue.heartbeat(self._task, lease_seconds=0.0)

    def check(self) -> None:
        """Raise MigrationError if somebody else moves by now."""
        if self._is_lost:
            raise MigrationError("the lease of the move was lost, another one may be at work")

    async def settle(self) -> None:
        """Say that everybody knows of the move."""
        await self._write(settled)

    async def finish(self) -> None:
        """Say that the source is not needed any more."""
        await self._write(done)
        self._task = None

    async def _write(self, change: Callable[[Task], Task]) -> None:
        assert self._task is not None  # noqa: S101 - held
        after = change(self._task)
        if not all(await self._queue.swap([Change(self._task, after)])):
            self._is_lost = True
            self.check()
        self._task = after

    async def _keep(self, task: Task) -> None:
        lease = Lease(task.id, task.claim_count, task.lease_token or "")
        while True:
            await asyncio.sleep(self._seconds / 4)
            with suppress(StorageError):
                if not await self._queue.extend([lease], lease_seconds=self._seconds):
                    self._is_lost = True
                    return


class _Mover:
    """The steps of a move, each of which may be repeated."""

    def __init__(
        self, old: Stores, new: Stores, marker: Marker, hold: _Hold, progress: Progress
    ) -> None:
        self._old = old
        self._new = new
        self._places = marker.places
        self._is_settled = marker.is_settled
        self._hold = hold
        self._progress = progress
        self._transfer = Transfer(old.tasks, new.tasks)
        self._schedules = MovingSchedules(old.schedules, new.schedules)
        self._report = Moved()

    async def run(self, *, verify: bool) -> Moved:
        """Move all; return what was done."""
        await self._settle()
        await self._copy_paused()
        await self._transfer.recover()
        await self._drain()
        await self._copy()
        await self._drain()
        if verify:
            await self._verify()
        if self._report.is_complete:
            await self._hold.finish()
        return self._report

    async def _settle(self) -> None:
        """Wait until everybody knows of the move, and until everybody knows that all do.

        Till then somebody may put what is new into the source.
        """
        seconds = times.settle_seconds(self._old.tasks.capabilities)
        self._tell("settling", 0, None)
        if not self._is_settled:
            await asyncio.sleep(seconds)
            self._hold.check()
            await self._hold.settle()
        await asyncio.sleep(seconds)

    async def _copy_paused(self) -> None:
        """Pause what is paused, unless it is resumed just now."""
        names = await self._old.tasks.paused()
        for queue_name in names:
            await self._new.tasks.set_paused(queue_name, True)
        for queue_name in names - await self._old.tasks.paused():
            await self._new.tasks.set_paused(queue_name, False)

    async def _drain(self) -> None:
        """Transfer until the source has no live task and no schedule left."""
        while True:
            if "schedules" in self._places:
                self._report.schedules += await self._schedules.carry()
            left = await self._transfer.pass_over()
            self._report.transferred = self._transfer.moved
            self._report.stuck |= self._transfer.stuck
            self._tell("tasks", self._transfer.moved, self._transfer.moved + left)
            if not left:
                return
            await asyncio.sleep(times.PAUSE_SECONDS)

    async def _copy(self) -> None:
        """Copy what is finished; a result before its task, so that no handle misses it."""
        report, old, new = self._report, self._old, self._new
        if "results" in self._places:
            report.results = await copy_results(old.results, new.results, self._tell)
        if "events" in self._places:
            report.events = await copy_events(old.events, new.events, self._tell)
        total, copied = await self._transfer.all_final(partial(self._tell, "finished tasks"))
        report.finished = Copied(copied, total - copied)

    async def _verify(self) -> None:
        self._tell("verifying", 0, None)
        self._report.digests = await verified_move(self._old, self._new, self._places)
        if "events" in self._places:
            self._report.missing_events = await missing_events(self._old.events, self._new.events)

    def _tell(self, kind: str, number: int, total: int | None) -> None:
        self._hold.check()
        self._progress(kind, number, total)


def _silent(kind: str, done: int, total: int | None) -> None:
    """Tell nobody."""
