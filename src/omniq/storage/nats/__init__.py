"""All four components on NATS JetStream; each class goes by several names, see `omniq.blocking`."""

from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.events import (
    AsyncNATSEventStorage,
    AsyncNatsEventStorage,
    NATSEventStorage,
    NatsEventStorage,
)
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.queue import AsyncNATSQueue, AsyncNatsQueue, NATSQueue, NatsQueue
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
    "AsyncNATSQueue",
    "AsyncNATSResultStorage",
    "AsyncNATSScheduleStorage",
    "AsyncNatsEventStorage",
    "AsyncNatsQueue",
    "AsyncNatsResultStorage",
    "AsyncNatsScheduleStorage",
    "NATSEventStorage",
    "NATSOptions",
    "NATSQueue",
    "NATSResultStorage",
    "NATSScheduleStorage",
    "NATSServer",
    "NatsEventStorage",
    "NatsQueue",
    "NatsResultStorage",
    "NatsScheduleStorage",
]
