"""What a worker does with work that may have killed another one. Real killed workers are in the acceptance tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.signals import worker_init
from django.db import connections
from django.db.models.signals import pre_save
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.engine import record
from synchro.models import Attempt, ChangeLog, Option
from synchro_tasks import lost
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.faults import ambiguous_twin
from tests.running import Queued, run, run_task
from tests.shop.models import Article

PAST = timedelta(hours=-1)


def suspect(article: Article, *, times: int = 1) -> None:
    """Leave what a worker leaves that is killed by an object."""
    for _ in range(times):
        record.begin_attempt((Article, str(article.pk)), task_id="killed")


def let_all_be_due() -> None:
    ChangeLog.objects.pending().update(next_attempt_at=timezone.now() + PAST)


def test_what_is_delivered_again_is_brought_one_by_one_and_leaves_no_trace(each_vendor: Pair) -> None:
    seen: list[tuple[int, int, int]] = []
    articles = [factories.article() for _ in range(3)]

    def look(using: str, **kwargs: Any) -> None:
        if using == each_vendor.remote:
            marked = ChangeLog.objects.filter(reason=ChangeLog.WORKER_LOST)
            seen.append((ChangeLog.objects.pending().count(), marked.count(), Attempt.objects.count()))

    pre_save.connect(look, sender=Article)
    ended = run("shop.Article", str(articles[0].pk), redelivered=True)
    pre_save.disconnect(look, sender=Article)

    assert ended.result == "3 synced, 0 skipped, 0 failed"
    assert seen == [(3, 1, 1), (2, 1, 1), (1, 1, 1)], "each attempt is counted before it is made"
    assert Attempt.objects.count() == 0
    assert set(ChangeLog.objects.values_list("attempts", "next_attempt_at", "reason")) == {(0, None, "")}
    assert_in_step(Article)


def test_an_attempt_that_an_operator_has_forgiven_meanwhile_is_not_taken_back_twice(pair: Pair) -> None:
    article = factories.article()

    def forgive(using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            ChangeLog.objects.all().retry()

    pre_save.connect(forgive, sender=Article)
    ended = run("shop.Article", str(article.pk), redelivered=True)
    pre_save.disconnect(forgive, sender=Article)

    assert ended.result == "1 synced, 0 skipped, 0 failed"
    assert Attempt.objects.count() == 0
    assert ChangeLog.objects.get().attempts == 0


def test_a_failure_counts_once(pair: Pair) -> None:
    twin = ambiguous_twin(pair)

    assert run("shop.Twin", str(twin.pk), redelivered=True).state == "FAILURE"

    entry = ChangeLog.objects.get(object_id=str(twin.pk))
    assert (entry.attempts, entry.next_attempt_at is None) == (1, False)
    assert "natural key" in entry.reason
    assert [each.error for each in Attempt.objects.all()] == ["AmbiguousNaturalKey"]


def test_a_suspect_is_left_to_the_checkpoint_and_rests_until_its_time(pair: Pair) -> None:
    own, bad, other = (factories.article() for _ in range(3))
    suspect(bad)

    assert run("shop.Article", str(own.pk)).result == "2 synced, 0 skipped, 0 failed"
    assert run("shop.Article", str(bad.pk)).result == "0 synced, 0 skipped, 0 failed"
    assert run("shop.Article", str(bad.pk), redelivered=True).result == "0 synced, 0 skipped, 0 failed"
    assert run_task("checkpoint").result.startswith("0 synced")
    let_all_be_due()
    assert run_task("checkpoint").result.startswith("1 synced")

    assert_same_on_remote(bad)
    assert_nothing_pending()


@override_settings(SYNCHRO_MAX_ATTEMPTS=3)
def test_a_suspect_is_given_up_after_its_last_attempt_without_another_one(pair: Pair) -> None:
    bad = factories.article()
    suspect(bad, times=3)
    assert ChangeLog.objects.get().attempts == 3
    let_all_be_due()

    assert run_task("checkpoint").result.startswith("0 synced, 0 skipped, 0 failed")

    entry = ChangeLog.objects.get()
    assert (entry.state, entry.attempts, entry.reason) == (ChangeLog.State.FAILED, 3, ChangeLog.WORKER_LOST)
    assert Attempt.objects.count() == 3
    assert not Article.objects.using(pair.remote).exists()


def test_a_new_change_of_a_suspect_starts_afresh(pair: Pair) -> None:
    bad = factories.article()
    suspect(bad)
    bad.save()

    assert run("shop.Article", str(bad.pk)).result == "1 synced, 0 skipped, 0 failed"

    assert_nothing_pending()


def test_it_stops_after_some_seconds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    articles = [factories.article() for _ in range(3)]
    monkeypatch.setattr("synchro.engine.run._SECONDS_ALONE", 0.0)
    moments = iter(range(100))
    monkeypatch.setattr("synchro.engine.run.monotonic", lambda: next(moments) // 2)

    assert engine.sync_object("shop.Article", str(articles[0].pk), alone=True).synced == 1


def test_what_there_was_no_time_for_is_queued(pair: Pair, queued: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message may stand for a large transaction, and no checkpoint may ever come."""
    articles = [factories.article() for _ in range(3)]
    queued.clear()
    monkeypatch.setattr("synchro.engine.run._SECONDS_ALONE", 0.0)
    moments = iter(range(100))
    monkeypatch.setattr("synchro.engine.run.monotonic", lambda: next(moments) // 2)

    run("shop.Article", str(articles[0].pk), redelivered=True)

    assert queued == [("synchro_tasks.replicate", [("shop.Article", str(articles[1].pk))])]
    run("shop.Article", str(articles[1].pk))
    assert_in_step(Article)
    assert len(queued) == 1, "nothing is left"


def test_a_local_that_goes_away_after_careful_work_is_told_without_its_address(
    postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    article = factories.article()
    next_due = engine.next_due

    def away(label: str) -> str | None:
        connections[postgres_pair.local].close()
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(connections[postgres_pair.local].settings_dict, "PORT", "1")
            return next_due(label)

    monkeypatch.setattr(engine, "next_due", away)

    ended = run("shop.Article", str(article.pk), redelivered=True)

    assert ended.result == "1 synced, 0 skipped, 0 failed"
    assert "backlog left to other tasks model=shop.Article" in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert_same_on_remote(article)


def test_the_first_work_of_a_new_process_is_done_with_care(pair: Pair) -> None:
    class AnyTask:
        class request:  # noqa: N801
            delivery_info: dict[str, Any] = {}

    task: Any = AnyTask()
    assert not lost.is_suspected(task), "this is no worker"
    try:
        worker_init.send(sender=None)
        assert lost.is_suspected(task)
        assert run("shop.Article", "1").result == "0 synced, 0 skipped, 0 failed"
        run_task("checkpoint")
        assert lost.is_suspected(task), "there was nothing to do"
        run("shop.Article", str(factories.article().pk))
        assert not lost.is_suspected(task)
    finally:
        lost.survived()


def test_a_checkpoint_after_one_that_was_killed_is_done_with_care(pair: Pair, queued: Queued) -> None:
    seen: list[int] = []
    factories.article()
    Option.objects.create(key="checkpoint", value=f"{timezone.now() + PAST:%Y-%m-%dT%H:%M:%S.%f}+00:00 somebody")

    def look(using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            seen.append(ChangeLog.objects.filter(reason=ChangeLog.WORKER_LOST).count())

    queued.clear()
    pre_save.connect(look, sender=Article)
    try:
        run_task("checkpoint")
        factories.article()
        run_task("checkpoint")
    finally:
        pre_save.disconnect(look, sender=Article)

    assert seen == [1, 0], "the second one follows one that has ended"
    assert_nothing_pending()
