"""The checkpoint's entry in beat's schedule: made once, and then the operator's own."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.test import modify_settings
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from synchro.models import Option
from synchro_tasks import schedule
from synchro_tasks.schedule import NAME
from tests.celery_app import app
from tests.databases import Pair


def migrated(alias: str) -> None:
    """What `migrate` does at its end."""
    emit_post_migrate_signal(verbosity=0, interactive=False, db=alias)


def entries(alias: str) -> list[tuple[Any, ...]]:
    return list(PeriodicTask.objects.using(alias).values_list("name", "task", "enabled"))


def test_migrate_makes_the_entry(each_vendor: Pair) -> None:
    migrated(each_vendor.local)

    task = PeriodicTask.objects.get()
    assert (task.name, task.task, task.enabled) == (NAME, "synchro_tasks.checkpoint", True)
    assert task.interval is not None
    assert (task.interval.every, task.interval.period) == (60, "seconds")
    assert task.task in app.tasks
    assert task.description


def test_checkpoints_do_not_pile_up_while_no_worker_runs(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.local)

    assert 60 <= (PeriodicTask.objects.get().expire_seconds or 0) <= 3600


def test_it_is_made_only_where_beat_reads(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.remote)

    assert entries(sqlite_pair.remote) == []
    assert entries(sqlite_pair.local) == []


def test_a_second_migrate_makes_no_second_entry(pair: Pair) -> None:
    migrated(pair.local)
    migrated(pair.local)

    assert len(entries(pair.local)) == 1


def test_what_the_operator_edited_stays(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.local)
    hourly = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    PeriodicTask.objects.update(name="my checkpoint", interval=hourly)

    migrated(sqlite_pair.local)

    task = PeriodicTask.objects.get()
    assert (task.name, task.interval) == ("my checkpoint", hourly)


def test_what_the_operator_disabled_stays_disabled(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.local)
    PeriodicTask.objects.update(enabled=False)

    migrated(sqlite_pair.local)

    assert entries(sqlite_pair.local) == [(NAME, "synchro_tasks.checkpoint", False)]


def test_what_the_operator_deleted_stays_away(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.local)
    PeriodicTask.objects.all().delete()

    migrated(sqlite_pair.local)

    assert entries(sqlite_pair.local) == []


def test_a_schedule_that_the_operator_made_before_is_enough(sqlite_pair: Pair) -> None:
    crontab = CrontabSchedule.objects.create(minute="*/5")
    PeriodicTask.objects.create(name="every five minutes", task="synchro_tasks.checkpoint", crontab=crontab)

    migrated(sqlite_pair.local)

    assert entries(sqlite_pair.local) == [("every five minutes", "synchro_tasks.checkpoint", True)]


def test_an_interval_that_is_there_already_is_used(sqlite_pair: Pair) -> None:
    for _ in range(2):
        IntervalSchedule.objects.create(every=60, period=IntervalSchedule.SECONDS)

    migrated(sqlite_pair.local)

    assert IntervalSchedule.objects.count() == 2


def test_it_comes_back_after_flush(sqlite_pair: Pair) -> None:
    migrated(sqlite_pair.local)

    call_command("flush", database=sqlite_pair.local, interactive=False, verbosity=0)

    assert len(entries(sqlite_pair.local)) == 1


def test_it_is_not_made_where_tables_are_missing(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro_tasks.schedule._has_tables", lambda *args: False)

    migrated(sqlite_pair.local)

    assert entries(sqlite_pair.local) == []
    assert not Option.objects.exists()


def test_without_django_celery_beat_nothing_happens(sqlite_pair: Pair) -> None:
    with modify_settings(INSTALLED_APPS={"remove": "django_celery_beat"}):
        schedule.connect()
        migrated(sqlite_pair.local)

    assert not Option.objects.exists()
