"""Which tasks a claim takes, and how long there is nothing to claim."""

from __future__ import annotations

from datetime import datetime

from omniq import lifecycle
from omniq.clock import from_micros, to_micros
from omniq.models.task import Task, TaskStatus
from omniq.storage.file.lanes import Lane
from omniq.storage.file.records import ID_AT, State, Stored
from omniq.storage.file.unit import Unit
from omniq.storage.file.view import TaskView

PENDING, SCHEDULED, RUNNING = TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.RUNNING
PROMOTED_PER_CLAIM = 10_000
"""So many delayed tasks become ready in one claim at most; the rest follow with the next."""


class Claim:
    """One claim: how the tasks it takes are leased."""

    def __init__(
        self, view: TaskView, *, worker_id: str, lease_token: str, ends_at: datetime, now: datetime
    ) -> None:
        self._view = view
        self._worker_id = worker_id
        self._lease_token = lease_token
        self._ends_at = ends_at
        self._now = now

    def take(self, unit: Unit, queues: list[str], limit: int) -> list[Task]:
        """Lease the first tasks of these queues that can be claimed; see `TaskStore.claim`."""
        paused = self._view.paused(unit.batch.files)
        lanes = [self._view.lane(unit.batch, queue) for queue in queues if queue not in paused]
        for lane in lanes:
            self._promote(unit, lane)
        taken: list[Task] = []
        for lane in lanes:
            while len(taken) < limit and (stored := self._next(unit, lane)) is not None:
                taken.append(self._lease(unit, stored))
        return taken

    def _promote(self, unit: Unit, lane: Lane) -> None:
        """Line up what came due: expired leases as they are, delayed tasks as PENDING."""
        now = to_micros(self._now)
        for _ in range(PROMOTED_PER_CLAIM):
            timer = lane.next_timer()
            if timer is None or timer[0] > now:
                return
            stem = timer[1]
            stored = unit.get(stem[ID_AT:])
            if stored is None:
                lane.leave(stem)
            elif _is_due(lane, stem, stored.state, now) and stored.state.status is SCHEDULED:
                unit.put(stored, lifecycle.promote(stored.bare()))

    def _next(self, unit: Unit, lane: Lane) -> Stored | None:
        now = to_micros(self._now)
        while (stem := lane.line.first()) is not None:
            lane.line.pop()
            stored = unit.get(stem[ID_AT:])
            if stored is None or stored.state.stem != stem:
                continue
            due = _claimable_at(stored.state)
            if due is not None and due <= now:
                return stored
            if due is not None:
                lane.set_timer(stem, due)
        return None

    def _lease(self, unit: Unit, stored: Stored) -> Task:
        after = lifecycle.claim(
            unit.whole(stored),
            worker_id=self._worker_id,
            lease_token=self._lease_token,
            lease_ends_at=self._ends_at,
            now=self._now,
        )
        unit.put(stored, after)
        return after


def claimable_at(view: TaskView, unit: Unit, queues: list[str], now: datetime) -> datetime | None:
    """Return from when on a claim of these queues finds something; None: nothing ahead."""
    paused = view.paused(unit.batch.files)
    moments = [
        _lane_claimable_at(view.lane(unit.batch, queue), unit, to_micros(now))
        for queue in queues
        if queue not in paused
    ]
    return _earliest(moments)


def next_due(view: TaskView, unit: Unit, queues: list[str]) -> datetime | None:
    """Return the earliest `due_at` of a scheduled or running task of these queues."""
    lanes = [view.lane(unit.batch, queue) for queue in queues]
    return _earliest(
        [_next_timer(lane, unit) for lane in lanes] + [lane.overdue() for lane in lanes]
    )


def _lane_claimable_at(lane: Lane, unit: Unit, now: int) -> int | None:
    while (stem := lane.line.first()) is not None:
        stored = unit.get(stem[ID_AT:])
        due = None if stored is None or stored.state.stem != stem else _claimable_at(stored.state)
        if due is not None and due <= now:
            return now
        lane.line.pop()
        if due is not None:
            lane.set_timer(stem, due)
    return _next_timer(lane, unit)


def _next_timer(lane: Lane, unit: Unit) -> int | None:
    while (timer := lane.next_timer()) is not None:
        micros, stem = timer
        stored = unit.get(stem[ID_AT:])
        due = None if stored is None or stored.state.stem != stem else _claimable_at(stored.state)
        if due == micros:
            return micros
        if due is None:
            lane.leave(stem)
        elif due == 0:
            lane.line_up(stem)
            return 0
        else:
            lane.set_timer(stem, due)
    return None


def _is_due(lane: Lane, stem: str, state: State, now: int) -> bool:
    """Whether a timer that rang was right; it is set anew or taken away if not."""
    due = _claimable_at(state) if state.stem == stem else None
    if due is None:
        lane.leave(stem)
    elif due > now:
        lane.set_timer(stem, due)
    else:
        lane.line_up(stem, overdue_since=due if state.status is RUNNING else None)
        return True
    return False


def _claimable_at(state: State) -> int | None:
    """From when on a task can be claimed: 0 at any time, None never as it is."""
    if state.status is PENDING:
        return 0
    if state.status in (SCHEDULED, RUNNING):
        return 0 if state.due_at is None else to_micros(state.due_at)
    return None


def _earliest(moments: list[int | None]) -> datetime | None:
    known = [micros for micros in moments if micros is not None]
    return from_micros(min(known)) if known else None
