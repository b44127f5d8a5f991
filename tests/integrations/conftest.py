"""Django's settings, set up once before any of its tasks is imported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["omniq.integrations.django"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": Path(tempfile.mkdtemp(prefix="omniq-django-")) / "shop.db",
            }
        },
        TASKS={"default": {"BACKEND": "omniq.integrations.django.OmniQBackend"}},
        USE_TZ=True,
        TIME_ZONE="UTC",
    )
    django.setup()
