"""The ways in which pending changes reach REMOTE: all in one run, or each object in its own task, in either order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.conf import settings
from django.test import override_settings

from synchro import engine
from synchro.engine.report import Failure
from synchro.models import ChangeLog
from tests.databases import VENDORS, Pair, vendor_of

Road = Callable[[], None]
#: Brings what it can, and returns the newest failure of each object.
Try = Callable[[], list[Failure]]


def sync() -> engine.Report:
    """Bring everything in one run; nothing may fail."""
    report = engine.sync_pending()
    assert report.failures == (), report.failures
    return report


def in_one_run() -> None:
    sync()


def by_tasks() -> None:
    assert _run_tasks(pending_objects()) == []


def by_tasks_backwards() -> None:
    assert _run_tasks(pending_objects()[::-1]) == []


ROADS = [in_one_run, by_tasks, by_tasks_backwards]


def try_in_one_run() -> list[Failure]:
    return _newest(engine.sync_pending().failures)


def try_by_tasks() -> list[Failure]:
    return _newest(_run_tasks(pending_objects()))


def try_by_tasks_backwards() -> list[Failure]:
    return _newest(_run_tasks(pending_objects()[::-1]))


#: The same roads for what fails on them.
TRIES = [try_in_one_run, try_by_tasks, try_by_tasks_backwards]


def road_of(pair: Pair) -> Road:
    """Return one of the roads for each of the nine pairs, so that each vendor has all three, as LOCAL and as REMOTE."""
    return ROADS[(VENDORS.index(vendor_of(pair.local)) + VENDORS.index(vendor_of(pair.remote))) % len(ROADS)]


def pending_objects() -> list[tuple[str, str]]:
    """Return the objects with pending entries, by label and id, in the order of their first change; all are due."""
    log = ChangeLog.objects.using(settings.SYNCHRO_LOCAL)
    log.pending().update(next_attempt_at=None)
    entries = log.pending().order_by("pk").select_related("content_type")
    return list(dict.fromkeys((_label(each), each.object_id) for each in entries))


def run_task(label: str, object_id: str) -> engine.Report:
    """Do what a task for this object alone does."""
    with override_settings(SYNCHRO_BATCH_SIZE=1):
        return engine.sync_object(label, object_id)


def _run_tasks(objects: Iterable[tuple[str, str]]) -> list[Failure]:
    """Run a task for each, and return all failures, also what a later task has cured."""
    return [failure for label, object_id in objects for failure in run_task(label, object_id).failures]


def _newest(failures: Iterable[Failure]) -> list[Failure]:
    """Return one failure for each object that has not arrived."""
    unsettled = pending_objects()
    found = {(each.model, each.object_id): each for each in failures}
    return [failure for target, failure in found.items() if target in unsettled]


def _label(entry: ChangeLog) -> str:
    model = entry.content_type.model_class()
    assert model is not None
    return model._meta.label
