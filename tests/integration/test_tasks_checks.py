"""The system checks of synchro_tasks, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from django.core.checks import run_checks
from django.test import modify_settings, override_settings

from tests.celery_app import app

CHECKPOINT = {"task": "synchro_tasks.checkpoint", "schedule": 60.0}
without_beat = modify_settings(INSTALLED_APPS={"remove": "django_celery_beat"})


@pytest.fixture(autouse=True)
def well_configured() -> Iterator[None]:
    with broker("redis://127.0.0.1:6379/0"):
        yield


class configured:
    """Change the Celery app's settings for a while."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._before = {name: app.conf[name] for name in self._values}
        app.conf.update(self._values)

    def __exit__(self, *args: object) -> None:
        app.conf.update(self._before)


def broker(url: str | None, **values: Any) -> configured:
    return configured(broker_url=url, broker_write_url=url, **values)


def warnings() -> dict[str, str]:
    found = [each for each in run_checks(tags=["synchro"]) if each.id and each.id.startswith("synchro_tasks.")]
    assert all(each.hint for each in found)
    return {str(each.id).removeprefix("synchro_tasks."): each.msg for each in found}


def test_there_is_nothing_to_say_about_a_site_that_is_well_configured() -> None:
    assert warnings() == {}


@override_settings(SYNCHRO_REMOTE=None)
def test_there_is_nothing_to_say_where_changes_are_only_logged() -> None:
    with broker(None), without_beat:
        assert warnings() == {}


def test_w001_no_celery_app_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    fallback = Celery("default", fixups=[], set_as_current=False)
    monkeypatch.setattr("synchro_tasks.checks.current_app", fallback)

    assert list(warnings()) == ["W001"]


def test_celery_names_its_fallback_as_w001_expects() -> None:
    """An app that nobody made, as a process without the project's own app has it."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "import celery; print(celery.current_app.main)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "default"
    assert current_app.main != "default"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("memory://", "memory://"),
        ("nonsense://somewhere", "cannot be used"),
        ("redis://:pa/ss@host:6379/0", "cannot be used"),
    ],
)
def test_w002_the_broker_cannot_be_used(url: str | None, complaint: str) -> None:
    with broker(url):
        found = warnings()

    assert list(found) == ["W002"]
    assert complaint in found["W002"]
    assert "pa/ss" not in found["W002"]
    assert "'pa'" not in found["W002"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0",
        "rediss://h/0",
        "amqp://guest:guest@h//",
        "amqps://h",
        "pyamqp://h",
        "sentinel://h:26379",
        "amqp://a;amqp://b",
    ],
)
def test_w002_has_nothing_to_say_about_brokers_that_workers_reach(url: str) -> None:
    with broker(url):
        assert warnings() == {}


def test_w002_has_nothing_to_say_where_tasks_are_eager() -> None:
    with broker(None, task_always_eager=True):
        assert warnings() == {}


def test_w003_nothing_starts_the_checkpoint() -> None:
    with without_beat:
        assert list(warnings()) == ["W003"]


def test_w003_has_nothing_to_say_where_the_project_schedules_it() -> None:
    with without_beat, configured(beat_schedule={"checkpoint": CHECKPOINT}):
        assert warnings() == {}
