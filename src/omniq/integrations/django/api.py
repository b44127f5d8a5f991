"""The task API of Django: its own from Django 6 on, else that of the `django-tasks` package.

They are the same but for a few places. What differs is settled here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from django.tasks import TaskContext, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError, TaskResult
    from django.tasks.exceptions import TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    IS_BUILT_IN = django.VERSION >= (6, 0)
    PACKAGE = "django.tasks" if IS_BUILT_IN else "django_tasks"
    try:
        _api = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        raise ModuleNotFoundError(
            f"Django {django.get_version()} has no tasks of its own; "
            "upgrade to Django 6, or: pip install django-tasks",
            name=PACKAGE,
        ) from error

    def _from(module: str, name: str) -> Any:
        return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)

    task_backends = _api.task_backends
    TaskContext, TaskResultStatus = _api.TaskContext, _api.TaskResultStatus
    BaseTaskBackend = _from("backends.base", "BaseTaskBackend")
    Task, TaskError, TaskResult = (_from("base", n) for n in ("Task", "TaskError", "TaskResult"))
    TaskResultDoesNotExist = _from("exceptions", "TaskResultDoesNotExist")
    task_enqueued, task_finished, task_started = (
        _from("signals", f"task_{n}") for n in ("enqueued", "finished", "started")
    )
    normalize_json = (
        importlib.import_module("django.utils.json").normalize_json
        if IS_BUILT_IN
        else _from("utils", "normalize_json")
    )

__all__ = [
    "BaseTaskBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
