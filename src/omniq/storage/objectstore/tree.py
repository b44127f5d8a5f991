"""`Tree`: a copy of a log's state as objects in folders, for people; nothing ever reads it.

One process at a time publishes. Which one, and up to which commit, says the object ``.tree``, the
mark, which is only ever replaced by compare-and-swap: before the publisher writes after a pause,
now and then while it writes, and when it is done. Who sees the mark of another unchanged for
`SILENCE_SECONDS` while there is something to publish takes its place. All processes know from
the log what changed since the mark and where it was shown before, so what a publisher that died
left half done is done again. Who does not know so far back, or finds no mark, lists the tree once
and compares.

A publisher that was stopped for long may still write what is no longer true. It finds out when it
is done, and deletes the mark: the next one compares.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from omniq.storage.objectstore.backlog import Backlog
from omniq.storage.objectstore.driver import ABSENT, PAGE, ObjectDriver, Stored
from omniq.storage.objectstore.leaves import Leaves
from omniq.storage.objectstore.log import ObjectLog
from omniq.storage.objectstore.together import together
from omniq.storage.objectstore.trust import Reading, TrustClock

logger = logging.getLogger("omniq.storage.objectstore")

SILENCE_SECONDS = 60.0
RENEW_SECONDS = 15.0
PARALLEL = 8
"""Writes under way at once: few, as callers of the same process come first."""
PART = 64
UNKNOWN = -1


class Mark(msgspec.Struct, omit_defaults=True):
    """Up to which commit the tree is published, and by whom; nobody: it was closed."""

    seq: int = UNKNOWN
    publisher: str = ""
    nonce: str = ""


class Held(NamedTuple):
    """Our mark: its version, and when the request that wrote it was sent."""

    version: str
    seq: int
    sent_at: Reading


class Seen(NamedTuple):
    """The mark of another, and when it was first seen."""

    version: str
    at: Reading


class Step(NamedTuple):
    """What is to be done about an item.

    Attributes:
        item, place: show it there; None: show nothing.
        stale: where it may be shown and should not.
        is_there: something lies at its place; it is compared first.
    """

    item: Any | None
    place: str | None
    stale: list[str]
    is_there: bool = False


class _SupersededError(Exception):
    """Somebody else changed the mark."""


class Tree:
    """Publishes the state of a log. Bound to the event loop of that log.

    Args:
        driver: open.
        folder: of the log, and of the tree.
        log: whose state is shown.
        leaves: how its items are.
        clock: says how long ago something was.
    """

    def __init__(
        self,
        driver: ObjectDriver,
        folder: str,
        log: ObjectLog[Any],
        leaves: Leaves[Any],
        *,
        clock: TrustClock | None = None,
    ) -> None:
        self._driver = driver
        self._folder = folder
        self._key = mark_key(folder)
        self._log = log
        self._leaves = leaves
        self._clock = clock or TrustClock()
        self._name = uuid4().hex
        self._backlog = Backlog()
        self._published = UNKNOWN
        self._held: Held | None = None
        self._seen: Seen | None = None
        self._is_exact = False
        self._has_written = False
        log.state.on_change = self._note
        log.on_renew = self._begin_anew

    def __str__(self) -> str:
        return f"the tree in {self._driver}/{self._folder}"

    @property
    def is_publisher(self) -> bool:
        """Whether this process published last, as far as it knows."""
        return self._held is not None

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to publish, as far as this process knows.

        The mark follows snapshots even if nothing worth showing has changed, so that who begins
        with one need not compare.
        """
        if self._log.seq <= max(self._published, 0):
            return True
        return not self._backlog and self._published >= self._log.covered

    async def turn(self, *, is_last: bool = False) -> None:
        """Publish what there is to publish, unless somebody else does.

        Args:
            is_last: tell the others that somebody else may publish from now on.

        Raises:
            StorageError: the store refuses or does not answer; another turn goes on with it.
        """
        try:
            held = self._held if self.is_settled else await self._claimed()
            if held is not None and not self.is_settled:
                held = await self._publish(held)
            if held is not None and is_last:
                await self._write(held, held.seq, "")
        except _SupersededError:
            await self._give_up()
        except BaseException:
            self._let_go()
            raise

    def _begin_anew(self) -> None:
        """Forget what changed: the log has read its state anew."""
        self._backlog.begin_anew(self._log.seq)

    def _note(self, item_id: str, before: Any | None, after: Any | None) -> None:
        """Hear of a change that is about to be part of the log."""
        if before is None or after is None or not self._leaves.is_alike(before, after):
            place = None if before is None else self._leaves.place(before)
            self._backlog.add(self._log.seq + 1, item_id, place)

    async def _claimed(self) -> Held | None:
        """Return our mark if this process is to publish: it did last, or nobody does any more."""
        if self._held is not None and self._age(self._held.sent_at) < RENEW_SECONDS:
            return self._held
        stored = await self._driver.get(self._key)
        version, mark = _read(stored)
        if self._has_written and mark.publisher != self._name:
            raise _SupersededError
        if mark.seq > self._log.seq:
            await self._log.look()
        seq = mark.seq if mark.seq <= self._log.seq else UNKNOWN  # of a log that is gone
        self._published = seq
        self._backlog.drop(seq)
        if self.is_settled:
            return None
        if mark.publisher != self._name:
            self._let_go()
            if mark.publisher and not self._is_silent(version):
                return None
            await self._log.look()  # whoever it was knew no more than this
        return await self._write(Held(version, seq, self._clock.now()), seq, self._name)

    def _is_silent(self, version: str) -> bool:
        """Whether the mark of another has been as it is for long."""
        if self._seen is None or self._seen.version != version:
            self._seen = Seen(version, self._clock.now())
        return self._age(self._seen.at) >= SILENCE_SECONDS

    async def _publish(self, held: Held) -> Held:
        """Bring the tree up to the last commit this process knows of; return the new mark."""
        seq, since = self._log.seq, held.seq
        is_known = self._backlog.knows(since)
        steps = self._changed(seq) if is_known else await self._compared()
        self._is_exact = False
        for start in range(0, len(steps), PART):
            if self._age(held.sent_at) >= RENEW_SECONDS:
                held = await self._write(held, since, self._name)
            await self._carry_out(steps[start : start + PART])
        held = await self._write(held, seq, self._name)
        self._published, self._is_exact = seq, True
        self._backlog.drop(seq)
        return held

    def _changed(self, seq: int) -> list[Step]:
        """Return what is to be done about the items that changed since the last publication.

        Only who published that itself, and as a whole, knows for sure where they are shown.
        """
        steps: list[Step] = []
        for item_id, places in self._backlog.places(seq).items():
            item, place = self._shown(item_id)
            maybe = places[:1] if self._is_exact else dict.fromkeys(places)
            stale = [one for one in maybe if one is not None and one != place]
            steps.append(Step(item, place, stale))
        return steps

    async def _compared(self) -> list[Step]:
        """Return what is to be done about everything, after a look at what is there."""
        ids = list(self._log.state.committed_ids())
        shown = [(item, place) for item, place in map(self._shown, ids) if place is not None]
        found = await self._listed()
        steps = [Step(item, place, [], place in found) for item, place in shown]
        strays = found.difference(place for _, place in shown)
        return [*steps, *(Step(None, None, [place]) for place in sorted(strays))]

    def _shown(self, item_id: str) -> tuple[Any | None, str | None]:
        item = self._log.state.committed(item_id)
        return item, None if item is None else self._leaves.place(item)

    async def _listed(self) -> set[str]:
        """Return where something is shown; what has no name of ours is left alone."""
        start = f"{self._folder}/"
        found: set[str] = set()
        after = f"{start}/"  # beyond all names that begin with a dot
        while True:
            page = await self._driver.list(start, after=after, limit=PAGE)
            found.update(entry.key.removeprefix(start) for entry in page)
            if len(page) < PAGE:
                return set(filter(self._leaves.is_place, found))
            after = page[-1].key

    async def _carry_out(self, steps: list[Step]) -> None:
        """Show items where they belong, then take them away from where they do not."""
        self._has_written = True
        slots = asyncio.Semaphore(PARALLEL)

        async def show(step: Step) -> None:
            async with slots:
                await self._show(step)

        await together(show(step) for step in steps if step.place is not None)
        stale = [self._at(place) for step in steps for place in step.stale]
        most = PARALLEL * self._driver.most_deleted
        for start in range(0, len(stale), most):
            await self._driver.delete(stale[start : start + most])

    async def _show(self, step: Step) -> None:
        key, text = self._at(step.place or ""), self._leaves.text(step.item)
        if step.is_there:
            stored = await self._driver.get(key)
            if stored is not None and stored.data == text:
                return
        await self._driver.put(key, text)

    async def _write(self, held: Held, seq: int, publisher: str) -> Held:
        """Replace a mark, if it is as it was; return the new one, ours unless nobody's."""
        sent_at = self._clock.now()
        data = _encode(Mark(seq, publisher, uuid4().hex))
        version = await self._driver.put(self._key, data, expected=held.version)
        if version is None:
            raise _SupersededError
        held = Held(version, seq, sent_at)
        self._held = held if publisher else None
        self._has_written = False
        return held

    async def _give_up(self) -> None:
        """Leave the tree to others; if something was written that they may not know of, tell them.

        Without a mark whoever publishes next compares everything.
        """
        self._let_go()
        if self._has_written:
            logger.warning("%s: its mark was changed by another; comparing", self)
            await self._driver.delete([self._key])
            self._has_written = False

    def _let_go(self) -> None:
        self._held = None
        self._is_exact = False

    def _age(self, moment: Reading) -> float:
        return self._clock.seconds_since(moment)

    def _at(self, place: str) -> str:
        return f"{self._folder}/{place}"


def mark_key(folder: str) -> str:
    """Return the key of the mark of the tree in a folder."""
    return f"{folder}/.tree"


async def published(driver: ObjectDriver, folder: str) -> int | None:
    """Return up to which commit the tree of a folder is published; None: there is no telling."""
    seq = _read(await driver.get(mark_key(folder)))[1].seq
    return None if seq == UNKNOWN else seq


def _read(stored: Stored | None) -> tuple[str, Mark]:
    """Return a mark and its version; one that is damaged says nothing."""
    if stored is None:
        return ABSENT, Mark()
    try:
        return stored.version, _decode(stored.data)
    except msgspec.MsgspecError:
        return stored.version, Mark()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Mark).decode
