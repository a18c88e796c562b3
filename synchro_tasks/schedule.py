"""The checkpoint's entry in django-celery-beat's schedule: made once, and from then on the operator's own."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.models.signals import post_migrate

from synchro.models import Option
from synchro_tasks.tasks import CHECKPOINT

logger = logging.getLogger(__name__)

NAME = "synchro: checkpoint"
#: How often a checkpoint is queued, unless the operator says otherwise.
SECONDS = 60
#: Checkpoints that no worker has taken after so many seconds are dropped: one is enough.
_EXPIRES = 600
#: Remembers that the entry was made: one that is missing although this is there was deleted by somebody.
_MARKER = "beat_entry"


def connect() -> None:
    """Make the entry whenever beat's database has been migrated or flushed, if it was never made there."""
    if apps.is_installed("django_celery_beat"):
        post_migrate.connect(install, sender=apps.get_app_config("django_celery_beat"))


def install(using: str, **kwargs: Any) -> None:
    """Make the entry in the database that beat reads, unless it was made there before; receiver of ``post_migrate``."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    if using != router.db_for_write(PeriodicTask) or not _has_tables(using, PeriodicTask, Option):
        return
    with transaction.atomic(using=using):
        _, is_new = Option.objects.using(using).get_or_create(key=_MARKER, defaults={"value": NAME})
        if not is_new or PeriodicTask.objects.using(using).filter(task=CHECKPOINT).exists():
            return
        every = {"every": SECONDS, "period": IntervalSchedule.SECONDS}
        intervals = IntervalSchedule.objects.using(using)
        PeriodicTask.objects.using(using).create(
            name=NAME,
            task=CHECKPOINT,
            interval=intervals.filter(**every).first() or intervals.create(**every),
            expire_seconds=_EXPIRES,
            description="Copies what the queue has lost and what is due again, and deletes old log entries.",
        )
    logger.info("checkpoint scheduled using=%s seconds=%s", using, SECONDS)


def _has_tables(using: str, *models: Any) -> bool:
    """Tell whether the tables are there: a migration may be undone, or kept from this database by a router."""
    tables = connections[using].introspection.table_names()
    return all(model._meta.db_table in tables for model in models)
