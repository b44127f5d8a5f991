"""What `omniq doctor` says: one fact about a component or its store, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    RISK = "risk"
    BROKEN = "broken"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        level: FINE: as it should be. RISK: works, but may lose, delay or slow down tasks. BROKEN:
            tasks are lost or not run now.
        component: what it is about, such as ``sqlite /srv/omniq.db`` or ``queue mail``; components
            of one store name that store alike. Never holds a password.
        text: what is the case.
        hint: what to do; empty only where all is fine.
    """

    level: Level
    component: str
    text: str
    hint: str = ""


def fine(component: str, text: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(Level.FINE, component, text)


def risk(component: str, text: str, hint: str) -> Finding:
    """Return a finding about what works, but may go wrong."""
    return Finding(Level.RISK, component, text, hint)


def broken(component: str, text: str, hint: str) -> Finding:
    """Return a finding about what goes wrong now."""
    return Finding(Level.BROKEN, component, text, hint)


def worst(findings: list[Finding]) -> Level:
    """Return the worst level among findings; FINE when there are none."""
    order = list(Level)
    return max((item.level for item in findings), key=order.index, default=Level.FINE)
