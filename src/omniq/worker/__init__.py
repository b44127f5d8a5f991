"""Workers: what runs the tasks."""

from omniq.worker.context import TaskContext, current_task
from omniq.worker.worker import Worker, WorkerOptions

__all__ = ["TaskContext", "Worker", "WorkerOptions", "current_task"]
