"""Reading what the doctor said."""

from __future__ import annotations

from omniq import OmniQ
from omniq.models.finding import Finding, Level


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    """The level and the text of all that is not fine; each says what to do."""
    assert all(item.hint for item in found if item.level is not Level.FINE)
    return [(item.level.value, item.text) for item in found if item.level is not Level.FINE]


def only(found: list[Finding]) -> tuple[str, str]:
    (one,) = bad(found)
    return one


async def findings_of(app: OmniQ) -> list[Finding]:
    try:
        return await app.findings()
    finally:
        await app.disconnect()
