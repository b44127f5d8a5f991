"""Whether this machine and a store agree on the time."""

from __future__ import annotations

from datetime import datetime, timedelta

from omniq.clock import utcnow
from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.base import Component

TOLERATED = timedelta(seconds=1)
LEASE = timedelta(seconds=30)


async def clock_findings(component: Component, now: datetime | None = None) -> list[Finding]:
    """Return what the store's clock says beside this machine's (or beside `now`)."""
    asked_at = utcnow()
    theirs = await component.store_time()
    if theirs is None:
        return []
    trip = utcnow() - asked_at
    ahead = theirs - ((now or asked_at) + trip / 2)
    off = abs(ahead)
    if off - trip / 2 <= TOLERATED:
        return [fine(component.store_name, "its clock and that of this machine agree")]
    say = broken if off > LEASE else risk
    direction = "ahead of" if ahead > timedelta() else "behind"
    return [
        say(
            component.store_name,
            f"its clock is {off.total_seconds():.1f} s {direction} that of this machine: delays, "
            "schedules and expiry come early or late by as much",
            "let both machines take the time from the same source (NTP)",
        )
    ]
