"""Where a migration leads from and to."""

from __future__ import annotations

from typing import Any

from omniq.app.stores import Sources, Stores
from omniq.backend.base import BaseBackend
from omniq.migration.copying import MigrationError
from omniq.models.config import VARIABLES, OmniQConfig, StorageBackendConfig
from omniq.moving.marker import read_marker
from omniq.moving.parking import MOVE
from omniq.storage.base import BaseQueue, Component
from omniq.storage.factory import StorageBackendFactory

Place = str | StorageBackendConfig | OmniQConfig | BaseBackend
"""A URL, a backend, or a configuration, which may name a backend for each component."""
Address = str | StorageBackendConfig | OmniQConfig
"""A place that other processes can open too."""


def stores_of(place: Place) -> Stores:
    """Return the four components of a place; nothing is opened yet."""
    if isinstance(place, OmniQConfig):
        return Stores(Sources(config=place), {})
    return Stores(Sources(place), {})


def refuse_same(old: Stores, new: Stores) -> None:
    """Refuse to move a store to itself. Raises MigrationError."""
    if old.tasks is new.tasks or old.keys["tasks"] == new.keys["tasks"]:
        raise MigrationError(f"source and target are the same store, {old.tasks!r}")


async def open_source(stores: Stores) -> None:
    """Open the stores to be read, none of which is made by that.

    Raises:
        MigrationError: there is no such store: most likely its name is misspelt.
    """
    by_place: dict[str, list[Component]] = {}
    for key, component in zip(stores.keys.values(), stores, strict=True):
        by_place.setdefault(key, []).append(component)
    for components in by_place.values():
        if all([await component.is_missing() for component in components]):
            raise MigrationError(
                f"there is no {components[0].store_name}, and nothing was made; is the source "
                "spelt right, and relative to the right folder?"
            )
    await stores.connect()


async def refuse_empty(stores: Stores) -> None:
    """Refuse a source without a single record: most likely its name is misspelt."""
    has_records = (
        await stores.tasks.counts()
        or await stores.results.find(limit=1)
        or await stores.events.query(limit=1)
        or await stores.schedules.list_schedules()
    )
    if not has_records:
        raise MigrationError(f"{stores.tasks!r} is empty; is it the store you mean?")


async def refuse_moving(queue: BaseQueue) -> None:
    """Refuse a source that `omniq move` took tasks from. Raises MigrationError."""
    if read_marker(await queue.get_task(MOVE)) is not None:
        raise MigrationError(f"{queue!r} is being moved, or has been; go on with `omniq move`")


def address(place: Address) -> dict[str, Any]:
    """Return a place as the dict of a configuration that is true in every folder."""
    if isinstance(place, str):
        place = StorageBackendConfig(url=place, origin="target")
    if isinstance(place, OmniQConfig):
        parts = place.resolved({})
    else:
        parts = dict.fromkeys(VARIABLES, place)
    return {name: StorageBackendFactory.absolute(backend) for name, backend in parts.items()}
