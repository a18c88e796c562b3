from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SynchroTasksConfig(AppConfig):
    """Queues changes on commit, and keeps the checkpoint in beat's schedule."""

    name = "synchro_tasks"
    verbose_name = _("Synchronization with Celery")

    def ready(self) -> None:
        from synchro_tasks import checks, dispatch, lost, schedule

        dispatch.connect()
        schedule.connect()
        lost.connect()
        checks.register()
