"""What Django installs: the command `omniq_worker`."""

from __future__ import annotations

from django.apps import AppConfig


class OmniQConfig(AppConfig):
    """No models: tasks are kept where the URL says."""

    name = "omniq.integrations.django"
    label = "omniq"
    verbose_name = "OmniQ"
