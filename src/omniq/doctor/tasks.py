"""Whether tasks are taken, finished and known to somebody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from omniq import lifecycle
from omniq.models.event import EventType
from omniq.models.finding import Finding, broken, fine, risk
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseEventStorage, BaseQueue, Counts, EventFilter, TaskFilter

PATIENCE = timedelta(seconds=60)
"""A task that could run and does not, for longer than this, is worth a word."""
POISON_DAYS = 1
LOOKED_AT = 1000
"""So many tasks of each kind are looked at; a store may hold millions."""
LOOK_SECONDS = 5.0
"""A store that cannot find tasks by their status looks through all of them for so long at most."""
QUEUES_LOOKED_AT = 100
_WAITING = (TaskStatus.PENDING, TaskStatus.SCHEDULED)


class _Seen(NamedTuple):
    """What was read from the stores."""

    now: datetime
    counts: Counts
    paused: set[str]
    running: list[Task]
    scheduled: list[Task]
    workers_alive: bool


async def task_findings(
    queue: BaseQueue, events: BaseEventStorage | None, now: datetime
) -> list[Finding]:
    """Return what is found about tasks; less where their history is out of reach."""
    counts = await queue.counts()
    running = await _some(queue, counts, TaskStatus.RUNNING)
    seen = _Seen(
        now=now,
        counts=counts,
        paused=await queue.paused(),
        running=running,
        scheduled=await _some(queue, counts, TaskStatus.SCHEDULED),
        workers_alive=any(not _is_overdue(task, now) for task in running)
        or (events is not None and await _started_lately(events, now)),
    )
    abandoned = _abandoned(seen)
    found = _paused(seen) + abandoned + _parked(seen)
    told = {item.component for item in abandoned}
    for name in _busiest(seen):
        if f"queue {name}" not in told:
            found += await _waiting(queue, name, seen)
    if events is not None:
        found += await _given_up(events, now)
    if found:
        return found
    waiting = sum(_number_waiting(seen, name) for name in seen.counts)
    working = sum(by_status.get(TaskStatus.RUNNING, 0) for by_status in counts.values())
    return [fine("tasks", f"{waiting:,} waiting, {working:,} running, none overdue")]


async def _some(
    queue: BaseQueue, counts: Counts, status: TaskStatus, name: str | None = None
) -> list[Task]:
    """Return up to a thousand tasks; none where there are none, or finding them takes too long."""
    names = counts if name is None else (name,)
    if not any(counts.get(one, {}).get(status) for one in names):
        return []
    queues = frozenset({name} if name else ())
    where = TaskFilter(statuses=frozenset({status}), queues=queues)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await queue.find(where, limit=LOOKED_AT)
    except TimeoutError:
        return []


def _busiest(seen: _Seen) -> list[str]:
    """Return the queues that may run, those with the most tasks first."""
    names = sorted(seen.counts.keys() - seen.paused)
    names.sort(key=lambda name: -_number_waiting(seen, name))
    return sorted(names[:QUEUES_LOOKED_AT])


async def _started_lately(events: BaseEventStorage, now: datetime) -> bool:
    where = EventFilter(event_type=EventType.STARTED, since=now - PATIENCE)
    return bool(await events.query(where, limit=1, newest=True))


def _paused(seen: _Seen) -> list[Finding]:
    return [
        risk(
            f"queue {name}",
            f"is paused, and {number:,} tasks wait in it",
            f"omniq queues resume {name}, if it should run again",
        )
        for name in sorted(seen.paused)
        if (number := _number_waiting(seen, name))
    ]


def _abandoned(seen: _Seen) -> list[Finding]:
    """Say which queues have running tasks whose lease ended and that nobody took over."""
    lost = [task for task in seen.running if _is_overdue(task, seen.now)]
    return [
        broken(
            f"queue {name}",
            f"{len(tasks):,} running tasks were left by their workers and nobody takes them over: "
            f"the lease of {tasks[0].id} ended {_age(tasks[0], seen.now)} ago",
            f"run a worker that serves {name}",
        )
        for name, tasks in _by_queue(lost, seen.paused)
    ]


def _parked(seen: _Seen) -> list[Finding]:
    """Say which functions no worker knows."""
    parked: dict[tuple[str, str], list[Task]] = {}
    for task in filter(lifecycle.is_parked, seen.scheduled):
        parked.setdefault((task.queue_name, task.func), []).append(task)
    return [
        broken(
            f"queue {queue_name}",
            f"{len(tasks):,} tasks of {func} are parked: no worker that serves this queue knows "
            "it, or a class in its arguments",
            "run a worker with the code that defines it, or cancel the tasks "
            f"(omniq tasks list --name {func}){_makers(tasks)}",
        )
        for (queue_name, func), tasks in sorted(parked.items())
    ]


def _makers(tasks: list[Task]) -> str:
    """Say what to do about schedules that go on making such tasks."""
    ids = sorted({task.schedule_id for task in tasks if task.schedule_id is not None})
    several = f" and {len(ids) - 1} more" if ids[1:] else ""
    return f" and the schedule of them (omniq schedules delete {ids[0]}){several}" if ids else ""


async def _waiting(queue: BaseQueue, name: str, seen: _Seen) -> list[Finding]:
    """Say whether tasks of a queue wait that could run."""
    tasks = await _some(queue, seen.counts, TaskStatus.PENDING, name)
    ready = [_ready_at(task) for task in tasks if _never_ran(task)]
    due_at = await _next_due(queue, name)
    oldest = min(ready if due_at is None else [*ready, due_at], default=seen.now)
    if seen.now - oldest <= PATIENCE:
        return []
    return [_unserved(name, seen, (seen.now - oldest).total_seconds())]


async def _next_due(queue: BaseQueue, name: str) -> datetime | None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await queue.next_due([name])
    except TimeoutError:
        return None


def _unserved(name: str, seen: _Seen, seconds: float) -> Finding:
    text = f"{max(1, _number_waiting(seen, name)):,} tasks wait, one of them for {seconds:,.0f} s, "
    if seen.workers_alive:
        return risk(
            f"queue {name}",
            f"{text}although workers are alive: none serves this queue, or all are busy",
            f"run a worker with --queues {name}, or more workers",
        )
    return broken(
        f"queue {name}",
        f"{text}and no worker shows a sign of life",
        f"omniq worker APP --queues {name}",
    )


async def _given_up(events: BaseEventStorage, now: datetime) -> list[Finding]:
    """Say which tasks failed lately because workers died over them or could not read them."""
    since = now - timedelta(days=POISON_DAYS)
    where = EventFilter(event_type=EventType.FAILED, since=since)
    failed = await events.query(where, limit=LOOKED_AT, newest=True)
    told: list[Finding] = []
    for mark, what, hint in (
        (
            lifecycle.POISONED,
            "failed as poisoned: each time, the worker that ran it died or hung",
            "look for memory use, native crashes and os._exit in it; then omniq tasks retry ID",
        ),
        (
            lifecycle.DAMAGED_TASK,
            "failed because the stored request cannot be read",
            "see the error with omniq tasks show ID; enqueue it anew",
        ),
    ):
        ids = list(dict.fromkeys(one.task_id for one in failed if mark in (one.message or "")))
        if ids:
            text = f"{len(ids):,} in the last 24 hours {what}: {', '.join(ids[:3])}"
            told.append(risk("tasks", text, hint))
    return told


def _by_queue(tasks: Iterable[Task], left_out: set[str]) -> list[tuple[str, list[Task]]]:
    """Group tasks by queue, those due first in front."""
    groups: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: (task.due_at is None, task.due_at)):
        if task.queue_name not in left_out:
            groups.setdefault(task.queue_name, []).append(task)
    return sorted(groups.items())


def _number_waiting(seen: _Seen, name: str) -> int:
    return sum(seen.counts.get(name, {}).get(status, 0) for status in _WAITING)


def _is_overdue(task: Task, now: datetime) -> bool:
    return task.due_at is not None and now - task.due_at > PATIENCE


def _age(task: Task, now: datetime) -> str:
    return f"{(now - (task.due_at or now)).total_seconds():,.0f} s"


def _never_ran(task: Task) -> bool:
    """Whether it is known since when it can run: nothing held it back but its own moment."""
    return task.claim_count == 0 and not task.depends_on


def _ready_at(task: Task) -> datetime:
    return max(task.created_at, task.run_at or task.created_at)
