"""Newest wins: what REMOTE changed after LOCAL is not overwritten, and two sites that sync to each other end equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import JSONField, Model, Value

from synchro import engine, touch
from synchro.models import ChangeLog, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart, logged
from tests.databases import Pair
from tests.integration.test_values_refused import time_zone
from tests.roads import ROADS, Road, sync
from tests.shop.models import Article, Employee, Person, Playlist, Product, Tag
from tests.values.models import Filled


def change_on_remote(pair: Pair, copy: Model, **values: Any) -> None:
    """Change a row on REMOTE as REMOTE's own project does it."""
    with pair.reversed.active():
        for name, value in values.items():
            setattr(copy, name, value)
        copy.save(using=pair.remote)


def assert_skipped(number: int) -> None:
    """So many objects lost, and everything else has arrived."""
    assert ChangeLog.objects.skipped().values("content_type", "object_id").distinct().count() == number
    assert_nothing_pending()


def newest_entry(using: str) -> ChangeLog:
    return ChangeLog.objects.using(using).latest("pk")


def test_a_value_that_looks_different_is_not_lost(pair: Pair) -> None:
    """Both sides have the JSON value null, which an instance that was read does not tell from NULL."""
    ours = factories.make(Filled, json=Value(None, JSONField()))
    sync()
    Filled.objects.filter(pk=ours.pk).update(text="ours")
    touch(Filled.objects.all())
    change_on_remote(pair, counterpart(ours), text="theirs", json=Value(None, JSONField()))

    sync()

    assert newest_entry(pair.local).reason.endswith("Lost here: text.")


@pytest.mark.parametrize("bring", ROADS)
def test_a_change_that_is_older_is_skipped(each_vendor: Pair, bring: Road) -> None:
    article = factories.article(title="first")
    sync()
    article.title = "ours"
    article.save()
    change_on_remote(each_vendor, counterpart(article), title="theirs")

    bring()

    assert Article.objects.using(each_vendor.remote).get().title == "theirs"
    entry = newest_entry(each_vendor.local)
    moment = newest_entry(each_vendor.remote).date
    assert entry.state == ChangeLog.State.SKIPPED
    assert entry.reason == f"REMOTE changed the object later, at {moment.isoformat()}. Lost here: title."
    assert entry.synced_at is not None
    assert_nothing_pending()


def test_the_later_of_two_changes_in_a_repeated_hour_wins(postgres_pair: Pair) -> None:
    """Ten to three in Berlin was before ten past two: the clocks were set back in between."""
    with time_zone(postgres_pair.local, "Europe/Berlin"), time_zone(postgres_pair.remote, "Europe/Berlin"):
        article = factories.article(title="first")
        sync()
        article.title = "ours"
        article.save()
        change_on_remote(postgres_pair, counterpart(article), title="theirs")
        ChangeLog.objects.update(date=datetime(2024, 10, 27, 0, 50, tzinfo=UTC))
        ChangeLog.objects.using(postgres_pair.remote).update(date=datetime(2024, 10, 27, 1, 10, tzinfo=UTC))

        sync()

        assert counterpart(article).title == "theirs"


@pytest.mark.parametrize("bring", ROADS)
def test_a_change_that_is_newer_is_applied(each_vendor: Pair, bring: Road) -> None:
    article = factories.article(title="first")
    sync()
    change_on_remote(each_vendor, counterpart(article), title="theirs")
    article.title = "ours"
    article.save()

    bring()

    assert_same_on_remote(article)
    assert_in_step(Article)


def test_a_newer_change_decides_for_all_entries(pair: Pair) -> None:
    """Ours, theirs, ours: the newest is ours."""
    article = factories.article(title="first")
    sync()
    for _ in range(2):
        article.save()
    change_on_remote(pair, counterpart(article), title="theirs")
    article.save()

    assert sync().skipped == 0
    assert_same_on_remote(article)


def test_the_report_counts_what_was_skipped(pair: Pair) -> None:
    articles = [factories.article() for _ in range(4)]
    sync()
    for each in articles:
        each.save()
    for each in articles[:3]:
        change_on_remote(pair, counterpart(each), title="theirs")

    report = sync()

    assert (report.synced, report.skipped, report.settled) == (1, 3, 4)
    assert report.by_model == {"shop.Article": 1}
    assert engine.sync_pending().is_empty


@pytest.mark.parametrize(
    ("model", "values", "changed"),
    [(Product, {"sku": "chair"}, "name"), (Tag, {"slug": "a"}, "title")],
    ids=["natural key", "explicit key"],
)
@pytest.mark.parametrize("theirs_is_newer", [True, False], ids=["theirs", "ours"])
def test_an_addition(pair: Pair, model: Any, values: dict[str, Any], changed: str, theirs_is_newer: bool) -> None:
    """Both sides add the same object before the first sync."""
    with pair.reversed.active():
        theirs = factories.make(model, **values, **{changed: "theirs"})
    ours = factories.make(model, **values, **{changed: "ours"})
    if theirs_is_newer:
        change_on_remote(pair, theirs)

    report = sync()

    assert report.skipped == (1 if theirs_is_newer else 0)
    assert getattr(model.objects.using(pair.remote).get(), changed) == ("theirs" if theirs_is_newer else "ours")
    assert Reference.objects.get().local_object_id == str(ours.pk), "recognized for the next time in either case"
    assert_nothing_pending()


def test_a_later_change_of_an_object_that_lost(pair: Pair) -> None:
    article = factories.article()
    sync()
    article.save()
    change_on_remote(pair, counterpart(article), title="theirs")
    sync()
    article.title = "ours after all"
    article.save()

    sync()

    assert_same_on_remote(article)
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
def test_a_delete_that_is_older(pair: Pair, bring: Road) -> None:
    """REMOTE's users worked on the object after it was deleted here: it stays there."""
    article = factories.article()
    sync()
    copy = counterpart(article)
    article.delete()
    change_on_remote(pair, copy, title="theirs")

    bring()

    assert_skipped(1)
    assert Article.objects.using(pair.remote).get().title == "theirs"
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
def test_a_delete_that_is_newer(pair: Pair, bring: Road) -> None:
    article = factories.article()
    sync()
    change_on_remote(pair, counterpart(article), title="theirs")
    article.delete()

    bring()

    assert_skipped(0)
    assert_in_step(Article)


@pytest.mark.parametrize("bring", ROADS)
def test_a_change_after_a_delete_on_remote(pair: Pair, bring: Road) -> None:
    article = factories.article()
    sync()
    copy = counterpart(article)
    with pair.reversed.active():
        copy.delete()
    article.title = "ours"
    article.save()

    bring()

    assert_skipped(0)
    assert_same_on_remote(article)


@pytest.mark.parametrize("bring", ROADS)
def test_a_change_before_a_delete_on_remote(pair: Pair, bring: Road) -> None:
    """The newest is the delete: the object does not come back."""
    article = factories.article()
    sync()
    article.title = "ours"
    article.save()
    copy = counterpart(article)
    with pair.reversed.active():
        copy.delete()

    bring()

    assert_skipped(1)
    assert Article.objects.using(pair.remote).count() == 0
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize("theirs_is_newer", [True, False], ids=["theirs", "ours"])
def test_members_of_relations(pair: Pair, bring: Road, theirs_is_newer: bool) -> None:
    song, other = factories.song(title="a"), factories.song(title="b")
    playlist = factories.playlist()
    sync()
    copy, other_copy = counterpart(playlist), counterpart(other)

    def ours() -> None:
        playlist.songs.set([song])

    def theirs() -> None:
        with pair.reversed.active():
            copy.songs.set([other_copy])

    for change in (ours, theirs) if theirs_is_newer else (theirs, ours):
        change()
    bring()

    members = Playlist.objects.using(pair.remote).get().songs.using(pair.remote)
    assert [each.title for each in members.all()] == (["b"] if theirs_is_newer else ["a"])
    assert_skipped(1 if theirs_is_newer else 0)


def test_a_loser_does_not_keep_others_from_what_they_need(pair: Pair) -> None:
    """A child is copied although its parent lost: it points to REMOTE's own version."""
    boss = factories.employee(name="boss")
    sync()
    boss.save()
    change_on_remote(pair, counterpart(boss), name="theirs")
    employee = factories.employee(manager=boss)

    report = sync()

    assert (report.synced, report.skipped) == (1, 1)
    copy = counterpart(employee)
    assert Employee.objects.using(pair.remote).get(pk=copy.manager_id).name == "theirs"


def test_without_tables_on_remote_local_wins(bare_pair: Pair) -> None:
    article = factories.article()
    sync()
    Article.objects.using(bare_pair.remote).update(title="theirs")
    article.save()

    assert sync().skipped == 0
    assert_same_on_remote(article)


# Two sites


def test_what_the_engine_writes_is_not_logged(each_vendor: Pair) -> None:
    """Also not as seen by REMOTE's own project: nothing is sent back."""
    playlist = factories.playlist(factories.song())
    pizzeria = factories.pizzeria()
    ann = factories.person()
    ann.friends.add(factories.person())
    sync()
    pizzeria.delete()
    playlist.songs.clear()
    sync()

    assert logged(using=each_vendor.remote) == []
    with each_vendor.reversed.active():
        assert engine.sync_pending().is_empty


def test_two_sites_without_an_echo(every_pair: Pair) -> None:
    """Objects made on either side appear once on both; when all is quiet, nothing happens and no table grows."""
    there = every_pair.reversed
    ours = factories.article(title="ours")
    with there.active():
        theirs = factories.article(title="theirs")
        factories.playlist(factories.song())
    for _ in range(2):
        sync()
        with there.active():
            sync()
    for pair in (every_pair, there):
        with pair.active():
            assert_in_step(Article, Playlist)
            assert Article.objects.count() == 2

    sizes = [_sizes(alias) for alias in (every_pair.local, every_pair.remote)]
    assert engine.sync_pending().is_empty
    with there.active():
        assert engine.sync_pending().is_empty
        assert_same_on_remote(theirs)
    assert_same_on_remote(ours)
    assert [_sizes(alias) for alias in (every_pair.local, every_pair.remote)] == sizes


def _sizes(using: str) -> list[int]:
    return [model.objects.using(using).count() for model in (ChangeLog, Reference, Article)]


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("newest", ["ours", "theirs"])
def test_both_sites_change_one_object(every_pair: Pair, first: str, newest: str) -> None:
    """The newest wins on both sides, whichever synchronizes first, and the loser is recorded where it was made."""
    article = factories.article(title="old")
    sync()
    copy = counterpart(article)

    def ours() -> None:
        article.title = "ours"
        article.save()

    def theirs() -> None:
        change_on_remote(every_pair, copy, title="theirs")

    for change in (theirs, ours) if newest == "ours" else (ours, theirs):
        change()
    for site in (every_pair, every_pair.reversed) if first == "ours" else (every_pair.reversed, every_pair):
        with site.active():
            sync()

    titles = [Article.objects.using(alias).get().title for alias in (every_pair.local, every_pair.remote)]
    assert titles == [newest, newest]
    loser = every_pair.remote if newest == "ours" else every_pair.local
    assert newest_entry(loser).state == ChangeLog.State.SKIPPED
    for site in (every_pair, every_pair.reversed):
        with site.active():
            assert engine.sync_pending().is_empty


def test_an_object_that_both_sites_add(pair: Pair) -> None:
    """Recognized by its natural key; the newest values win on both sides."""
    ours = factories.person(name="Ann")
    with pair.reversed.active():
        theirs = factories.person(name="Ann")
        sync()
        assert_same_on_remote(theirs)
    sync()

    assert_same_on_remote(ours)
    assert Person.objects.count() == Person.objects.using(pair.remote).count() == 1
    assert_references_are_one()


def assert_references_are_one() -> None:
    assert Reference.objects.count() == 1


def test_an_object_that_moves_back_and_forth(pair: Pair) -> None:
    """Made here, changed there, changed here, deleted there."""
    article = factories.article(title="0")
    sync()
    with pair.reversed.active():
        copy = Article.objects.get()
        copy.title = "1"
        copy.save()
        sync()
    article.refresh_from_db()
    assert article.title == "1"
    article.title = "2"
    article.save()
    sync()
    assert_same_on_remote(article)
    with pair.reversed.active():
        Article.objects.get().delete()
        sync()

    assert Article.objects.count() == Article.objects.using(pair.remote).count() == 0
    assert engine.sync_pending().is_empty
    assert Reference.objects.count() == Reference.objects.using(pair.remote).count() == 0


def test_deleted_here_and_changed_there_later(pair: Pair) -> None:
    """The change is newer: the object comes back here."""
    article = factories.article(title="0")
    sync()
    copy = counterpart(article)
    article.delete()
    change_on_remote(pair, copy, title="theirs")
    for site in (pair, pair.reversed):
        with site.active():
            sync()

    assert Article.objects.get().title == "theirs"
    with pair.reversed.active():
        assert_in_step(Article)
    assert_references_are_one()


def test_changed_here_and_deleted_there_later(pair: Pair) -> None:
    """The delete is newer: the object goes here, too."""
    article = factories.article(title="0")
    sync()
    copy = counterpart(article)
    article.save()
    with pair.reversed.active():
        copy.delete()
    for site in (pair, pair.reversed):
        with site.active():
            sync()

    assert Article.objects.count() == Article.objects.using(pair.remote).count() == 0
    assert Reference.objects.count() == Reference.objects.using(pair.remote).count() == 0


def test_the_same_microsecond(pair: Pair) -> None:
    """A draw: both end equal, whoever wins."""
    article = factories.article(title="0")
    sync()
    copy = counterpart(article)
    article.title = "ours"
    article.save()
    change_on_remote(pair, copy, title="theirs")
    moment = newest_entry(pair.local).date + timedelta(seconds=1)
    for alias in (pair.local, pair.remote):
        ChangeLog.objects.using(alias).pending().update(date=moment)
    for site in (pair, pair.reversed):
        with site.active():
            sync()

    assert Article.objects.get().title == Article.objects.using(pair.remote).get().title
