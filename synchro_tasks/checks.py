"""System checks: what keeps changes from being delivered, and what to type."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Warning

from synchro_tasks.tasks import CHECKPOINT

TAG = "synchro"


def register() -> None:
    """Register the checks."""
    for check in (celery_app_is_loaded, broker_is_usable, checkpoint_is_scheduled):
        checks.register(check, TAG)


def celery_app_is_loaded(**kwargs: Any) -> list[CheckMessage]:
    """W001: Django starts without the project's Celery app, so that tasks would go to a broker nobody has chosen."""
    if not _delivers() or _has_app():
        return []
    return [
        Warning(
            "No Celery app is loaded where Django starts, so saved changes are not queued.",
            hint="In the __init__.py of the project's package: from project.celery import app as celery_app",
            id="synchro_tasks.W001",
        )
    ]


def broker_is_usable(**kwargs: Any) -> list[CheckMessage]:
    """W002: CELERY_BROKER_URL is not set, or no worker can be reached through it."""
    if not _delivers() or not _has_app() or current_app.conf.task_always_eager:
        return []
    complaint = _complaint_about_broker()
    if complaint is None:
        return []
    return [
        Warning(
            f"CELERY_BROKER_URL {complaint}, so changes wait in the log until 'manage.py synchronize' is called.",
            hint="CELERY_BROKER_URL = 'redis://127.0.0.1:6379/0'",
            id="synchro_tasks.W002",
        )
    ]


def checkpoint_is_scheduled(**kwargs: Any) -> list[CheckMessage]:
    """W003: nothing starts the checkpoint, which takes up what the queue has lost."""
    if not _delivers() or not _has_app() or apps.is_installed("django_celery_beat"):
        return []
    if any(entry.get("task") == CHECKPOINT for entry in current_app.conf.beat_schedule.values()):
        return []
    return [
        Warning(
            "Nothing starts the checkpoint: changes whose task is lost, or that have to wait, are never copied.",
            hint="Add 'django_celery_beat' to INSTALLED_APPS, migrate, and run beat with its DatabaseScheduler.",
            id="synchro_tasks.W003",
        )
    ]


def _delivers() -> bool:
    return getattr(settings, "SYNCHRO_REMOTE", None) is not None


def _has_app() -> bool:
    """Tell whether the current app is the project's, and not the one that Celery makes up where there is none."""
    return current_app.main != "default"


def _complaint_about_broker() -> str | None:
    url = current_app.conf.broker_write_url
    if not url:
        return "is not set"
    try:
        driver = current_app.connection_for_write().transport.driver_type
    except Exception as error:  # whatever a parser or an import makes of it; the message may quote a password
        return f"cannot be used ({type(error).__name__})"
    return "is memory://, which no other process can reach" if driver == "memory" else None
