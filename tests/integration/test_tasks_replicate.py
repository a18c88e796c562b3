"""The task replicate, run as a worker runs it: what it does, how it ends, and what an operator reads about it."""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.exceptions import PermanentError, TransientError
from synchro.models import Attempt, ChangeLog, Hold
from synchro_tasks import tasks
from synchro_tasks.tasks import replicate
from tests import factories
from tests.assertions import assert_nothing_pending, assert_same_on_remote
from tests.celery_app import app
from tests.databases import Pair
from tests.faults import ambiguous_twin, let_probe, locked, unreachable
from tests.queries import queries
from tests.running import Run, run
from tests.shop.models import Article

LAST_RETRY = 5


def test_it_brings_its_object(each_vendor: Pair) -> None:
    article = factories.article()

    ended = run("shop.Article", str(article.pk))

    assert ended == Run("SUCCESS", None, "1 synced, 0 skipped, 0 failed")
    assert_same_on_remote(article)
    assert_nothing_pending()


def test_it_takes_along_what_was_changed_later(pair: Pair) -> None:
    earlier, own, later = (factories.article() for _ in range(3))

    assert run("shop.Article", str(own.pk)).result == "2 synced, 0 skipped, 0 failed"

    assert_same_on_remote(own)
    assert_same_on_remote(later)
    assert [entry.object_id for entry in ChangeLog.objects.pending()] == [str(earlier.pk)]


@override_settings(SYNCHRO_BATCH_SIZE=4)
def test_it_takes_no_more_than_a_batch_along_at_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_SECONDS_TO_GO_ON", 0.0)
    monkeypatch.setattr(tasks, "_unfinished", set())
    articles = [factories.article() for _ in range(6)]
    for article in articles:
        article.save()

    assert run("shop.Article", str(articles[0].pk)).result == "4 synced, 0 skipped, 0 failed"


@override_settings(SYNCHRO_BATCH_SIZE=4)
def test_it_goes_on_where_there_are_many(pair: Pair) -> None:
    older, *articles = [factories.article() for _ in range(13)]
    product = factories.product()

    assert run("shop.Article", str(articles[0].pk)).result == "13 synced, 0 skipped, 0 failed"

    assert_same_on_remote(older)
    assert [entry.object_id for entry in ChangeLog.objects.pending()] == [str(product.pk)]


@override_settings(SYNCHRO_BATCH_SIZE=4)
def test_what_it_had_no_time_for_is_not_left_to_the_end_of_the_queue(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages that come next are of objects that it has taken along."""
    monkeypatch.setattr(tasks, "_unfinished", set())
    articles = [factories.article() for _ in range(10)]
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "_SECONDS_TO_GO_ON", 0.0)
        assert run("shop.Article", str(articles[0].pk)).result.startswith("4 synced")

    assert run("shop.Article", str(articles[1].pk)).result.startswith("6 synced")

    factories.article()
    assert run("shop.Article", str(articles[2].pk)).result.startswith("0 synced"), "that was all"


@override_settings(SYNCHRO_BATCH_SIZE=4)
def test_it_does_not_go_on_where_another_worker_has_done_most(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro.engine.sync_object", lambda *args, **kwargs: engine.Report(synced=2))
    factories.article()

    assert run("shop.Article", "1").result == "2 synced, 0 skipped, 0 failed"


@override_settings(SYNCHRO_BATCH_SIZE=2)
def test_a_remote_that_goes_away_while_it_goes_on_is_the_other_tasks_matter(
    sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    articles = [factories.article() for _ in range(6)]
    sync_object = engine.sync_object

    def once(*args: Any, **kwargs: Any) -> engine.Report:
        with unreachable(sqlite_pair.remote) if ChangeLog.objects.pending().count() < 6 else nullcontext():
            return sync_object(*args, **kwargs)

    monkeypatch.setattr("synchro.engine.sync_object", once)

    assert run("shop.Article", str(articles[0].pk)).result == "2 synced, 0 skipped, 0 failed"

    assert "backlog left to other tasks model=shop.Article" in caplog.text
    assert ChangeLog.objects.due(timezone.now()).count() == 4
    assert Attempt.objects.count() == 0


def test_what_waits_for_its_next_attempt_is_not_taken_along(pair: Pair) -> None:
    own, waiting = factories.article(), factories.article()
    ChangeLog.objects.filter(object_id=str(waiting.pk)).update(next_attempt_at=timezone.now() + timedelta(hours=1))

    assert run("shop.Article", str(own.pk)).result == "1 synced, 0 skipped, 0 failed"


def test_a_second_delivery_costs_one_query_on_local_and_none_on_remote(pair: Pair) -> None:
    article = factories.article()
    run("shop.Article", str(article.pk))

    with queries(pair.local) as local, queries(pair.remote) as remote:
        assert run("shop.Article", str(article.pk)).result == "0 synced, 0 skipped, 0 failed"

    assert len(local) == 1
    assert remote == []


# Errors


def test_an_object_that_cannot_be_copied_ends_the_task_with_the_reason(pair: Pair) -> None:
    twin = ambiguous_twin(pair)

    ended = run("shop.Twin", str(twin.pk), task_id="of-the-twin")

    assert ended.state == "FAILURE"
    assert type(ended.error) is PermanentError
    assert "natural key" in str(ended.error)
    (attempt,) = Attempt.objects.all()
    assert (attempt.error, attempt.task_id) == ("AmbiguousNaturalKey", "of-the-twin")
    entry = ChangeLog.objects.get(object_id=str(twin.pk))
    assert entry.next_attempt_at is not None
    assert entry.attempts == 1


def test_any_number_of_messages_for_an_object_that_fails_are_one_attempt(pair: Pair) -> None:
    """An object that was saved many times before a worker came to it has as many messages."""
    twin = ambiguous_twin(pair)

    states = [run("shop.Twin", str(twin.pk)).state for _ in range(4)]

    assert states == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
    entry = ChangeLog.objects.get(object_id=str(twin.pk))
    assert (entry.state, entry.attempts, Attempt.objects.count()) == (ChangeLog.State.PENDING, 1, 1)


def test_failures_of_objects_that_were_taken_along_are_only_recorded(pair: Pair) -> None:
    own_first = ambiguous_twin(pair)
    healthy = factories.make(type(own_first), name=factories.unique("twin"))
    ChangeLog.objects.filter(object_id=str(own_first.pk)).delete()
    own_first.save()

    assert run("shop.Twin", str(healthy.pk)).result == "1 synced, 0 skipped, 1 failed"

    assert Attempt.objects.get().object_id == str(own_first.pk)


@pytest.mark.parametrize(
    ("model_label", "pk", "sentence"),
    [
        ("shop.Article", "not a number", "'not a number' is no primary key of shop.Article"),
        ("shop.Article", "", "'' is no primary key of shop.Article"),
        ("shop.Article", None, "'None' is no primary key of shop.Article"),
        ("shop.Article", {"a": 1}, "is no primary key of shop.Article"),
        ("shop.NoSuchModel", "1", "'shop.NoSuchModel' is no installed model"),
        ("nonsense", "1", "'nonsense' is no installed model"),
        ("", "1", "'' is no installed model"),
        (None, "1", "'None' is no installed model"),
        (7, "1", "'7' is no installed model"),
        ("a.b.c", "1", "'a.b.c' is no installed model"),
        ("unwatched.Continent", "1", "unwatched.Continent is not watched"),
        ("auth.User", "1", "auth.User is not watched"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(sqlite_pair: Pair, model_label: Any, pk: Any, sentence: str) -> None:
    ended = run(model_label, pk)

    assert ended.state == "FAILURE"
    assert isinstance(ended.error, PermanentError)
    assert sentence in str(ended.error)
    assert Attempt.objects.count() == 0


def test_an_object_that_does_not_exist_is_nothing_to_do(sqlite_pair: Pair) -> None:
    assert run("shop.Article", "999999").state == "SUCCESS"


def test_an_error_that_passes_is_tried_again_soon(postgres_pair: Pair, retried: list[dict[str, Any]]) -> None:
    article = factories.article()

    with locked(postgres_pair, "shop_article"):
        ended = run("shop.Article", str(article.pk), task_id="first-try")

    assert ended.state == "RETRY"
    assert type(ended.error) is TransientError
    assert [(each["id"], each["retries"]) for each in retried] == [("first-try", 1)]
    attempt = Attempt.objects.get()
    assert (attempt.error, attempt.object_id, attempt.task_id) == ("OperationalError", str(article.pk), "first-try")
    entry = ChangeLog.objects.get()
    assert (entry.state, entry.attempts, entry.next_attempt_at) == (ChangeLog.State.PENDING, 0, None)
    assert not Hold.objects.held().exists(), "REMOTE answers"


def test_after_the_last_retry_the_entries_wait_for_the_checkpoint(
    postgres_pair: Pair, retried: list[dict[str, Any]]
) -> None:
    article = factories.article()

    with locked(postgres_pair, "shop_article"):
        ended = run("shop.Article", str(article.pk), retries=LAST_RETRY)

    assert ended.state == "FAILURE"
    assert type(ended.error) is TransientError
    assert str(ended.error).endswith("The object waits in the log for the checkpoint.")
    assert retried == []
    entry = ChangeLog.objects.get()
    assert (entry.state, entry.attempts) == (ChangeLog.State.PENDING, 0)
    assert entry.next_attempt_at is not None
    assert timedelta(0) < entry.next_attempt_at - timezone.now() <= timedelta(minutes=2)
    assert entry.reason


@pytest.mark.parametrize(
    ("failing_for", "pause"),
    [
        (timedelta(seconds=20), timedelta(minutes=1)),
        (timedelta(minutes=7), timedelta(minutes=7)),
        (timedelta(days=1), timedelta(hours=1)),
    ],
    ids=["at-least", "doubled", "at-most"],
)
def test_the_pauses_double(pair: Pair, failing_for: timedelta, pause: timedelta) -> None:
    """From a minute to an hour, and a new change begins anew: its own task has just been queued."""
    article = factories.article()
    ChangeLog.objects.update(date=timezone.now() - failing_for - timedelta(seconds=1))
    engine.record_attempt(Article, str(article.pk), TransientError("in the way"))
    Attempt.objects.update(date=timezone.now() - failing_for)

    engine.postpone(Article, str(article.pk), TransientError("in the way"))

    assert pause_of(article) == pytest.approx(pause.total_seconds(), abs=2)
    article.save()
    engine.postpone(Article, str(article.pk), TransientError("in the way"))
    assert pause_of(article) == pytest.approx(60, abs=2)


def pause_of(article: Article) -> float:
    """Return the seconds until the next attempt at its newest change."""
    until = ChangeLog.objects.filter(object_id=str(article.pk)).latest("pk").next_attempt_at
    assert until is not None
    return (until - timezone.now()).total_seconds()


def test_the_next_try_finds_a_remote_that_is_back(sqlite_pair: Pair) -> None:
    article = factories.article()
    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(article.pk))
    let_probe()

    assert run("shop.Article", str(article.pk), retries=1) == Run("SUCCESS", None, "1 synced, 0 skipped, 0 failed")

    assert_same_on_remote(article)


def test_what_is_shown_names_no_addresses(
    sqlite_pair: Pair, caplog: pytest.LogCaptureFixture, retried: list[dict[str, Any]]
) -> None:
    article = factories.article()

    with unreachable(sqlite_pair.remote), caplog.at_level(logging.INFO):
        ends = [run("shop.Article", str(article.pk), retries=retries) for retries in (0, LAST_RETRY)]

    attempts = [f"{each.message} {each.traceback}" for each in Attempt.objects.all()]
    shown = [caplog.text, *attempts, *(str(end.error) for end in ends), *map(str, retried)]
    assert not [text for text in shown if "secret" in text]


def test_a_local_that_is_away_is_tried_again_too(sqlite_pair: Pair, retried: list[dict[str, Any]]) -> None:
    with unreachable(sqlite_pair.local):
        ended = run("shop.Article", "1")

    assert ended.state == "RETRY"
    assert len(retried) == 1


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_connection_that_the_server_has_closed_is_opened_again(postgres_pair: Pair, side: str) -> None:
    article = factories.article()
    run("shop.Article", str(article.pk))
    article.save()
    broken = connections[getattr(postgres_pair, side)]
    with broken.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    other = broken.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()

    assert run("shop.Article", str(article.pk)).state == "RETRY"
    assert run("shop.Article", str(article.pk), retries=1).state == "SUCCESS"

    assert_same_on_remote(article)


def test_a_mistake_in_the_code_is_logged_with_its_place_and_told_without_values(
    sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    value = "the secret value"

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError(value)

    monkeypatch.setattr("synchro.engine.sync_object", broken)

    with caplog.at_level(logging.ERROR):
        ended = run("shop.Article", "1")

    assert (ended.state, str(ended.error)) == ("FAILURE", "ValueError was raised.")
    assert re.search(r"unexpected error=ValueError\n.*in broken", caplog.text, re.DOTALL)
    assert value not in caplog.text


def test_it_can_be_called_like_a_function(pair: Pair) -> None:
    article = factories.article()

    assert replicate("shop.Article", str(article.pk)) == "1 synced, 0 skipped, 0 failed"


@pytest.mark.parametrize("name", ["replicate", "checkpoint", "synchronize"])
def test_every_task_is_run_at_least_once(name: str) -> None:
    task = app.tasks[f"synchro_tasks.{name}"]

    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.ignore_result
    assert task.serializer == "json"
