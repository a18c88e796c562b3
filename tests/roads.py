"""The ways in which pending changes reach REMOTE: all in one run, or each object in its own task, in either order."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.test import override_settings

from synchro import engine
from synchro.models import ChangeLog

Road = Callable[[], None]


def sync() -> engine.Report:
    """Bring everything in one run; nothing may fail."""
    report = engine.sync_pending()
    assert report.failures == (), report.failures
    return report


def in_one_run() -> None:
    sync()


def by_tasks() -> None:
    _run_tasks(pending_objects())


def by_tasks_backwards() -> None:
    _run_tasks(pending_objects()[::-1])


ROADS = [in_one_run, by_tasks, by_tasks_backwards]


def pending_objects() -> list[tuple[str, str]]:
    """Return the objects with pending entries, by label and id, in the order of their first change."""
    entries = ChangeLog.objects.using(settings.SYNCHRO_LOCAL).pending().order_by("pk").select_related("content_type")
    return list(dict.fromkeys((_label(each), each.object_id) for each in entries))


def run_task(label: str, object_id: str) -> engine.Report:
    """Do what a task for this object alone does."""
    with override_settings(SYNCHRO_BATCH_SIZE=1):
        return engine.sync_object(label, object_id)


def _run_tasks(objects: list[tuple[str, str]]) -> None:
    for label, object_id in objects:
        assert run_task(label, object_id).failures == ()


def _label(entry: ChangeLog) -> str:
    model = entry.content_type.model_class()
    assert model is not None
    return model._meta.label
