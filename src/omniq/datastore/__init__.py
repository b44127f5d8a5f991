"""Queues between loops and a cache, over Redis, SQLite or memory: the storage of a workflow engine.

`DataStore` is the way in.
"""

from omniq.datastore.cache import CacheStore
from omniq.datastore.connection import BaseConnection
from omniq.datastore.delivery import Delivery
from omniq.datastore.queue import QueueStore
from omniq.datastore.store import DataStore
from omniq.datastore.values import deserialize, serialize

__all__ = [
    "BaseConnection",
    "CacheStore",
    "DataStore",
    "Delivery",
    "QueueStore",
    "deserialize",
    "serialize",
]
