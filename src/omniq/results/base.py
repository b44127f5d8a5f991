"""The specified home of `BaseResultStorage`."""

from omniq.storage.results import BaseResultStorage

__all__ = ["BaseResultStorage"]
