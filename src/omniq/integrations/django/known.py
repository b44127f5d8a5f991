"""Which functions a worker runs: what `@task` of Django made a task of, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.utils.module_loading import import_string

from omniq.app.options import TaskTemplate
from omniq.exceptions import UnknownTaskError
from omniq.integrations.django.api import Task
from omniq.integrations.django.running import runner_of
from omniq.registry import Registry, TaskFunction

if TYPE_CHECKING:
    from omniq.core import OmniQ


class DjangoRegistry(Registry):
    """Finds tasks by the path of their function, importing its module when first needed.

    A name found in stored data leads to nothing but a Django task, in a module that is imported
    already, belongs to an installed app, or is listed.

    Args:
        app: the application.
        alias: the entry of TASKS its tasks belong to.
        modules: further modules (with all below them) that may be imported.
    """

    finds_more = True

    def __init__(self, app: OmniQ, alias: str, modules: tuple[str, ...]) -> None:
        super().__init__(app)
        self._alias = alias
        self._modules = modules
        self._runners: dict[str, TaskFunction[..., Any]] = {}

    def resolve(self, name: str, allowed_modules: Iterable[str] = ()) -> TaskFunction[..., Any]:
        """Return the task of this name. Raises UnknownTaskError."""
        runner = self._runners.get(name)
        if runner is None:
            task = self.django_task(name, tuple(allowed_modules))
            func = runner_of(task, self._alias)
            runner = self._runners[name] = self._made(func, TaskTemplate(name), name)
        return runner

    def django_task(self, name: str, allowed: tuple[str, ...] = ()) -> Task[..., Any]:
        """Return the task as Django knows it.

        Raises:
            UnknownTaskError: there is none, or its module may not be imported.
        """
        module = name.rpartition(".")[0]
        if module not in sys.modules and not self._may_import(module, allowed):
            raise UnknownTaskError(
                f"no task {name!r}: its module belongs to no installed app; add it to "
                "INSTALLED_APPS, or to OPTIONS['modules']"
            )
        try:
            found = import_string(name)
        except ImportError as error:
            raise UnknownTaskError(f"no task {name!r}: {error}") from error
        if not isinstance(found, Task):
            raise UnknownTaskError(f"no task {name!r}: {name} is not decorated with @task")
        return cast("Task[..., Any]", found)

    def _may_import(self, module: str, allowed: tuple[str, ...]) -> bool:
        roots = (*allowed, *self._modules, *(config.name for config in apps.get_app_configs()))
        return any(module == root or module.startswith(f"{root}.") for root in roots)
