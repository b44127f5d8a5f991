"""What the components of this backend share: a driver, given or made for a location."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from omniq.storage.component import Component
from omniq.storage.file.location import Location
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ObjectDriver

C = TypeVar("C", bound=Component)

_LOCAL_ONLY = ("allow_network", "durability")


def made_at(kind: Callable[..., C], location: Location, **options: Any) -> C:
    """Return the component of a location; options of local files have no meaning here."""
    meant = {name: value for name, value in options.items() if name not in _LOCAL_ONLY}
    return kind(driver_of(location), **meant)


class ObjectComponent(Component):
    """Opens and closes the driver it was given; the last of its users closes it."""

    def __init__(self, driver: ObjectDriver, **_: Any) -> None:
        super().__init__()
        self._driver = driver
        self.capabilities = driver.capabilities

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._driver)!r})"

    async def _open(self) -> None:
        await self._driver.open(self)
        self.capabilities = self._driver.capabilities

    async def _close(self) -> None:
        await self._driver.close(self)
