"""From a location to the driver of its store."""

from __future__ import annotations

from typing import Any

from omniq.storage.file.location import Location
from omniq.storage.objectstore.anyfs import AnyFileSystem
from omniq.storage.objectstore.azure import AzureDriver
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.gcs import GCSDriver
from omniq.storage.objectstore.s3 import S3Driver

_DRIVERS: dict[str, type[ObjectDriver]] = {"s3": S3Driver, "gs": GCSDriver, "abfs": AzureDriver}


def driver_of(location: Location, **limits: Any) -> ObjectDriver:
    """Return a new driver for a location; nothing is connected yet.

    Args:
        location: bucket and path, with the options of its file system.
        limits: see `ObjectDriver`.

    Raises:
        ConfigError: the location names no bucket.
    """
    return _DRIVERS.get(location.protocol, AnyFileSystem)(location, **limits)
