"""Looks at every component of an application and says what is fine, risky or broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from omniq.clock import utcnow
from omniq.doctor.clocks import clock_findings
from omniq.doctor.schedules import schedule_findings
from omniq.doctor.tasks import task_findings
from omniq.exceptions import StorageError
from omniq.models.finding import Finding, broken
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
)

UNREACHABLE = "cannot be used: "


class Patient(NamedTuple):
    """The four components that are looked at."""

    tasks: BaseQueue
    results: BaseResultStorage
    events: BaseEventStorage
    schedules: BaseScheduleStorage


async def examine(patient: Patient, *, now: datetime | None = None) -> list[Finding]:
    """Return what is found about the components, then about the tasks and schedules in them.

    A store that cannot be opened or asked is a finding too; the others are looked at all the same.
    Components that share a store are asked once. Each store may take as long as its own timeouts.
    """
    moment = now or utcnow()
    found: list[Finding] = []
    usable: dict[int, bool] = {}
    for component in patient:
        key = id(component.examined)
        if key not in usable:
            said = await _asked(component, component.findings)
            usable[key] = not any(item.text.startswith(UNREACHABLE) for item in said)
            found += said
    for component in {one.store_name: one for one in patient}.values():
        if usable[id(component.examined)]:
            found += await _asked(component, partial(clock_findings, component, now))
    if usable[id(patient.tasks.examined)]:
        if patient.tasks.watch is not None:
            found += await _asked(patient.tasks, patient.tasks.watch.findings)
        events = patient.events if usable[id(patient.events.examined)] else None
        look = partial(task_findings, patient.tasks, events, moment)
        found += await _asked(patient.tasks, look)
    if usable[id(patient.schedules.examined)]:
        look = partial(schedule_findings, patient.schedules, moment)
        found += await _asked(patient.schedules, look)
    return list(dict.fromkeys(found))


async def _asked(
    component: Component, ask: Callable[[], Awaitable[list[Finding]]]
) -> list[Finding]:
    try:
        return await ask()
    except StorageError as error:
        hint = "see that the store runs, is reachable from here and takes these credentials"
        return [broken(component.store_name, f"{UNREACHABLE}{error}", hint)]
