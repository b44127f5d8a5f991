"""`FileQueue`: a file for each task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from omniq.clock import to_micros, utcnow
from omniq.models.finding import Finding
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.serialization import SerializationFormat
from omniq.storage.file import changes as writes
from omniq.storage.file import claims
from omniq.storage.file.claims import Claim
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.file.elsewhere import LocalOrElsewhere
from omniq.storage.file.errors import translated
from omniq.storage.file.folders import Folders
from omniq.storage.file.location import (
    IN_FILES,
    Durability,
    check_durability,
    check_folder_name,
    locate,
    refuse_no_tree,
)
from omniq.storage.file.ops import SUFFIX, Drop, Op, Put
from omniq.storage.file.records import ID_AT
from omniq.storage.file.store import Batch, FileStore
from omniq.storage.file.sweep import Sweep, modified_before
from omniq.storage.file.unit import Unit
from omniq.storage.file.view import PAUSED, TaskView
from omniq.storage.local import liveness
from omniq.storage.local.wake import FINAL, READY
from omniq.storage.queue import BaseQueue
from omniq.storage.values import EVERY_TASK, Change, Counts, Inserted, Lease, TaskFilter

R = TypeVar("R")

LONGEST_WAIT_SECONDS = 30.0
_PAGE = 1000
_ENDED = sorted(status.value for status in FINAL_STATUSES)


class FileQueue(LocalOrElsewhere, BaseQueue):
    """Tasks in a folder, shared by any number of threads and processes of one machine.

    ``<base_dir>/tasks/<queue>/<status>/<priority>-<created>-<id>.json``: names sort in the order in
    which tasks are claimed. The modification time of a file is the moment the task comes due, its
    lease ends or it finished.

    Args:
        base_dir: the folder, made if missing; or the URL of a folder in an object store.
        fs_kwargs: options of the file system of an object store.
        tasks_dir: name of the folder inside it.
        durability: ``full`` (what was acknowledged is on the disk) or ``fast`` (a power cut may
            lose or damage the last half minute; a crash of the program loses nothing).
        serialization_format, compression: of new requests; each says its own format when read.
        allow_network: work on a network file system too; only for a single process.
        tree: of an object store, see `ObjectQueue`; on a local disk there is no other way.
    """

    capabilities = IN_FILES

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - `__new__` takes them all
        self,
        base_dir: str | Path | None = None,
        *,
        fs_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002 - for object stores, see `__new__`
        tasks_dir: str = "tasks",
        durability: Durability = "full",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        allow_network: bool = False,
        tree: bool = True,
    ) -> None:
        super().__init__()
        place = locate(base_dir)
        refuse_no_tree(place, tree=tree)
        self._codec = FileCodec(
            Task,
            ("args", "kwargs", "metadata"),
            format=serialization_format,
            compression=compression,
        )
        self._view = TaskView()
        self._store = FileStore(
            place.local_path() / check_folder_name("tasks_dir", tasks_dir),
            durability=check_durability(durability),
            view=self._view,
            allow_network=allow_network,
            wakes=True,
        )
        self._sweep = Sweep(self._store.root)

    @classmethod
    def _elsewhere(cls) -> type[Any]:
        from omniq.storage.objectstore.queue import ObjectQueue

        return ObjectQueue

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._store)!r})"

    async def _open(self) -> None:
        await self._store.open()

    async def _close(self) -> None:
        await self._store.close()

    @property
    def folder(self) -> Path:
        """See `LocalOrElsewhere.folder`."""
        return self._store.root

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return f"files {self._store}"

    async def _findings(self) -> list[Finding]:
        await self._find(EVERY_TASK, None, _PAGE)  # sets damaged ones aside
        return await self._store.findings()

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        for task in tasks:
            self._refuse(task)
        moment = now or utcnow()
        return await self._work(lambda unit: [writes.insert(unit, task, moment) for task in tasks])

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        moment = now or utcnow()
        claim = Claim(
            self._view,
            worker_id=worker_id,
            lease_token=lease_token,
            ends_at=moment + timedelta(seconds=lease_seconds),
            now=moment,
        )

        def take(unit: Unit) -> list[Task]:
            try:
                return claim.take(unit, queues, limit)
            except BaseException:
                self._view.forget()  # some were taken out of the line
                raise

        return await self._work(take, queues=queues, must_last=False)

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        moment = now or utcnow()
        return await self._work(
            lambda unit: [writes.swap(unit, change, moment) for change in changes]
        )

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        ends_at = (now or utcnow()) + timedelta(seconds=lease_seconds)
        held = await self._work(
            lambda unit: [writes.extend(unit, lease, ends_at) for lease in leases],
            must_last=False,
        )
        return [task for task in held if task is not None]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        def read(unit: Unit) -> list[Task | None]:
            found = map(unit.get, task_ids)
            return [None if stored is None else unit.whole(stored) for stored in found]

        return await self._work(read)

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        if where.statuses or where.queues:
            ids = await self._look(lambda files: _ids_in(files, where, after))
        else:
            ids = await self._list_ids(after)
        found: list[Task] = []
        for start in range(0, len(ids), _PAGE):
            chunk = ids[start : start + _PAGE]
            most = limit - len(found)
            found += await self._work(partial(_matching, ids=chunk, where=where, most=most))
            if len(found) >= limit:
                break
        return found

    async def _list_ids(self, after: str | None) -> list[str]:
        def prepare() -> None:
            self._view.load_listing(self._store.files)

        def read(_: Batch) -> list[str]:
            prepare()  # forgotten meanwhile if changes were missed
            return list(self._view.listing.after(after))

        return await self._store.run(read, prepare=prepare)

    async def _counts(self) -> Counts:
        return await self._look(_count)

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        def is_over(batch: Batch, folder: str, name: str) -> list[Op]:
            unit = Unit(batch, self._codec, self._view)
            stored = unit.get(name.removesuffix(SUFFIX)[ID_AT:])
            if stored is None:
                return [Drop(folder, name)]
            ended_at = stored.state.finished_at
            over = stored.state.status.is_final and ended_at is not None
            return [stored.removal()] if over and ended_at < finished_before else []  # type: ignore[operator]  # not None if over

        queues = await self._look(writes.queue_names)
        folders = [f"{queue}/{status}" for queue in queues for status in _ENDED]
        wanted = modified_before(to_micros(finished_before))
        return await self._sweep.delete(self._store, folders, wanted, is_over, limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        def job(batch: Batch) -> None:
            if paused:
                batch.ops.append(Put(PAUSED, queue_name, b""))
            else:
                batch.ops.append(Drop(PAUSED, queue_name))
                batch.ready_queues.add(queue_name)

        await self._store.run(job)

    async def _paused(self) -> set[str]:
        return await self._store.run(lambda batch: set(self._view.paused(batch.files)))

    async def _next_due(self, queues: list[str]) -> datetime | None:
        return await self._work(
            lambda unit: claims.next_due(self._view, unit, queues), queues=queues
        )

    async def _wait(self, queues: list[str], timeout: float) -> None:
        await self._store.ensure_open()
        hub = self._store.hub
        if hub is None:
            return
        with hub.register(READY, queues) as waiting:
            moment = utcnow()
            due = await self._work(
                lambda unit: claims.claimable_at(self._view, unit, queues, moment), queues=queues
            )
            pause = timeout if due is None else (due - moment).total_seconds() + 0.0005
            if due is None or due > moment:
                await waiting.wait(min(timeout, pause, LONGEST_WAIT_SECONDS))

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        await self._store.ensure_open()
        hub = self._store.hub
        if hub is None or not task_ids:
            return

        def is_over(unit: Unit) -> bool:
            found = map(unit.get, task_ids)
            return any(stored is None or stored.state.status.is_final for stored in found)

        with hub.register(FINAL, task_ids) as waiting:
            if not await self._work(is_over):
                await waiting.wait(min(timeout, LONGEST_WAIT_SECONDS))

    async def _announce(self, worker_id: str) -> None:
        liveness.hold(self._store.companion, worker_id)

    async def _withdraw(self, worker_id: str) -> None:
        liveness.let_go(self._store.companion, worker_id)

    async def _end_dead_leases(self) -> list[str]:
        with liveness.dead_workers(self._store.companion) as dead:
            if dead:
                now = utcnow()
                await self._work(
                    lambda unit: writes.end_leases(unit, writes.running(unit.batch), dead, now)
                )
        return dead

    async def _work(
        self,
        job: Callable[[Unit], R],
        *,
        queues: list[str] | None = None,
        must_last: bool = True,
    ) -> R:
        """Do a job on a unit of work, the lanes of these queues loaded before."""

        def prepare() -> None:
            if any(map(self._view.lacks, queues or ())):
                self._store.make_all()
                self._view.load_lanes(self._store.files, queues or ())

        def run(batch: Batch) -> R:
            batch.must_last = must_last
            unit = Unit(batch, self._codec, self._view)
            result = job(unit)
            unit.finish()
            batch.after = unit.remember
            return result

        return await self._store.run(run, prepare=prepare if queues else None)

    async def _look(self, look: Callable[[Folders], R]) -> R:
        """Look at the folders without the lock, in a thread of its own."""
        await self._store.run(Batch.catch_up)

        def run() -> R:
            try:
                files = Folders(self._store.root)
                try:
                    return look(files)
                finally:
                    files.close()
            except OSError as error:
                raise translated(error, self._store.root) from error

        return await asyncio.to_thread(run)


def _matching(unit: Unit, ids: list[str], where: TaskFilter, most: int) -> list[Task]:
    """Return the first `most` tasks of these that match."""
    stored = (unit.get(task_id) for task_id in ids)
    likely = (
        item
        for item in stored
        if item is not None
        and (not where.statuses or item.state.status in where.statuses)
        and (not where.queues or item.state.queue in where.queues)
    )
    return list(islice(filter(where.matches, map(unit.whole, likely)), most))


def _ids_in(files: Folders, where: TaskFilter, after: str | None) -> list[str]:
    """Return the ids in the folders a filter names, in order."""
    queues = where.queues or writes.queue_names(files)
    statuses = where.statuses or set(TaskStatus)
    found = {
        name.removesuffix(SUFFIX)[ID_AT:]
        for queue in queues
        for status in statuses
        for name in files.names(f"{queue}/{status.value}")
        if name.endswith(SUFFIX)
    }
    return sorted(item for item in found if after is None or item > after)


def _count(files: Folders) -> Counts:
    counts: Counts = {}
    for queue in writes.queue_names(files):
        for status in TaskStatus:
            number = sum(name.endswith(SUFFIX) for name in files.names(f"{queue}/{status.value}"))
            if number:
                counts.setdefault(queue, {})[status] = number
    return counts


AsyncFileQueue = FileQueue
