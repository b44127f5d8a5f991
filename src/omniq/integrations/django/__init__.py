"""A backend for Django's tasks: `django.tasks` of Django 6, or the `django-tasks` package on 5.2.

TASKS = {
    "default": {
        "BACKEND": "omniq.integrations.django.OmniQBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"url": "postgresql://…"},
    }
}
INSTALLED_APPS = [..., "omniq.integrations.django"]   # for `manage.py omniq_worker`
"""

from omniq.integrations.django.apps_of import app_of
from omniq.integrations.django.backend import OmniQBackend

__all__ = ["OmniQBackend", "app_of"]
