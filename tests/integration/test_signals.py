"""The signals that projects can listen to about delivery; that of alarms is tested with holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal
from django.test import override_settings

from synchro import engine
from synchro.models import ChangeLog
from synchro.signals import object_failed, object_synced, synchro_alarm
from tests import factories
from tests.assertions import assert_same_on_remote
from tests.databases import Pair
from tests.faults import ambiguous_twin, without_column
from tests.queries import queries
from tests.roads import sync
from tests.running import run


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Collect what a signal says."""
    found: list[dict[str, Any]] = []

    def note(**said: Any) -> None:
        found.append({name: value for name, value in said.items() if name != "signal"})

    signal.connect(note)
    yield found
    signal.disconnect(note)


def test_what_has_arrived_is_told_in_batches(each_vendor: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    product = factories.product()

    with heard(object_synced) as said:
        sync()

    about = {"sender": ChangeLog, "using": each_vendor.local}
    assert said == [
        {**about, "objects": [("shop.Article", str(each.pk)) for each in articles]},
        {**about, "objects": [("shop.Product", str(product.pk))]},
    ]


def test_what_is_told_is_so(pair: Pair) -> None:
    """LOCAL knows that the object has arrived, and so does REMOTE."""
    article = factories.article()
    seen: list[int] = []

    def look(**kwargs: Any) -> None:
        assert_same_on_remote(article)
        seen.append(ChangeLog.objects.pending().count())

    object_synced.connect(look)
    run("shop.Article", str(article.pk))
    object_synced.disconnect(look)

    assert seen == [0]


def test_nothing_is_told_when_nothing_was_done(pair: Pair) -> None:
    article = factories.article()
    sync()

    with heard(object_synced) as said:
        run("shop.Article", str(article.pk))

    assert said == []


@override_settings(SYNCHRO_MAX_ATTEMPTS=2)
def test_failures_are_told_with_their_reason_and_whether_they_are_the_last(pair: Pair) -> None:
    twin = ambiguous_twin(pair)

    with heard(object_failed) as said:
        for _ in range(2):
            engine.sync_pending()

    assert [(each["sender"], each["using"], each["objects"]) for each in said] == [
        (ChangeLog, pair.local, [("shop.Twin", str(twin.pk))])
    ] * 2
    assert all("natural key" in each["reason"] for each in said)
    assert [each["given_up"] for each in said] == [False, True]


@pytest.mark.parametrize("signal", [object_synced, object_failed, synchro_alarm])
def test_a_receiver_that_raises_disturbs_nobody(
    signal: Signal, sqlite_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**kwargs: Any) -> None:
        raise ValueError

    ambiguous_twin(sqlite_pair)
    factories.product()
    article = factories.article()
    signal.connect(broken)
    try:
        with without_column(sqlite_pair.remote, "shop_product", "stock"):
            report = engine.sync_pending()
    finally:
        signal.disconnect(broken)

    assert (report.synced, len(report.failures), list(report.held)) == (1, 1, ["shop.Product"])
    assert_same_on_remote(article)
    assert "ValueError" in caplog.text


def test_listening_costs_no_statement(pair: Pair) -> None:
    article = factories.article()
    run("shop.Article", str(article.pk))
    counts = []
    for listens in (False, True):
        article.save()
        with queries(pair.local) as local:
            if listens:
                with heard(object_synced):
                    run("shop.Article", str(article.pk))
            else:
                run("shop.Article", str(article.pk))
        counts.append(len(local))

    assert counts[0] == counts[1]
