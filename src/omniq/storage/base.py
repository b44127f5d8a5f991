"""The abstract bases of all stored components, in one place."""

from omniq.models.finding import Finding, Level
from omniq.storage.component import Capabilities, Component
from omniq.storage.events import EVERY_EVENT, BaseEventStorage, EventFilter
from omniq.storage.queue import BaseQueue
from omniq.storage.results import BaseResultStorage
from omniq.storage.schedules import BaseScheduleStorage
from omniq.storage.taskstore import TaskStore
from omniq.storage.values import (
    EVERY_TASK,
    Change,
    Counts,
    Inserted,
    JointFinish,
    Lease,
    LoggedInsert,
    TaskFilter,
)

BaseTaskQueue = BaseQueue

__all__ = [
    "EVERY_EVENT",
    "EVERY_TASK",
    "BaseEventStorage",
    "BaseQueue",
    "BaseResultStorage",
    "BaseScheduleStorage",
    "BaseTaskQueue",
    "Capabilities",
    "Change",
    "Component",
    "Counts",
    "EventFilter",
    "Finding",
    "Inserted",
    "JointFinish",
    "Lease",
    "Level",
    "LoggedInsert",
    "TaskFilter",
    "TaskStore",
]
