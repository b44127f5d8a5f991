"""`Follower`: lets the stores of an application follow a move without a restart."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

from omniq.app.stores import Sources, Stores
from omniq.clock import utcnow
from omniq.exceptions import ConfigError
from omniq.loops import PerLoop
from omniq.models.config import OmniQConfig
from omniq.models.finding import Finding, broken, fine, risk
from omniq.moving import times
from omniq.moving.marker import COMPONENTS, Marker, read_marker
from omniq.moving.parking import MOVE
from omniq.moving.unmoved import UnmovedQueue
from omniq.storage.base import Capabilities, Component

logger = logging.getLogger(__name__)
FORMAT = "serialization_format"
C = TypeVar("C", bound=Component)


class Follower:
    """The watch of the four components of an application; see `omniq.storage.component.Watch`.

    It reads the marker when what it knows is older than `times.valid_seconds`, and before it
    answers for tasks whose storing took longer than that.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._names = {id(getattr(stores, name)): name for name in COMPONENTS}
        self._queue = UnmovedQueue(stores.tasks)
        self._lock = threading.Lock()
        self._looking = PerLoop(asyncio.Lock)
        self._valid_until = self._asked_at = 0.0
        self._marker: Marker | None = None
        self._target: Stores | None = None
        self._stand_ins: dict[str, Component] = {}

    @classmethod
    def attach(cls, stores: Stores) -> None:
        """Let these components follow moves; those that do already go on as they did."""
        follower = cls(stores)
        for component in stores:
            if component.watch is None:
                component.watch = follower

    @property
    def is_idle(self) -> bool:
        """Whether what it knows is fresh, and is that nothing moves."""
        return self._marker is None and time.monotonic() < self._valid_until

    async def serving(self, component: C) -> C:
        """Return the component itself, both stores as one, or that of the target."""
        name = self._names.get(id(component), "")
        if time.monotonic() >= self._valid_until:
            async with self._looking.get():  # one question for all who need the answer now
                if time.monotonic() >= self._valid_until:
                    await self._look()
        elif name == "schedules" and self._is_settling():
            await self._look()  # they go all at once, and whoever asks last should not miss it
        if self._marker is None or self._target is None or not self._knows(name, self._marker):
            return component
        if self._marker.is_done:
            return cast("C", await getattr(self._target, name)._serving())
        if name == "schedules" and not self.is_settled:
            return component
        return cast("C", self._stand_ins[name])

    @property
    def is_settled(self) -> bool:
        """Whether everybody knew of the move when it was last looked at."""
        return self._marker is not None and self._marker.is_settled

    @property
    def abandoned(self) -> int | None:
        """The claim of a mover that has said nothing for longer than it may."""
        if self._marker is None or self._marker.held_until is None:
            return None
        grace = timedelta(seconds=times.lease_seconds(self._costs) / 4)
        return self._marker.claim if utcnow() > self._marker.held_until + grace else None

    async def has_settled(self) -> bool:
        """Whether everybody knows of the move, asked now unless that is known."""
        if not self.is_settled:
            await self._look()
        return self.is_settled

    async def confirm(self, task_ids: Sequence[str]) -> None:
        """Adopt tasks just written to the source, if its move has settled since it was asked.

        Before that, the mover is still to look at the source. What counts is what is known now,
        whoever asked for it meanwhile.
        """
        if not task_ids:
            return
        if time.monotonic() >= self._valid_until or self._is_settling():
            await self._look()
        if self.is_settled and self._target is not None:
            from omniq.moving.transfer import Transfer

            await Transfer(self._queue, self._target.tasks).adopt(task_ids)

    async def findings(self) -> list[Finding]:
        """Return what is to be said of the move, if there is one."""
        await self._look()
        if self._marker is None or self._target is None:
            return []
        name, there = self._stores.tasks.store_name, self._target.tasks.store_name
        again = f"start `omniq move` to {there} again; it goes on where it was"
        if self._marker.is_done:
            hint = "change the configuration of this application; then what is left can be deleted"
            return [risk(name, f"has moved to {there}, which alone is used", hint)]
        if self.abandoned is not None:
            text = f"moves to {there}, but its mover is gone: tasks that were on their way may wait"
            return [broken(name, text, again)]
        if self._marker.held_until is None:
            return [risk(name, f"is half way to {there}, and nobody moves it on", again)]
        return [fine(name, f"moves to {there}; both are used until all is there")]

    async def close(self) -> None:
        """Close the target, and where that moved to."""
        if self._target is not None:
            if self._target.tasks.watch is not None:
                await self._target.tasks.watch.close()
            await self._target.disconnect()

    @property
    def _costs(self) -> Capabilities:
        return self._stores.tasks.capabilities

    async def _look(self) -> None:
        asked_at = time.monotonic()
        marker = read_marker((await self._queue.get([MOVE]))[0])
        with self._lock:
            if asked_at < self._asked_at:
                return  # somebody who asked later had the answer sooner
            if marker is not None and self._target is None:
                self._target = self._opened(marker)
            self._asked_at, self._marker = asked_at, marker
            is_over = marker is not None and marker.is_done
            valid_until = asked_at + times.valid_seconds(self._costs)
            self._valid_until = float("inf") if is_over else valid_until

    def _is_settling(self) -> bool:
        return self._marker is not None and not self._marker.is_settled

    def _knows(self, name: str, marker: Marker) -> bool:
        """Whether the mover found this component where this application has it."""
        place = marker.places.get(name)
        return place is not None and place == self._stores.places.get(name)

    def _opened(self, marker: Marker) -> Stores:
        from omniq.moving.queue import MovingQueue
        from omniq.moving.stores import MovingEvents, MovingResults, MovingSchedules

        target = target_of(marker.target)
        old, new = self._stores, target
        self._stand_ins = {
            "tasks": MovingQueue(self._queue, new.tasks, self),
            "results": MovingResults(old.results, new.results, self),
            "events": MovingEvents(old.events, new.events, self),
            "schedules": MovingSchedules(old.schedules, new.schedules),
        }
        for name in COMPONENTS:
            if name in marker.places and not self._knows(name, marker):
                logger.warning("%s stay where they are: the mover knew of another place", name)
        logger.warning(
            "%r moves to %r; both are used until all is there. Change the configuration of this "
            "application before its next start",
            old.tasks,
            new.tasks,
        )
        Follower.attach(target)
        return target


def target_of(config: dict[str, Any]) -> Stores:
    """Return the stores a marker names; nothing is opened yet.

    Raises:
        ConfigError: it makes no sense, or asks to read pickle: whoever can write to the source must
            not thereby run code in all who use it.
    """
    read = OmniQConfig.from_dict(config, source="the mark that this store moves")
    refuse_pickle(read)
    return Stores(Sources(config=read), {})


def refuse_pickle(config: OmniQConfig) -> None:
    """Refuse a target that reads pickle. Raises ConfigError."""
    for name, backend in config.resolved({}).items():
        query = dict(parse_qsl((backend.url or "").partition("?")[2]))
        if "pickle" in (query.get(FORMAT), backend.config.get(FORMAT)):
            raise ConfigError(
                f"{name}: a store that reads pickle cannot be moved to, as whoever can write to "
                "the source could then run code in all who use it; stop all and use migrate"
            )
