"""Inserting tasks: which statement, in which transaction, and who stands for those refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from omniq import lifecycle
from omniq.clock import EPOCH
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.models.event import TaskEvent
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec
from omniq.storage.base import Inserted
from omniq.storage.parents import parents_wanted, refuse_missing
from omniq.storage.parts import are_several, cut
from omniq.storage.postgres.client import transaction
from omniq.storage.postgres.database import LONG_COMMAND_SECONDS, Database, RunAgain
from omniq.storage.postgres.errors import UNIQUE_VIOLATION, AnswerLostError, sqlstate_of
from omniq.storage.postgres.rows import columns, task_values
from omniq.storage.postgres.statements import WriteStatements
from omniq.storage.postgres.wake import Wakes

if TYPE_CHECKING:
    from asyncpg import Connection

logger = logging.getLogger(__name__)

_TURNS = 20
_KEPT_CHANGING = "the unique keys of new tasks kept changing hands; try again"
_LOST_ANSWERS = 2
_PAUSE_SECONDS = 0.2


Fetch = Callable[..., Awaitable[Sequence[Any]]]


class _New(NamedTuple):
    """A task to be inserted, with its payload."""

    task: Task
    data: bytes


class _Path(Enum):
    """How tasks are inserted."""

    FRESH = auto()
    """By one statement that trusts random ids to be new."""
    PLAIN = auto()
    """By one statement that looks first."""
    RELATED = auto()
    """In a transaction: some wait for others, are final already or share an id, or they are more
    than a server takes at once."""


class TaskInserts:
    """The inserts of one queue."""

    def __init__(self, database: Database, codec: RecordCodec, sql: WriteStatements) -> None:
        self._db, self._codec, self._sql = database, codec, sql

    async def insert(
        self, tasks: Sequence[Task], now: datetime | None, *, in_doubt: bool = False
    ) -> list[Inserted]:
        """Store tasks whose id and unique key are free; see `TaskStore.insert`.

        When the answer to an insert is lost, it is tried again; a task found stored with the very
        same payload then is ours. With `in_doubt`, that has happened before.
        """
        left = self._encoded(tasks)
        done: dict[int, Inserted] = {}
        lost_answers = int(in_doubt)
        for _ in range(_TURNS):
            try:
                stored = await self._insert_once(list(left.values()), now)
            except AnswerLostError as error:
                lost_answers += 1
                if lost_answers > _LOST_ANSWERS:
                    raise
                logger.debug("an insert is in doubt and tried again: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            _take(left, done, [place for place, ok in zip(left, stored, strict=True) if ok])
            if lost_answers:
                _take(left, done, await self._ours(left))
            await self._yield_to_holders(self._db.read, left, done)
            if not left:
                return [done[place] for place in range(len(tasks))]
        raise StorageUnavailableError(_KEPT_CHANGING)

    async def insert_within(
        self,
        connection: Connection[Any],
        tasks: Sequence[Task],
        now: datetime | None,
        wakes: Wakes,
    ) -> list[Inserted]:
        """Store tasks as part of a transaction begun elsewhere; see `TaskStore.insert_within`.

        An id that is taken at this very moment fails a statement with `UNIQUE_VIOLATION`: undo it
        all and call again. A unique key held by a transaction that is still open is waited for.

        Raises:
            NotFoundError: a parent neither exists nor comes before its child.
        """
        await self._require_parents(connection, tasks)
        left = self._encoded(tasks)
        done: dict[int, Inserted] = {}
        for _ in range(_TURNS):
            news = list(left.values())
            if _path_for(news) is _Path.RELATED:
                stored = await self._insert_related(connection, news, now, wakes)
            else:
                stored = await self._insert_plain(connection, news, now, wakes, _Path.PLAIN)
            _take(left, done, [place for place, ok in zip(left, stored, strict=True) if ok])
            await self._yield_to_holders(connection.fetch, left, done)
            if not left:
                return [done[place] for place in range(len(tasks))]
        raise StorageUnavailableError(_KEPT_CHANGING)

    def _encoded(self, tasks: Sequence[Task]) -> dict[int, _New]:
        return dict(enumerate(_New(task, self._codec.encode(task)) for task in tasks))

    async def _require_parents(self, connection: Connection[Any], tasks: Sequence[Task]) -> None:
        ids = parents_wanted(tasks)
        if ids:
            rows = await connection.fetch(self._sql.known, ids)
            refuse_missing(ids, {row[0] for row in rows})

    async def insert_logged(
        self, tasks: Sequence[Task], events: Sequence[TaskEvent]
    ) -> tuple[list[Inserted], bool]:
        """Store fresh live tasks and the event of each by one statement.

        Where that fails, because an id was taken or its answer got lost, and where they are too
        large for one, the tasks are stored without their events. Returns what was done with each,
        and whether the events are stored.
        """
        news = list(self._encoded(tasks).values())
        if _are_large(news):
            return await self.insert(tasks, None), False
        told = [(str(event.event_type), event.timestamp) for event in events]
        wakes = Wakes()

        async def run(connection: Connection[Any]) -> None:
            await self._insert_plain(connection, news, None, wakes, _Path.FRESH, told)

        try:
            await self._db.run(run)
        except AnswerLostError as error:
            logger.debug("an insert is in doubt and tried again: %s", error)
            return await self.insert(tasks, None, in_doubt=True), False
        except StorageError as error:
            if error.__cause__ is None or sqlstate_of(error.__cause__) != UNIQUE_VIOLATION:
                raise
            return await self.insert(tasks, None), False
        self._db.announce(wakes.ready, wakes.final)
        return [Inserted(task.id, stored=True) for task in tasks], True

    async def _ours(self, left: dict[int, _New]) -> list[int]:
        """Return the places of tasks that are stored exactly as they were sent."""
        rows = await self._db.read(self._sql.payloads, [new.task.id for new in left.values()])
        found = {row[0]: row[1] for row in rows}
        return [place for place, new in left.items() if found.get(new.task.id) == new.data]

    async def _insert_once(self, news: list[_New], now: datetime | None) -> list[bool]:
        """Try to insert each; whether it is stored."""
        path = _path_for(news)
        seconds = LONG_COMMAND_SECONDS if _are_large(news) else None
        wakes = Wakes()

        async def run(connection: Connection[Any]) -> list[bool]:
            nonlocal path, wakes
            wakes = Wakes()
            try:
                if path is not _Path.RELATED:
                    return await self._insert_plain(connection, news, now, wakes, path)
                async with transaction(connection):
                    return await self._insert_related(connection, news, now, wakes)
            except Exception as error:
                if sqlstate_of(error) != UNIQUE_VIOLATION:
                    raise
                path = _Path.PLAIN if path is _Path.FRESH else path
                raise RunAgain from error

        stored = await self._db.run(run, seconds=seconds)
        self._db.announce(wakes.ready, wakes.final)
        return stored

    async def _insert_plain(
        self,
        connection: Connection[Any],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
        path: _Path,
        told: Sequence[tuple[str, datetime]] = (),
    ) -> list[bool]:
        """Insert tasks that wait for nobody, by one statement.

        Whether a delayed one is due already is left to the server, whose clock decides.
        """
        admitted = [lifecycle.admit(new.task, {}, now or EPOCH) for new in news]
        return await self._insert_rows(connection, admitted, news, now, wakes, path, told)

    async def _insert_rows(
        self,
        connection: Connection[Any],
        admitted: list[Task],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
        path: _Path,
        told: Sequence[tuple[str, datetime]] = (),
    ) -> list[bool]:
        rows = [(*task_values(task), new.data) for task, new in zip(admitted, news, strict=True)]
        if told:
            rows = [(*row, *event) for row, event in zip(rows, told, strict=True)]
        sql = self._sql
        if path is not _Path.FRESH:
            ((empty, ids),) = await connection.fetch(sql.insert, *columns(rows), now)
            kept = set(ids)
            stored = [task.id in kept for task in admitted]
            wakes.note(task for task, ok in zip(admitted, stored, strict=True) if ok)
        else:
            if len(rows) > 1:
                query = sql.insert_fresh_logged if told else sql.insert_fresh
                ((empty,),) = await connection.fetch(query, *columns(rows), now)
            else:
                query = sql.insert_one_logged if told else sql.insert_one
                ((empty,),) = await connection.fetch(query, *rows[0], now)
            stored = [True] * len(rows)
            wakes.note_ready({task.queue_name for task in admitted})
        wakes.was_empty(empty)
        return stored

    async def _insert_related(
        self,
        connection: Connection[Any],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
    ) -> list[bool]:
        """Insert tasks part by part: see `_Path.RELATED`."""
        moment = now or await connection.fetchval("SELECT clock_timestamp()")
        stored: list[bool] = []
        for part in _parts(news):
            parents = await self._statuses(connection, part)
            admitted = [lifecycle.admit(new.task, parents, moment) for new in part]
            kept = await self._insert_admitted(connection, admitted, part, moment, wakes)
            edges = [
                (parent, task.id)
                for task in admitted
                if task.id in kept and task.status is TaskStatus.WAITING
                for parent in task.depends_on
                if parent in parents and not parents[parent].is_final
            ]
            if edges:
                await connection.execute(self._sql.depend, *map(list, zip(*edges, strict=True)))
            stored += [task.id in kept for task in admitted]
        return stored

    async def _insert_admitted(
        self,
        connection: Connection[Any],
        admitted: list[Task],
        news: list[_New],
        now: datetime,
        wakes: Wakes,
    ) -> set[str]:
        """Insert live and final tasks; return the ids stored."""
        pairs = list(zip(admitted, news, strict=True))
        live = [pair for pair in pairs if not pair[0].is_final]
        final = [(*task_values(task), new.data) for task, new in pairs if task.is_final]
        kept: set[str] = set()
        if live:
            tasks, those = [task for task, _ in live], [new for _, new in live]
            stored = await self._insert_rows(connection, tasks, those, now, wakes, _Path.RELATED)
            kept |= {task.id for task, ok in zip(tasks, stored, strict=True) if ok}
        if final:
            values = columns(final)
            rows = await connection.fetch(self._sql.insert_final, *values)
            wakes.final += [task_id for (task_id,) in rows]
            kept |= {task_id for (task_id,) in rows}
        return kept

    async def _statuses(
        self, connection: Connection[Any], news: list[_New]
    ) -> dict[str, TaskStatus]:
        """Return the states of the parents; mark the live ones, so that none ends unnoticed.

        One that comes back to life between the two looks is found by a third.
        """
        left = {parent for new in news for parent in new.task.depends_on}
        statuses: dict[str, TaskStatus] = {}
        for query in (self._sql.adopt, self._sql.finished, self._sql.adopt):
            if left:
                found = await connection.fetch(query, list(left))
                statuses.update((task_id, TaskStatus(status)) for task_id, status in found)
                left -= statuses.keys()
        return statuses

    async def _yield_to_holders(
        self, fetch: Fetch, left: dict[int, _New], done: dict[int, Inserted]
    ) -> None:
        """Let those stand that hold the id or the key of tasks which could not be stored.

        A task whose id was taken by a later one of the same call had lost its key before that.
        """
        if not left:
            return
        taken = {item.task_id: place for place, item in done.items() if item.stored}
        rows = [
            (
                None if taken.get(new.task.id, -1) > place else new.task.id,
                new.task.queue_name,
                new.task.unique_key,
            )
            for place, new in left.items()
        ]
        columns_of = [list(column) for column in zip(*rows, strict=True)]
        places = list(left)
        for n, holder in await fetch(self._sql.holders, *columns_of):
            if holder is not None:
                del left[places[n - 1]]
                done[places[n - 1]] = Inserted(holder, stored=False)


def _take(left: dict[int, _New], done: dict[int, Inserted], places: Iterable[int]) -> None:
    for place in places:
        done[place] = Inserted(left.pop(place).task.id, stored=True)


def are_fresh(tasks: Sequence[Task]) -> bool:
    """Whether tasks are inserted by the statement that trusts random ids to be new."""
    return _path_of(tasks) is _Path.FRESH


def _path_of(tasks: Sequence[Task]) -> _Path:
    if len({task.id for task in tasks}) != len(tasks):
        return _Path.RELATED
    if any(task.depends_on or task.is_final for task in tasks):
        return _Path.RELATED
    is_fresh = not any(task.unique_key or task.schedule_id for task in tasks)
    return _Path.FRESH if is_fresh else _Path.PLAIN


def _path_for(news: Sequence[_New]) -> _Path:
    return _Path.RELATED if _are_large(news) else _path_of([new.task for new in news])


def _are_large(news: Sequence[_New]) -> bool:
    return are_several([new.data for new in news])


def _parts(news: list[_New]) -> Iterable[list[_New]]:
    """Part tasks, in order, so that a statement can insert each part."""
    for part in _independent(news):
        for start, end in cut([new.data for new in part]):
            yield part[start:end]


def _independent(news: list[_New]) -> Iterable[list[_New]]:
    """Part tasks, in order, so that within a part none waits for another or shares its id."""
    part: list[_New] = []
    ids: set[str] = set()
    for new in news:
        if new.task.id in ids or not ids.isdisjoint(new.task.depends_on):
            yield part
            part, ids = [], set()
        part.append(new)
        ids.add(new.task.id)
    if part:
        yield part
