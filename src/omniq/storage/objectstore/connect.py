"""From a location to the driver of its store."""

from __future__ import annotations

from omniq.storage.file.location import Location
from omniq.storage.objectstore.anyfs import AnyFileSystem
from omniq.storage.objectstore.driver import ObjectDriver


def driver_of(location: Location) -> ObjectDriver:
    """Return a new driver for a location; nothing is connected yet."""
    return AnyFileSystem(location)
