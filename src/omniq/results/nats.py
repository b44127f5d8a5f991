"""The specified home of `NATSResultStorage`."""

from omniq.storage.nats import (
    AsyncNATSResultStorage,
    AsyncNatsResultStorage,
    NATSResultStorage,
    NatsResultStorage,
)

__all__ = [
    "AsyncNATSResultStorage",
    "AsyncNatsResultStorage",
    "NATSResultStorage",
    "NatsResultStorage",
]
