"""What the tree of an object store is to show, and what it shows."""

from __future__ import annotations

from omniq.backend.file import FileBackend
from omniq.storage.file.records import stem_of
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.testing.waiting import wait_until

COMPONENTS = ("tasks/", "schedules/")


def driver_of(backend: FileBackend) -> ObjectDriver:
    """Return the driver of a backend in an object store."""
    assert backend.driver is not None
    return backend.driver


async def shown(backend: FileBackend) -> list[str]:
    """Return the keys of all objects for people."""
    driver = driver_of(backend)
    entries = [entry for folder in COMPONENTS for entry in await driver.list(folder)]
    return sorted(entry.key for entry in entries if "/." not in entry.key)


async def expected(backend: FileBackend) -> list[str]:
    """Return what is to be there, as the components tell."""
    tasks = await backend.get_task_queue().list_tasks()
    plans = await backend.get_schedule_storage().list_schedules()
    return sorted(
        [
            *(f"tasks/{one.queue_name}/{one.status.value}/{stem_of(one)}.json" for one in tasks),
            *(f"schedules/{one.status.value}/{one.id}.json" for one in plans),
        ]
    )


async def is_shown(backend: FileBackend) -> None:
    """Wait until the tree shows what the components tell."""

    async def is_so() -> bool:
        return await shown(backend) == await expected(backend)

    await wait_until(is_so, timeout=60, description="the tree is published")
