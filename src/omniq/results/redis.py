"""The specified home of `RedisResultStorage`."""

from omniq.storage.redis import AsyncRedisResultStorage, RedisResultStorage

__all__ = ["AsyncRedisResultStorage", "RedisResultStorage"]
