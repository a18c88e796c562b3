"""What is queued when transactions commit, in the order of the objects, with the broker in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.db import transaction
from django.test import override_settings

from synchro import touch
from synchro.models import ChangeLog, Hold
from synchro_tasks.dispatch import queue_changes
from synchro_tasks.publisher import wakeups
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.celery_app import app
from tests.databases import Pair
from tests.faults import ambiguous_twin, unreachable
from tests.integration.test_capture import rolled_back
from tests.queries import queries
from tests.shop.models import Article
from tests.unwatched.models import Continent

Queued = list[tuple[str, str]]


@pytest.fixture
def queued() -> Iterator[Queued]:
    """The arguments of the replicate tasks that were published."""
    messages: Queued = []

    def note(sender: str, body: Any, **kwargs: Any) -> None:
        assert sender == "synchro_tasks.replicate"
        (model_label, pk), _, _ = body
        messages.append((model_label, pk))

    before_task_publish.connect(note)
    yield messages
    before_task_publish.disconnect(note)


@pytest.fixture
def eager() -> Iterator[None]:
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def name(instance: Any) -> tuple[str, str]:
    return instance._meta.label, str(instance.pk)


def test_each_save_queues_its_object(pair: Pair, queued: Queued) -> None:
    first, second = factories.article(), factories.product()

    assert queued == [name(first), name(second)]


def test_a_transaction_queues_each_of_its_objects_once_after_the_commit(pair: Pair, queued: Queued) -> None:
    with transaction.atomic(using=pair.local):
        first, second = factories.article(), factories.article()
        first.save()
        second.save()
        first.save()
        assert queued == []

    assert queued == [name(first), name(second)]


def test_a_delete_is_queued_too(pair: Pair, queued: Queued) -> None:
    article = factories.article()
    named = name(article)
    article.delete()

    assert queued == [named, named]


def test_nothing_is_queued_for_a_transaction_that_rolls_back(pair: Pair, queued: Queued) -> None:
    with rolled_back(pair.local):
        factories.article()

    assert queued == []


def test_what_a_savepoint_took_back_and_was_saved_again_is_queued(pair: Pair, queued: Queued) -> None:
    article = factories.article()
    queued.clear()

    with transaction.atomic(using=pair.local):
        with rolled_back(pair.local):
            article.save()
        article.save()

    assert queued == [name(article)]


def test_nothing_is_queued_without_a_remote(pair: Pair, queued: Queued) -> None:
    with override_settings(SYNCHRO_REMOTE=None):
        factories.article()

    assert queued == []
    assert ChangeLog.objects.count() == 1


def test_unwatched_models_are_not_queued(pair: Pair, queued: Queued) -> None:
    factories.make(Continent, name="Atlantis")

    assert queued == []


def test_up_to_twenty_objects_of_a_model_get_a_task_each(pair: Pair, queued: Queued) -> None:
    with transaction.atomic(using=pair.local):
        articles = [factories.article() for _ in range(20)]

    assert queued == [name(article) for article in articles]


@override_settings(SYNCHRO_BATCH_SIZE=10)
def test_of_more_objects_the_first_of_each_batch_is_queued(pair: Pair, queued: Queued) -> None:
    with transaction.atomic(using=pair.local):
        articles = [factories.article() for _ in range(25)]
        product = factories.product()

    assert queued == [name(article) for article in (articles[0], articles[10], articles[20])] + [name(product)]


@override_settings(SYNCHRO_BATCH_SIZE=10)
def test_the_tasks_of_a_large_transaction_bring_all_of_it(pair: Pair, queued: Queued, eager: None) -> None:
    with transaction.atomic(using=pair.local):
        for _ in range(25):
            factories.article().save()  # two entries each

    assert_in_step(Article)


@override_settings(SYNCHRO_BATCH_SIZE=10)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_they_do_so_in_any_order(pair: Pair, queued: Queued, order: tuple[int, ...]) -> None:
    from synchro_tasks.tasks import replicate

    with transaction.atomic(using=pair.local):
        for _ in range(25):
            factories.article().save()
    for index in order:
        replicate(*queued[index])

    assert_in_step(Article)


@pytest.mark.parametrize(
    ("counts", "batch_size", "expected"),
    [
        ({}, 500, []),
        ({"a": 1}, 500, ["a0"]),
        ({"a": 20}, 500, [f"a{number}" for number in range(20)]),
        ({"a": 21}, 500, ["a0"]),
        ({"a": 500}, 500, ["a0"]),
        ({"a": 501}, 500, ["a0", "a500"]),
        ({"a": 34_000}, 500, [f"a{number}" for number in range(0, 34_000, 500)]),
        ({"a": 30, "b": 2}, 15, ["a0", "a15", "b0", "b1"]),
        ({"a": 21}, 1, [f"a{number}" for number in range(21)]),
    ],
    ids=str,
)
def test_which_objects_wake_the_workers_up(counts: dict[str, int], batch_size: int, expected: list[str]) -> None:
    objects = [(model, f"{model}{number}") for model, count in counts.items() for number in range(count)]

    assert [pk for _, pk in wakeups(objects, batch_size)] == expected


def test_touched_objects_are_queued(pair: Pair, queued: Queued) -> None:
    article = factories.article()
    queued.clear()

    touch(Article.objects.all())

    assert queued == [name(article)]


def test_queueing_asks_neither_database_anything(pair: Pair) -> None:
    with queries(pair.local) as local, queries(pair.remote) as remote:
        queue_changes(objects=[("shop.Article", "1")])

    assert (local, remote) == ([], [])


def test_eager_tasks_copy_at_once(pair: Pair, eager: None) -> None:
    assert_same_on_remote(factories.article())


def test_an_eager_task_that_fails_leaves_the_request_alone(sqlite_pair: Pair, eager: None) -> None:
    app.conf.task_eager_propagates = True
    try:
        twin = ambiguous_twin(sqlite_pair)
    finally:
        app.conf.task_eager_propagates = False

    assert ChangeLog.objects.get(object_id=str(twin.pk)).attempts == 1


def test_an_eager_task_does_not_wait_for_a_remote_that_is_away(sqlite_pair: Pair, eager: None) -> None:
    with unreachable(sqlite_pair.remote):
        article = factories.article()

    entry = ChangeLog.objects.get(object_id=str(article.pk))
    assert (entry.state, entry.attempts) == (ChangeLog.State.PENDING, 0)
    assert Hold.objects.held().exists()


def test_a_wrong_setting_leaves_the_request_alone(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(SYNCHRO_REMOTE="no such alias"), caplog.at_level(logging.ERROR):
        article = factories.article()

    assert article.pk is not None
    assert "receiver of changes_logged failed" in caplog.text
