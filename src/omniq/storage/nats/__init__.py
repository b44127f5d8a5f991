"""All four components on NATS JetStream; each class goes by several names, see `omniq.blocking`."""

from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.events import (
    AsyncNATSEventStorage,
    AsyncNatsEventStorage,
    NATSEventStorage,
    NatsEventStorage,
)
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.results import (
    AsyncNATSResultStorage,
    AsyncNatsResultStorage,
    NATSResultStorage,
    NatsResultStorage,
)
from omniq.storage.nats.schedules import (
    AsyncNATSScheduleStorage,
    AsyncNatsScheduleStorage,
    NATSScheduleStorage,
    NatsScheduleStorage,
)

__all__ = [
    "AsyncNATSEventStorage",
    "AsyncNATSResultStorage",
    "AsyncNATSScheduleStorage",
    "AsyncNatsEventStorage",
    "AsyncNatsResultStorage",
    "AsyncNatsScheduleStorage",
    "NATSEventStorage",
    "NATSOptions",
    "NATSResultStorage",
    "NATSScheduleStorage",
    "NATSServer",
    "NatsEventStorage",
    "NatsResultStorage",
    "NatsScheduleStorage",
]
