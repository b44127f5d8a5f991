"""Inserting tasks and changing their state: which statement, in which transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from omniq import lifecycle
from omniq.clock import EPOCH
from omniq.exceptions import StorageUnavailableError
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec
from omniq.storage.base import Change, Inserted
from omniq.storage.postgres.database import Database, RunAgain
from omniq.storage.postgres.errors import sqlstate_of
from omniq.storage.postgres.rows import (
    columns,
    state_values,
    task_values,
    waves,
    whole_task,
)
from omniq.storage.postgres.statements import WriteStatements

if TYPE_CHECKING:
    from asyncpg import Connection

_UNIQUE_VIOLATION = "23505"
_TURNS = 20
_READY = (TaskStatus.PENDING, TaskStatus.SCHEDULED)
Row = tuple[Any, ...]


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
    """In a transaction: some wait for others, are final already, or share an id."""


class Wakes:
    """Whom to wake once a transaction is committed."""

    def __init__(self) -> None:
        self.ready: dict[str, bool] = {}
        self.final: list[str] = []

    def note(self, tasks: Iterable[Task]) -> None:
        """Note tasks in the state they were brought to."""
        for task in tasks:
            if task.is_final:
                self.final.append(task.id)
            elif task.status in _READY:
                self.ready.setdefault(task.queue_name, False)

    def was_empty(self, queues: Iterable[str]) -> None:
        """Note that these queues had nothing in line before, so that haste is worth while."""
        self.ready.update((queue, True) for queue in queues if queue in self.ready)


class TaskWrites:
    """The writes of one queue."""

    def __init__(self, database: Database, codec: RecordCodec) -> None:
        self._db, self._codec = database, codec
        self._sql = WriteStatements(database.tables)

    async def insert(self, tasks: Sequence[Task], now: datetime | None) -> list[Inserted]:
        """Store tasks whose id and unique key are free; see `TaskStore.insert`."""
        left = dict(enumerate(_New(task, self._codec.encode(task)) for task in tasks))
        done: dict[int, Inserted] = {}
        for _ in range(_TURNS):
            stored = await self._insert_once(list(left.values()), now)
            for place, is_stored in zip(list(left), stored, strict=True):
                if is_stored:
                    done[place] = Inserted(left.pop(place).task.id, stored=True)
            for place, holder in (await self._holders(left, done)).items():
                del left[place]
                done[place] = Inserted(holder, stored=False)
            if not left:
                return [done[place] for place in range(len(tasks))]
        raise StorageUnavailableError("the unique keys of new tasks kept changing hands; try again")

    async def swap(self, changes: Sequence[Change], now: datetime | None) -> list[bool]:
        """Apply changes; see `TaskStore.swap`."""
        applied = [False] * len(changes)
        parts = waves(changes, lambda change: change.before.id)
        if len(parts) == 1 and all(not change.before.is_final for change in changes):
            wakes = Wakes()
            parents = await self._swap_live(self._db, parts[0], applied, wakes, False)
            self._db.announce(wakes.ready, wakes.final)
            parts = [parents] if parents else []
        if parts:
            await self._swap_related(parts, applied, now)
        return applied

    async def purge(self, finished_before: datetime, limit: int) -> int:
        """Delete finished tasks; return how many."""
        return int((await self._db.fetch(self._sql.purge, finished_before, limit))[0][0])

    async def _insert_once(self, news: list[_New], now: datetime | None) -> list[bool]:
        """Try to insert each; whether it is stored."""
        path = _path_of(news)
        wakes = Wakes()

        async def run(connection: Connection[Any]) -> list[bool]:
            nonlocal path, wakes
            wakes = Wakes()
            try:
                if path is not _Path.RELATED:
                    return await self._insert_plain(connection, news, now, wakes, path)
                async with connection.transaction():
                    return await self._insert_related(connection, news, now, wakes)
            except Exception as error:
                if sqlstate_of(error) != _UNIQUE_VIOLATION:
                    raise
                path = _Path.PLAIN if path is _Path.FRESH else path
                raise RunAgain from error

        stored = await self._db.run(run)
        self._db.announce(wakes.ready, wakes.final)
        return stored

    async def _insert_plain(
        self,
        connection: Connection[Any],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
        path: _Path,
    ) -> list[bool]:
        """Insert tasks that wait for nobody, by one statement.

        Whether a delayed one is due already is left to the server, whose clock decides.
        """
        admitted = [lifecycle.admit(new.task, {}, now or EPOCH) for new in news]
        return await self._insert_rows(connection, admitted, news, now, wakes, path)

    async def _insert_rows(
        self,
        connection: Connection[Any],
        admitted: list[Task],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
        path: _Path,
    ) -> list[bool]:
        rows = [(*task_values(task), new.data) for task, new in zip(admitted, news, strict=True)]
        values = columns(rows)
        query = self._sql.insert_fresh if path is _Path.FRESH else self._sql.insert
        ((ids, empty),) = await connection.fetch(query, *values, now)
        stored = set(ids)
        wakes.note(task for task in admitted if task.id in stored)
        wakes.was_empty(empty)
        return [task.id in stored for task in admitted]

    async def _insert_related(
        self,
        connection: Connection[Any],
        news: list[_New],
        now: datetime | None,
        wakes: Wakes,
    ) -> list[bool]:
        """Insert tasks that wait for others, are final already or share an id, part by part."""
        moment = now or await connection.fetchval("SELECT clock_timestamp()")
        stored: list[bool] = []
        for part in _independent(news):
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
            stored = await self._insert_rows(
                connection, tasks, those, now, wakes, _Path.RELATED
            )
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
        """The states of the parents. Live ones are marked, so that none ends unnoticed."""
        wanted = {parent for new in news for parent in new.task.depends_on}
        if not wanted:
            return {}
        live = await connection.fetch(self._sql.adopt, list(wanted))
        statuses = {task_id: TaskStatus(status) for task_id, status in live}
        rest = list(wanted - statuses.keys())
        ended = await connection.fetch(self._sql.finished, rest) if rest else []
        statuses.update((task_id, TaskStatus(status)) for task_id, status in ended)
        return statuses

    async def _holders(self, left: dict[int, _New], done: dict[int, Inserted]) -> dict[int, str]:
        """By place, the ids that stand for tasks which could not be stored, where known.

        A task whose id was taken by a later one of the same call had lost its key before that.
        """
        if not left:
            return {}
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
        found = await self._db.fetch(self._sql.holders, *columns_of)
        return {places[n - 1]: holder for n, holder in found if holder is not None}

    async def _swap_related(
        self,
        parts: list[list[tuple[int, Change]]],
        applied: list[bool],
        now: datetime | None,
    ) -> None:
        """Apply changes that need more than one statement, in one transaction."""
        wakes = Wakes()
        before = list(applied)

        async def run(connection: Connection[Any]) -> None:
            nonlocal wakes
            applied[:], wakes = before, Wakes()
            for part in parts:
                await self._swap_finished(connection, part, applied, wakes)
                live = [(place, change) for place, change in part if not change.before.is_final]
                await self._swap_live(connection, live, applied, wakes, True)
                ended = [c.after for place, c in part if applied[place] and c.after.is_final]
                await self._tell_children(connection, ended, now, wakes)

        await self._db.transaction(run)
        self._db.announce(wakes.ready, wakes.final)

    async def _swap_live(
        self,
        where: Database | Connection[Any],
        part: list[tuple[int, Change]],
        applied: list[bool],
        wakes: Wakes,
        as_parents: bool,
    ) -> list[tuple[int, Change]]:
        """Change tasks that are live; return the changes of those that have children to be told."""
        if not part:
            return []
        values = columns(_swap_values(change) for _, change in part)
        rows = await where.fetch(self._sql.swap, *values, as_parents)
        is_parent: dict[str, bool] = {row[0]: row[1] for row in rows}
        parents: list[tuple[int, Change]] = []
        for place, change in part:
            answer = is_parent.get(change.before.id)
            applied[place] = answer is False
            if answer:
                parents.append((place, change))
        wakes.note(change.after for place, change in part if applied[place])
        return parents

    async def _swap_finished(
        self,
        connection: Connection[Any],
        part: list[tuple[int, Change]],
        applied: list[bool],
        wakes: Wakes,
    ) -> None:
        """Change tasks that are final: to another final state, or back to life."""
        for query, ends in ((self._sql.refile, True), (self._sql.requeue, False)):
            some = [
                (place, change)
                for place, change in part
                if change.before.is_final and change.after.is_final is ends
            ]
            if some:
                values = columns(_swap_values(change) for _, change in some)
                done = {row[0] for row in await connection.fetch(query, *values)}
                for place, change in some:
                    applied[place] = change.before.id in done
                wakes.note(change.after for place, change in some if applied[place])

    async def _tell_children(
        self,
        connection: Connection[Any],
        ended: list[Task],
        now: datetime | None,
        wakes: Wakes,
    ) -> None:
        """Move the dependants of tasks that became final, through all generations."""
        moment = now
        while ended:
            statuses = {task.id: task.status for task in ended}
            edges = await connection.fetch(self._sql.children, list(statuses))
            if not edges:
                return
            moment = moment or await connection.fetchval("SELECT clock_timestamp()")
            ids = list({child for _, child in edges})
            rows = await connection.fetch(self._sql.waiting, ids)
            before = {row[0]: whole_task(self._codec.decode, row) for row in rows}
            after = dict(before)
            for parent, child in sorted((row[0], row[1]) for row in edges):
                task = after.get(child)
                if task is not None and task.status is TaskStatus.WAITING:
                    after[child] = lifecycle.parent_finished(
                        task, parent, statuses[parent], moment
                    )
            changes = [Change(before[child], after[child]) for child in before]
            await self._swap_live(
                connection, list(enumerate(changes)), [False] * len(changes), wakes, True
            )
            ended = [task for task in after.values() if task.is_final]



def _path_of(news: list[_New]) -> _Path:
    tasks = [new.task for new in news]
    if len({task.id for task in tasks}) != len(tasks):
        return _Path.RELATED
    if any(task.depends_on or task.is_final for task in tasks):
        return _Path.RELATED
    is_fresh = not any(task.unique_key or task.schedule_id for task in tasks)
    return _Path.FRESH if is_fresh else _Path.PLAIN


def _swap_values(change: Change) -> Row:
    before = change.before
    fence = (before.id, before.claim_count, before.lease_token, before.status.value)
    return (*fence, *state_values(change.after))


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
