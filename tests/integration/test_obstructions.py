"""Rows and tables of REMOTE that somebody else has locked: what they hold up, and what goes on without them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from synchro import engine
from synchro.engine.link import open_link, remote_transaction
from synchro.models import Attempt, ChangeLog, Hold
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart
from tests.databases import Pair
from tests.faults import locked, row_locked
from tests.roads import sync
from tests.running import run, run_task
from tests.shop.models import Article, Product


@pytest.fixture
def articles(server_pair: Pair) -> list[Article]:
    """Articles that REMOTE has, and that have changed since."""
    found = [factories.article() for _ in range(7)]
    sync()
    for article in found:
        article.title += ", changed"
        article.save()
    return found


def pauses() -> list[tuple[str, int, bool]]:
    pending = ChangeLog.objects.pending().values_list("object_id", "attempts", "next_attempt_at")
    return [(object_id, attempts, moment is not None) for object_id, attempts, moment in pending]


def let_all_be_due() -> None:
    ChangeLog.objects.pending().update(next_attempt_at=timezone.now() - timedelta(hours=1))


def test_a_locked_row_holds_up_nothing_else(server_pair: Pair, articles: list[Article]) -> None:
    """Neither the other objects of its batch nor another model; it goes through when it is free again."""
    held_up = articles[2]
    product = factories.product()

    with row_locked(server_pair, counterpart(held_up)):
        ended = run_task("checkpoint")

    assert ended.result == "7 synced, 0 skipped, 0 failed, 1 waiting, 0 old rows deleted"
    assert_same_on_remote(product)
    assert pauses() == [(str(held_up.pk), 0, True)], "it waits for a while, and no attempt is counted"
    assert [each.object_id for each in Attempt.objects.all()] == [str(held_up.pk)]
    assert not Hold.objects.exists()
    let_all_be_due()
    assert run_task("checkpoint").result.startswith("1 synced")
    assert_in_step(Article)


def test_the_task_of_a_locked_object_tries_again_and_takes_the_others_along(
    server_pair: Pair, articles: list[Article], retried: list[dict[str, Any]]
) -> None:
    held_up, *others = articles

    with row_locked(server_pair, counterpart(held_up)):
        ended = run("shop.Article", str(held_up.pk))

    assert ended.state == "RETRY"
    assert len(retried) == 1
    assert pauses() == [(str(held_up.pk), 0, False)]
    for each in others:
        assert_same_on_remote(each)
    assert Attempt.objects.get().object_id == str(held_up.pk)


def test_the_task_of_another_object_is_not_held_up(server_pair: Pair, articles: list[Article]) -> None:
    own, held_up = articles[:2]

    with row_locked(server_pair, counterpart(held_up)):
        ended = run("shop.Article", str(own.pk))

    assert ended.result == "6 synced, 0 skipped, 0 failed, 1 waiting"
    assert pauses() == [(str(held_up.pk), 0, True)]


def test_of_a_locked_table_only_some_objects_are_tried(postgres_pair: Pair) -> None:
    """Nothing of the model arrives, everything else does; the next run tries others first."""
    for _ in range(20):
        factories.article()
    product = factories.product()

    with locked(postgres_pair, "shop_article"):
        report = engine.sync_due()

    assert_same_on_remote(product)
    assert list(report.held) == ["shop.Article"]
    assert Attempt.objects.count() == 3
    assert not Hold.objects.exists(), "nobody else has to know"
    assert engine.sync_due().synced == 17
    let_all_be_due()
    engine.sync_due()
    assert_nothing_pending()
    assert_in_step(Article, Product)


def test_only_who_has_met_a_lock_is_impatient(server_pair: Pair) -> None:
    """A second is enough to see that somebody still holds it; what nobody holds waits as long as the project says."""
    connection = connections[server_pair.remote]

    def patience() -> str:
        with connection.cursor() as cursor:
            name = "lock_timeout" if connection.vendor == "postgresql" else "innodb_lock_wait_timeout"
            cursor.execute(
                f"SELECT current_setting('{name}')" if connection.vendor == "postgresql" else f"SELECT @@{name}"
            )
            return str(cursor.fetchone()[0])

    link = open_link()
    before = patience()
    with remote_transaction(link, Article):
        assert patience() == before
    with remote_transaction(link.impatient, Article):
        assert patience() in ("1s", "1")
    assert patience() == before
