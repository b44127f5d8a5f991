"""The `OmniQ` of each entry of TASKS: one a process, whatever the number of threads."""

from __future__ import annotations

import threading
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured

from omniq.core import OmniQ
from omniq.exceptions import ConfigError, OmniQError
from omniq.integrations.django.api import task_backends
from omniq.integrations.django.known import DjangoRegistry

RESULT_TTL_SECONDS = 7 * 86_400
"""By default a result is kept for as long as a finished task is."""
PLACES = frozenset({"url", "config", "tasks", "results", "events", "schedules"})
DEFAULTS = frozenset({"max_retries", "retry", "timeout", "result_ttl", "log_events"})
OPTIONS = PLACES | DEFAULTS | {"modules"}
_apps: dict[str, OmniQ] = {}
_guard = threading.Lock()


def app_of(alias: str = "default") -> OmniQ:
    """Return the application behind an entry of TASKS: to look into its tasks, to run a worker.

    Raises:
        ImproperlyConfigured: the entry is of another backend, or an option makes no sense.
    """
    found = getattr(task_backends[alias], "app", None)
    if isinstance(found, OmniQ):
        return found
    raise ImproperlyConfigured(f"TASKS[{alias!r}] is no OmniQBackend")


def shared_app(alias: str, queues: list[str], options: dict[str, Any]) -> OmniQ:
    """Return the application of these settings; threads that ask for the same share one.

    Raises:
        ImproperlyConfigured: an option is unknown or makes no sense.
    """
    unknown = options.keys() - OPTIONS
    if unknown:
        valid = ", ".join(sorted(OPTIONS))
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}]: no option {min(unknown)!r}; valid are: {valid}"
        )
    key = repr((alias, queues, sorted(options.items())))
    with _guard:
        if key not in _apps:
            try:
                _apps[key] = _made(alias, queues, dict(options))
            except (OmniQError, TypeError) as error:
                raise ImproperlyConfigured(f"TASKS[{alias!r}]: {error}") from error
        return _apps[key]


def _made(alias: str, queues: list[str], options: dict[str, Any]) -> OmniQ:
    modules = _names(options.pop("modules", ()))
    options.setdefault("result_ttl", RESULT_TTL_SECONDS)
    app = OmniQ(**options, default_queue=queues[0] if queues else "default")
    app.registry = DjangoRegistry(app, alias, modules)
    return app


def _names(given: object) -> tuple[str, ...]:
    items = cast("list[object]", given) if isinstance(given, list | tuple) else [given]
    if all(isinstance(item, str) for item in items):
        return tuple(map(str, items))
    raise ConfigError(f"modules: expected a list of module names, got {given!r}")
