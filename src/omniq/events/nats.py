"""The specified home of `NATSEventStorage`."""

from omniq.storage.nats import (
    AsyncNATSEventStorage,
    AsyncNatsEventStorage,
    NATSEventStorage,
    NatsEventStorage,
)

__all__ = [
    "AsyncNATSEventStorage",
    "AsyncNatsEventStorage",
    "NATSEventStorage",
    "NatsEventStorage",
]
