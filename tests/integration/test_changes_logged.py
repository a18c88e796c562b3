"""The signal changes_logged: on commit, on the right alias, each object once, and never at the caller's expense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from synchro import DisableSynchroLog
from synchro.models import ChangeLog
from synchro.signals import changes_logged
from tests import factories
from tests.databases import Pair
from tests.integration.test_capture import rolled_back
from tests.shop.models import Article
from tests.threads import PATIENCE, in_thread

Sent = list[list[tuple[str, str]]]


@pytest.fixture
def sent(pair: Pair) -> Iterator[Sent]:
    """What the signal named, each time it was sent."""
    messages: Sent = []

    def receive(sender: Any, using: str, objects: list[tuple[str, str]], **kwargs: Any) -> None:
        assert sender is ChangeLog
        assert using == pair.local
        messages.append(objects)

    changes_logged.connect(receive)
    yield messages
    changes_logged.disconnect(receive)


def name(article: Article) -> tuple[str, str]:
    return "shop.Article", str(article.pk)


def test_without_a_transaction_it_is_sent_at_once(sent: Sent) -> None:
    first, second = factories.article(), factories.article()

    assert sent == [[name(first)], [name(second)]]


def test_in_a_transaction_it_is_sent_once_after_the_commit(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        first, second = factories.article(), factories.article()
        first.save()
        with transaction.atomic(using=pair.local):
            second.save()
        assert sent == []

    assert sent == [[name(first), name(second)]]


def test_each_transaction_has_its_own(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        first = factories.article()
    with transaction.atomic(using=pair.local):
        first.save()

    assert sent == [[name(first)], [name(first)]]


def test_entries_are_committed_when_it_is_sent(pair: Pair) -> None:
    seen: list[int] = []

    def receive(**kwargs: Any) -> None:
        seen.append(in_thread(ChangeLog.objects.count).result(PATIENCE))

    changes_logged.connect(receive)
    try:
        with transaction.atomic(using=pair.local):
            factories.article()
        factories.article()
    finally:
        changes_logged.disconnect(receive)

    assert seen == [1, 2]


def test_a_rollback_sends_nothing(sent: Sent, pair: Pair) -> None:
    with rolled_back(pair.local):
        factories.article()
    assert sent == []

    article = factories.article()
    assert sent == [[name(article)]]


def test_after_a_rollback_the_next_transaction_names_its_own_objects(sent: Sent, pair: Pair) -> None:
    article = factories.article()
    sent.clear()
    with rolled_back(pair.local):
        factories.article()
    with transaction.atomic(using=pair.local):
        article.save()

    assert sent == [[name(article)]]


def test_an_object_saved_again_after_its_savepoint_was_rolled_back(sent: Sent, pair: Pair) -> None:
    article = factories.article()
    sent.clear()
    with transaction.atomic(using=pair.local):
        with rolled_back(pair.local):
            article.save()
        article.save()

    assert sent == [[name(article)]]


def test_a_savepoint_rolled_back_last(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        article = factories.article()
        with rolled_back(pair.local):
            article.save()

    assert sent == [[name(article)]]


def test_only_a_savepoint_that_is_rolled_back(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.local), rolled_back(pair.local):
        factories.article()

    assert sent == []


def test_a_transaction_on_another_alias_neither_delays_nor_hurries_it(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.remote):
        first = factories.article()
        assert sent == [[name(first)]]
    sent.clear()
    with transaction.atomic(using=pair.local):
        with transaction.atomic(using=pair.remote):
            first.save()
        assert sent == []

    assert sent == [[name(first)]]


def test_what_is_not_logged_is_not_announced(sent: Sent, pair: Pair) -> None:
    with DisableSynchroLog():
        factories.article()
    factories.article(using=pair.remote)
    factories.user()

    assert sent == []


def test_receivers_cannot_disturb_the_caller(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    later: list[str] = []

    def broken(**kwargs: Any) -> None:
        raise RuntimeError("The broker is on fire.")

    def receive(**kwargs: Any) -> None:
        later.append("received")

    changes_logged.connect(broken)
    changes_logged.connect(receive)
    try:
        with transaction.atomic(using=pair.local):
            factories.article()
            transaction.on_commit(lambda: later.append("hook"), using=pair.local)
        factories.article()
    finally:
        changes_logged.disconnect(broken)
        changes_logged.disconnect(receive)

    assert sorted(later) == ["hook", "received", "received"]
    assert "The broker is on fire." in caplog.text


def test_a_receiver_may_change_something_itself(pair: Pair) -> None:
    messages: Sent = []
    other = factories.article()

    def receive(objects: list[tuple[str, str]], **kwargs: Any) -> None:
        messages.append(objects)
        if len(messages) == 1:
            other.save()

    changes_logged.connect(receive)
    try:
        with transaction.atomic(using=pair.local):
            article = factories.article()
    finally:
        changes_logged.disconnect(receive)

    assert messages == [[name(article)], [name(other)]]


def test_a_large_transaction_is_one_message(sent: Sent, pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        articles = [factories.article() for _ in range(200)]

    assert sent == [[name(article) for article in articles]]


def test_threads_do_not_mix_their_transactions(sent: Sent, pair: Pair) -> None:
    def change() -> Article:
        with transaction.atomic(using=pair.local):
            return factories.article()

    articles = [in_thread(change).result(PATIENCE) for _ in range(3)]

    assert sorted(sent) == sorted([name(article)] for article in articles)
