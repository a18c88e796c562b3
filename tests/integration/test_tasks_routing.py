"""Where tasks go, and how long they are worth something: synchro's settings, Celery's settings, in this order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.test import override_settings

from synchro_tasks import publisher
from synchro_tasks.tasks import checkpoint, replicate
from tests.celery_app import app
from tests.databases import Pair
from tests.faults import unreachable
from tests.running import run

CALL = ("shop.Article", "1")


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """Routing keys and headers of what is published."""
    found: list[dict[str, Any]] = []

    def note(routing_key: str, headers: dict[str, Any], **kwargs: Any) -> None:
        found.append({"routing_key": routing_key, "expires": headers["expires"]})

    before_task_publish.connect(note)
    yield found
    before_task_publish.disconnect(note)


@pytest.fixture
def routes() -> Iterator[None]:
    """Let Celery's own settings send the tasks elsewhere."""
    app.conf.task_routes = {"synchro_tasks.*": {"queue": "by-celery"}}
    app.amqp.flush_routes()
    app.amqp.__dict__.pop("router", None)
    yield
    app.conf.task_routes = None
    app.amqp.flush_routes()
    app.amqp.__dict__.pop("router", None)


def publish_both_ways() -> None:
    assert publisher.publish(replicate, [CALL])
    checkpoint.apply_async()


def test_without_settings_celery_s_defaults_hold(unblocked: None, sent: list[dict[str, Any]]) -> None:
    publish_both_ways()

    assert sent == [{"routing_key": "celery", "expires": None}] * 2


def test_celery_s_routes_hold(unblocked: None, routes: None, sent: list[dict[str, Any]]) -> None:
    publish_both_ways()

    assert [each["routing_key"] for each in sent] == ["by-celery"] * 2


@override_settings(SYNCHRO_TASK_QUEUE="synchro", SYNCHRO_TASK_EXPIRES=100)
def test_synchro_s_settings_come_first(unblocked: None, routes: None, sent: list[dict[str, Any]]) -> None:
    publish_both_ways()

    assert [each["routing_key"] for each in sent] == ["synchro"] * 2
    for each in sent:
        left = datetime.fromisoformat(each["expires"]) - datetime.now(UTC)
        assert timedelta(seconds=90) < left <= timedelta(seconds=100)


@override_settings(SYNCHRO_TASK_QUEUE="synchro", SYNCHRO_TASK_EXPIRES=100)
def test_what_beat_s_entry_says_comes_before_that(unblocked: None, sent: list[dict[str, Any]]) -> None:
    checkpoint.apply_async(queue="of-the-entry", expires=None)

    assert sent == [{"routing_key": "of-the-entry", "expires": None}]


def test_a_retry_stays_where_the_task_was(sqlite_pair: Pair, sent: list[dict[str, Any]]) -> None:
    with unreachable(sqlite_pair.remote), override_settings(SYNCHRO_TASK_QUEUE="elsewhere"):
        assert run(*CALL).state == "SUCCESS", "there is nothing to do"
    with unreachable(sqlite_pair.local), override_settings(SYNCHRO_TASK_QUEUE="elsewhere"):
        assert run(*CALL).state == "RETRY"

    assert [each["routing_key"] for each in sent] == ["celery"]
