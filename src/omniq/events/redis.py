"""The specified home of `RedisEventStorage`."""

from omniq.storage.redis import AsyncRedisEventStorage, RedisEventStorage

__all__ = ["AsyncRedisEventStorage", "RedisEventStorage"]
