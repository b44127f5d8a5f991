"""The specified home of `BaseEventStorage`."""

from omniq.storage.events import BaseEventStorage

__all__ = ["BaseEventStorage"]
