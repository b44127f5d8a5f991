"""Queues between loops and a cache, over Redis, SQLite or memory: the storage of a workflow engine.

`DataStore` is the way in.
"""

from typing import TYPE_CHECKING, Any

from omniq.datastore.cache import CacheStore
from omniq.datastore.connection import BaseConnection
from omniq.datastore.delivery import Delivery
from omniq.datastore.queue import QueueStore
from omniq.datastore.store import DataStore
from omniq.datastore.values import deserialize, serialize
from omniq.storage.lazy import load_class

if TYPE_CHECKING:
    from omniq.datastore.redis import RedisConnection

__all__ = [
    "BaseConnection",
    "CacheStore",
    "DataStore",
    "Delivery",
    "QueueStore",
    "RedisConnection",
    "deserialize",
    "serialize",
]


def __getattr__(name: str) -> Any:
    """Import what needs more modules when it is first asked for."""
    return load_class(__name__, name, {"RedisConnection": "omniq.datastore.redis"})
