"""What `omniq worker` and the other commands load: Django set up, and the applications of TASKS.

`app` is that of TASKS["default"], if it is an `OmniQBackend`; `apps.NAME` is that of another entry.
Needs DJANGO_SETTINGS_MODULE.
"""

from __future__ import annotations

import django

from omniq.core import OmniQ

django.setup()

from omniq.integrations.django.api import task_backends  # noqa: E402 - needs the settings
from omniq.integrations.django.apps_of import app_of  # noqa: E402


class Apps:
    """The applications by the names of their entries, as attributes."""

    def __getattr__(self, alias: str) -> OmniQ:
        if alias.startswith("_") or alias not in task_backends.settings:
            raise AttributeError(alias)
        return app_of(alias)


apps = Apps()
if hasattr(task_backends["default"], "app"):
    app = app_of()
