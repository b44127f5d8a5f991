"""Whether schedules fire when they should."""

from __future__ import annotations

from datetime import datetime, timedelta

from omniq.models.finding import Finding, broken, fine
from omniq.models.schedule import ScheduleStatus
from omniq.storage.base import BaseScheduleStorage

OVERDUE = timedelta(seconds=60)
NAMED = 5


async def schedule_findings(storage: BaseScheduleStorage, now: datetime) -> list[Finding]:
    """Return whether a scheduler moves the active schedules on."""
    active = await storage.list_schedules(ScheduleStatus.ACTIVE)
    moments = [(item.next_run_at, item.id) for item in active if item.next_run_at is not None]
    overdue = sorted(pair for pair in moments if now - pair[0] > OVERDUE)
    if not overdue:
        return [fine("schedules", f"{len(active):,} active, none overdue")] if active else []
    ids = ", ".join(name for _, name in overdue[:NAMED])
    more = f" and {len(overdue) - NAMED:,} more" if len(overdue) > NAMED else ""
    seconds = (now - overdue[0][0]).total_seconds()
    return [
        broken(
            "schedules",
            f"no scheduler runs: {ids}{more} should have fired, the first {seconds:,.0f} s ago",
            "run a worker of this application without --no-schedules",
        )
    ]
