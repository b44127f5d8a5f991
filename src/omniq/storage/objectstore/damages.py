"""Records that cannot be read: kept where a person finds them, and reported by the doctor."""

from __future__ import annotations

import threading

from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.objectstore.driver import ObjectDriver

MOST_KNOWN = 100
NAMED = 3


class Damages:
    """What a component could not read, as far as this process met it, and what was set aside.

    Args:
        driver: of the store.
        folder: of the component.
    """

    def __init__(self, driver: ObjectDriver, folder: str) -> None:
        self._driver = driver
        self._folder = folder
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, place: str, problem: object) -> None:
        """Remember what cannot be read, for the doctor."""
        with self._lock:
            self._known[place] = str(problem)
            while len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]

    def forget(self, place: str) -> None:
        """Drop what is there no more, or can be read again."""
        with self._lock:
            self._known.pop(place, None)

    async def set_aside(self, key: str, data: bytes) -> None:
        """Keep a copy of something damaged before it is deleted."""
        name = key.removeprefix(f"{self._folder}/").replace("/", "~")
        await self._driver.put(f"{self._folder}/.damaged/{name}", data)
        with self._lock:
            self._known = {place: why for place, why in self._known.items() if key not in place}

    async def findings(self, name: str, hint: str) -> list[Finding]:
        """Report what was met, one by one, and what lies aside."""
        with self._lock:
            known = sorted(self._known.items())
        found = [broken(name, f"{place} cannot be read: {why:.200}", hint) for place, why in known]
        return [*found, *await aside_findings(self._driver, self._folder, name)] or [
            fine(name, "no damaged records")
        ]


async def aside_findings(driver: ObjectDriver, folder: str, name: str) -> list[Finding]:
    """Report what lies aside, whoever met it; a page at most."""
    keys = [entry.key for entry in await driver.list(f"{folder}/.damaged/")]
    if not keys:
        return []
    return [
        risk(
            name,
            f"{len(keys):,} damaged records were set aside: {', '.join(keys[:NAMED])}",
            "look at them; make anew what is worth it, then delete the objects",
        )
    ]
