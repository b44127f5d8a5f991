"""All four components on a Redis or Valkey server; each class goes by two names."""

from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.events import AsyncRedisEventStorage, RedisEventStorage
from omniq.storage.redis.queue import AsyncRedisQueue, RedisQueue
from omniq.storage.redis.results import AsyncRedisResultStorage, RedisResultStorage
from omniq.storage.redis.schedules import AsyncRedisScheduleStorage, RedisScheduleStorage
from omniq.storage.redis.server import RedisServer

__all__ = [
    "AsyncRedisEventStorage",
    "AsyncRedisQueue",
    "AsyncRedisResultStorage",
    "AsyncRedisScheduleStorage",
    "RedisEventStorage",
    "RedisOptions",
    "RedisQueue",
    "RedisResultStorage",
    "RedisScheduleStorage",
    "RedisServer",
]
