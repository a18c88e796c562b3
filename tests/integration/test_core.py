"""The public functions of 0.x."""

from __future__ import annotations

import importlib
from datetime import timedelta

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

import synchro
from synchro import call_synchronize, core, engine, renew_identity, reset_synchro
from synchro.exceptions import NoRemote, ObjectsFailed, SettingError, SynchroError, TransientError
from synchro.models import Attempt, ChangeLog, Reference, options
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair, prepare
from tests.faults import ambiguous_twin, unreachable
from tests.shop.models import Article


def test_names_of_0x() -> None:
    assert set(core.__all__) >= {
        "DisableSynchroLog",
        "NaturalKeyModel",
        "NaturalManager",
        "call_synchronize",
        "disable_synchro_log",
        "natural_manager",
        "reset_synchro",
    }
    for name in synchro.__all__:
        assert getattr(synchro, name) is not None
    for name in set(synchro.__all__) & set(core.__all__):
        assert getattr(synchro, name) is getattr(core, name)
    assert importlib.import_module("synchro.models").options is options


# call_synchronize


def test_call_synchronize_returns_the_message(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    article = factories.article()

    assert call_synchronize() == "Synchronization performed successfully."
    assert_same_on_remote(article)
    assert call_synchronize() == "No changes since last synchronization."
    assert capsys.readouterr() == ("", "")


def test_call_synchronize_names_what_failed(sqlite_pair: Pair) -> None:
    article, twin = factories.article(), ambiguous_twin(sqlite_pair)

    with pytest.raises(ObjectsFailed) as caught:
        call_synchronize()

    error = caught.value
    assert error.summary == "1 object could not be synchronized (everything else was):"
    assert len(error.failures) == 1
    assert error.failures[0].startswith(f"shop.Twin {twin.pk}: ")
    assert str(error) == f"{error.summary}\n  {error.failures[0]}"
    assert_same_on_remote(article)


@override_settings(SYNCHRO_REMOTE=None)
def test_call_synchronize_without_remote(sqlite_pair: Pair) -> None:
    with pytest.raises(NoRemote):
        call_synchronize()


@override_settings(SYNCHRO_REMOTE="nowhere")
def test_call_synchronize_with_a_wrong_alias(sqlite_pair: Pair) -> None:
    with pytest.raises(SettingError, match="SYNCHRO_REMOTE is 'nowhere'"):
        call_synchronize()


def test_call_synchronize_while_remote_is_down(sqlite_pair: Pair) -> None:
    article = factories.article()

    with unreachable(sqlite_pair.remote), pytest.raises(TransientError, match="stays pending") as caught:
        call_synchronize()

    assert "secret" not in str(caught.value)
    assert Attempt.objects.count() == 0
    call_synchronize()
    assert_same_on_remote(article)


def test_call_synchronize_where_local_was_never_migrated(unblocked: None) -> None:
    prepare("sqlite_bare")
    prepare("sqlite_b")

    with Pair("sqlite_bare", "sqlite_b").active(), pytest.raises(SynchroError, match="no such table: synchro_"):
        call_synchronize()


def test_the_last_check_is_remembered(sqlite_pair: Pair) -> None:
    assert options.last_check is None
    before = timezone.now()

    call_synchronize()

    assert options.last_check is not None
    assert before <= options.last_check <= timezone.now()


# reset_synchro


def test_reset_forgets_the_log_and_the_references(pair: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    call_synchronize()
    articles[0].save()
    before = timezone.now()

    reset_synchro()

    assert ChangeLog.objects.count() == 0
    assert Reference.objects.count() == 0
    assert options.last_check is not None
    assert options.last_check >= before
    assert call_synchronize() == "No changes since last synchronization."


def test_after_a_reset_nothing_is_doubled(pair: Pair) -> None:
    """The mirrors on REMOTE know what LOCAL has forgotten."""
    article = factories.article()
    call_synchronize()
    reset_synchro()

    article.title = "Changed after the reset"
    article.save()
    call_synchronize()

    assert Article.objects.using(pair.remote).count() == 1
    assert_in_step(Article)


def test_reset_leaves_remote_alone(sqlite_pair: Pair) -> None:
    factories.article()
    call_synchronize()
    with sqlite_pair.reversed.active():
        factories.article(using=sqlite_pair.remote)

    reset_synchro()

    assert Reference.objects.using(sqlite_pair.remote).count() == 1
    assert ChangeLog.objects.using(sqlite_pair.remote).count() == 1


def test_reset_twice(sqlite_pair: Pair) -> None:
    factories.article()
    reset_synchro()
    reset_synchro()

    assert_nothing_pending()


def test_reset_needs_no_remote(sqlite_pair: Pair) -> None:
    factories.article()

    with override_settings(SYNCHRO_REMOTE=None):
        reset_synchro()

    assert ChangeLog.objects.count() == 0


# options.last_check


def test_setting_the_last_check(sqlite_pair: Pair) -> None:
    old, new = factories.article(), factories.article()
    moment = timezone.now() - timedelta(hours=1)
    ChangeLog.objects.filter(object_id=str(old.pk)).update(date=moment - timedelta(microseconds=1))

    options.last_check = moment

    assert options.last_check == moment
    assert [entry.object_id for entry in ChangeLog.objects.pending()] == [str(new.pk)]

    options.last_check = moment - timedelta(hours=1)

    assert {entry.object_id for entry in ChangeLog.objects.pending()} == {str(old.pk), str(new.pk)}


# renew_identity


def test_a_copy_of_a_database_gets_an_identity_of_its_own(sqlite_pair: Pair) -> None:
    article = factories.article()
    with connections[sqlite_pair.remote].cursor() as cursor:
        cursor.execute("INSERT INTO synchro_option VALUES ('identity', %s)", [str(engine.identity(sqlite_pair.local))])
    with pytest.raises(SynchroError, match="same identity"):
        call_synchronize()

    fresh = renew_identity(using=sqlite_pair.remote)

    assert engine.identity(sqlite_pair.remote) == fresh
    call_synchronize()
    assert_same_on_remote(article)


def test_local_gets_a_new_identity_where_none_is_named(sqlite_pair: Pair) -> None:
    before = engine.identity(sqlite_pair.local)

    assert renew_identity() == engine.identity(sqlite_pair.local) != before
