"""Workers: what runs the tasks."""

from omniq.worker.context import TaskContext, current_task
from omniq.worker.options import WorkerOptions
from omniq.worker.runs import StopReason
from omniq.worker.worker import Worker

__all__ = ["StopReason", "TaskContext", "Worker", "WorkerOptions", "current_task"]
