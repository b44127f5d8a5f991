"""Changing the state of tasks: by one statement where nobody waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from omniq import lifecycle
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec
from omniq.storage.base import Change
from omniq.storage.postgres.database import Database
from omniq.storage.postgres.rows import columns, state_values, waves, whole_task
from omniq.storage.postgres.statements import WriteStatements
from omniq.storage.postgres.wake import Wakes

if TYPE_CHECKING:
    from asyncpg import Connection

Row = tuple[Any, ...]


class TaskWrites:
    """The writes of one queue."""

    def __init__(self, database: Database, codec: RecordCodec, sql: WriteStatements) -> None:
        self._db, self._codec, self._sql = database, codec, sql

    async def swap(
        self, changes: Sequence[Change], now: datetime | None, results: Sequence[Row] = ()
    ) -> list[bool]:
        """Apply changes; see `TaskStore.swap`. `results` are stored in the same statement.

        Raises:
            ValueError: there are results, and the changes need more than one statement.
        """
        applied = [False] * len(changes)
        parts = waves(changes, lambda change: change.before.id)
        if is_simple(changes):
            wakes = Wakes()
            parents = await self._swap_live(self._db, parts[0], applied, wakes, results=results)
            self._db.announce(wakes.ready, wakes.final)
            parts = [parents] if parents else []
        elif results:
            raise ValueError("results need changes of one statement")
        if parts:
            await self._swap_related(parts, applied, now)
        return applied

    async def purge(self, finished_before: datetime, limit: int) -> int:
        """Delete finished tasks; return how many."""
        return int((await self._db.fetch(self._sql.purge, finished_before, limit))[0][0])

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
                await self._swap_live(connection, live, applied, wakes, as_parents=True)
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
        *,
        as_parents: bool = False,
        results: Sequence[Row] = (),
    ) -> list[tuple[int, Change]]:
        """Change tasks that are live; return the changes of those that have children to be told."""
        if not part:
            return []
        values = columns(_swap_values(change) for _, change in part)
        if results:
            rows = await where.fetch(self._sql.finish, *values, as_parents, *columns(results))
        else:
            rows = await where.fetch(self._sql.swap, *values, as_parents)
        is_parent: dict[str, bool] = {row[0]: row[1] for row in rows}
        parents: list[tuple[int, Change]] = []
        for place, change in part:
            answer = is_parent.get(change.before.id)
            applied[place] = answer is False
            if answer:
                parents.append((place, change))
        done = [change for place, change in part if applied[place]]
        wakes.note(change.after for change in done)
        wakes.note_ready(before.queue_name for before, after in done if _is_leased(before, after))
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
                    after[child] = lifecycle.parent_finished(task, parent, statuses[parent], moment)
            changes = [Change(before[child], after[child]) for child in before]
            await self._swap_live(
                connection,
                list(enumerate(changes)),
                [False] * len(changes),
                wakes,
                as_parents=True,
            )
            ended = [task for task in after.values() if task.is_final]


def _is_leased(before: Task, after: Task) -> bool:
    return after.status is TaskStatus.RUNNING and before.status is not TaskStatus.RUNNING


def is_simple(changes: Sequence[Change]) -> bool:
    """Whether one statement will do: live tasks, each changed once."""
    return len({change.before.id for change in changes}) == len(changes) and not any(
        change.before.is_final for change in changes
    )


def _swap_values(change: Change) -> Row:
    before = change.before
    fence = (before.id, before.claim_count, before.lease_token, before.status.value)
    return (*fence, *state_values(change.after))
