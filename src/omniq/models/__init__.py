"""The data OmniQ stores: tasks, results, events, schedules."""

from omniq.models.event import EventType, TaskEvent
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy, Task, TaskStatus

__all__ = [
    "ErrorInfo",
    "EventType",
    "ResultStatus",
    "RetryPolicy",
    "Schedule",
    "ScheduleStatus",
    "ScheduleType",
    "Task",
    "TaskEvent",
    "TaskResult",
    "TaskStatus",
]
