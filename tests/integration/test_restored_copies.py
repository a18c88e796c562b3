"""Example 1 of the README of 0.x: the office's database is a copy of the server's, is worked on, and synchronized."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from django.db import connections
from django.test import override_settings

from synchro import DisableSynchroLog, engine, renew_identity
from synchro.exceptions import SameIdentity, SynchroError
from synchro.models import Attempt, ChangeLog, Option, Reference
from tests import factories
from tests.assertions import assert_nothing_pending
from tests.databases import Pair, discard
from tests.faults import unreachable
from tests.roads import sync
from tests.shop.models import Article, City, Country, Delivery, Playlist, Product, Song
from tests.unwatched.models import Supplier

Restore = Callable[[str, str], None]


@pytest.fixture
def restore(sqlite_pair: Pair) -> Iterator[Restore]:
    """Makes one SQLite database (the second alias) a copy of the other one."""
    copies = []

    def copy(source: str, target: str) -> None:
        names = [str(connections[alias].settings_dict["NAME"]) for alias in (source, target)]
        for alias in (source, target):
            connections[alias].close()
        copies.append(target)
        with closing(sqlite3.connect(names[0])) as read, closing(sqlite3.connect(names[1])) as write:
            read.backup(write)

    yield copy
    for alias in copies:
        discard(alias)


@pytest.fixture
def office(sqlite_pair: Pair, restore: Restore) -> Pair:
    """LOCAL is the office's database, restored from a copy of REMOTE's, which is the server's and has been used."""
    with sqlite_pair.reversed.active():
        for number in range(5):
            factories.article(title=f"{number}")
        factories.product(sku="chair")
        factories.city(name="Kehl", country=factories.country(code="DE"))
        factories.playlist(factories.song(title="a"), name="mix")
        factories.delivery(supplier=factories.make(Supplier, name="ACME"))
        engine.identity(sqlite_pair.remote)
    restore(sqlite_pair.remote, sqlite_pair.local)
    return sqlite_pair


def titles(using: str) -> list[str]:
    return sorted(Article.objects.using(using).values_list("title", flat=True))


@pytest.mark.parametrize("renewed", ["at once", "after the work"])
def test_the_office_works_on_a_copy(office: Pair, renewed: str) -> None:
    """With and without natural keys: each change reaches its object, nothing is doubled, the server's work stays."""
    if renewed == "at once":
        renew_identity()
        assert ChangeLog.objects.count() == 0, "what the server did is not the office's to tell"
    Article.objects.get(title="1").delete()
    changed = Article.objects.get(title="0")
    changed.title = "0 by the office"
    changed.save()
    factories.article(title="new at the office")
    product = Product.objects.get()
    product.sku = "armchair"
    product.save()
    Playlist.objects.get().songs.add(factories.song(title="b"))
    factories.city(name="Bonn", country=Country.objects.get())
    factories.delivery(supplier=Supplier.objects.get())
    with office.reversed.active():
        factories.article(title="new at the server")
        theirs = Article.objects.get(title="2")
        theirs.title = "2 by the server"
        theirs.save()
    if renewed == "after the work":
        with pytest.raises(SameIdentity):
            engine.sync_pending()
        renew_identity()

    assert sync().skipped == 0

    assert titles(office.remote) == [
        "0 by the office",
        "2 by the server",
        "3",
        "4",
        "new at the office",
        "new at the server",
    ]
    assert Product.objects.using(office.remote).get().sku == "armchair"
    assert Playlist.objects.using(office.remote).get().songs.using(office.remote).count() == 2
    for model, count in ((Song, 2), (City, 2), (Country, 1), (Supplier, 1), (Delivery, 2)):
        assert model.objects.using(office.remote).count() == count, model
    assert_nothing_pending()
    assert engine.sync_pending().is_empty


@pytest.mark.parametrize("newest", ["office", "server"])
def test_both_have_changed_an_object_since(office: Pair, newest: str) -> None:
    renew_identity()

    def change(site: Pair, title: str) -> None:
        with site.active():
            article = Article.objects.get(pk=Article.objects.order_by("pk")[0].pk)
            article.title = title
            article.save()

    order = [(office, "office"), (office.reversed, "server")]
    for site, title in order if newest == "server" else order[::-1]:
        change(site, title)

    sync()

    assert newest in titles(office.remote)
    assert len(titles(office.remote)) == 5


def test_afterwards_both_synchronize_to_each_other(office: Pair) -> None:
    renew_identity()
    with office.reversed.active():
        theirs = Article.objects.get(title="0")
        theirs.title = "0 by the server"
        theirs.save()
        Article.objects.get(title="1").delete()
        factories.article(title="new at the server")
    ours = Article.objects.get(title="2")
    ours.title = "2 by the office"
    ours.save()
    for site in (office, office.reversed) * 2:
        with site.active():
            sync()

    assert titles(office.local) == titles(office.remote)
    assert titles(office.local) == ["0 by the server", "2 by the office", "3", "4", "new at the server"]
    assert_nothing_pending()
    assert_nothing_pending(using=office.remote)


def test_the_server_restored_from_the_office_s_copy(sqlite_pair: Pair, restore: Restore) -> None:
    """The other way round: REMOTE is lost, and comes back as a copy of LOCAL."""
    articles = [factories.article(title=f"{number}") for number in range(3)]
    sync()
    restore(sqlite_pair.local, sqlite_pair.remote)
    articles[0].title = "changed"
    articles[0].save()
    articles[1].delete()
    with pytest.raises(SameIdentity):
        engine.sync_pending()

    renew_identity(using=sqlite_pair.remote)
    sync()

    assert titles(sqlite_pair.remote) == ["2", "changed"]
    assert_nothing_pending()


def test_what_the_copy_did_unseen_is_not_taken_for_the_original_s(office: Pair) -> None:
    """An object added without an entry on the copy has the number of one that was added on the original since."""
    with DisableSynchroLog():
        unseen = factories.article(title="unseen")
    with office.reversed.active():
        theirs = factories.article(title="theirs")
    assert theirs.pk == unseen.pk
    renew_identity()
    unseen.title = "unseen, and changed"
    unseen.save()

    sync()

    assert titles(office.remote)[-2:] == ["theirs", "unseen, and changed"]


def test_a_copy_keeps_nothing_of_the_original_s_own_affairs(office: Pair) -> None:
    Attempt.objects.create(content_type_id=1, object_id="1", error="E", message="M")
    Option.objects.create(key=Option.PEER, value="x")

    renew_identity()

    assert Attempt.objects.count() == 0
    assert not Option.objects.filter(key=Option.PEER).exists()
    assert set(Reference.objects.values_list("peer", flat=True)) == {engine.identity(office.remote)}


def test_the_other_side_has_to_answer(office: Pair) -> None:
    """Without it nobody knows what the copy was made with."""
    before = ChangeLog.objects.count()
    with unreachable(office.remote), pytest.raises(SynchroError, match="A database could not be used"):
        renew_identity()

    assert ChangeLog.objects.count() == before


def test_a_copy_that_only_logs(office: Pair) -> None:
    """Without REMOTE there is nobody to compare with: only the identity is new."""
    before = ChangeLog.objects.count()
    with override_settings(SYNCHRO_REMOTE=None):
        renew_identity()

    assert engine.identity(office.local) != engine.identity(office.remote)
    assert ChangeLog.objects.count() == before
