"""Example 1 of the README of 0.x: the office's database is a copy of the server's, is worked on, and synchronized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from synchro import DisableSynchroLog, engine, renew_identity
from synchro.exceptions import SameIdentity, SynchroError
from synchro.models import Attempt, ChangeLog, Option, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending
from tests.backups import Backup, replace
from tests.comparing import full
from tests.databases import Pair
from tests.faults import unreachable
from tests.queries import queries
from tests.roads import sync
from tests.shop.models import Article, City, Country, Delivery, Locker, Playlist, Product, Song
from tests.unwatched.models import Supplier


@pytest.fixture
def restored(each_vendor: Pair) -> Iterator[Pair]:
    """Databases that are put back as they were: a copy has the other one's content types and counters, too."""
    pristine = [Backup(alias) for alias in (each_vendor.local, each_vendor.remote)]
    for backup in pristine:
        backup.make()
    yield each_vendor
    for backup in pristine:
        backup.restore()


@pytest.fixture
def office(restored: Pair) -> Pair:
    """LOCAL is the office's database, restored from a copy of REMOTE's, which is the server's and has been used."""
    with restored.reversed.active():
        for number in range(5):
            factories.article(title=f"{number}")
        factories.product(sku="chair")
        factories.city(name="Kehl", country=factories.country(code="DE"))
        factories.playlist(factories.song(title="a"), name="mix")
        factories.delivery(supplier=factories.make(Supplier, name="ACME"))
        engine.identity(restored.remote)
    replace(restored.local, by=restored.remote)
    return restored


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


def test_the_server_restored_from_the_office_s_copy(restored: Pair) -> None:
    """The other way round: REMOTE is lost, and comes back as a copy of LOCAL."""
    articles = [factories.article(title=f"{number}") for number in range(3)]
    sync()
    replace(restored.remote, by=restored.local)
    articles[0].title = "changed"
    articles[0].save()
    articles[1].delete()
    with pytest.raises(SameIdentity):
        engine.sync_pending()

    renew_identity(using=restored.remote)
    sync()

    assert titles(restored.remote) == ["2", "changed"]
    assert_nothing_pending()


COMPARED = (Article, Product, Country, City, Song, Playlist, Locker)


@pytest.fixture
def copied(restored: Pair) -> Pair:
    """LOCAL has objects that were never logged, and REMOTE begins as a copy of it."""
    with DisableSynchroLog():
        for number in range(30):
            factories.article(title=f"{number}")
        factories.product(sku="chair")
        factories.city(name="Kehl", country=factories.country(code="DE"))
        factories.playlist(factories.song(title="a"), name="mix")
        factories.make(Locker, number=7)
    return restored


def compared(**options: Any) -> list[tuple[str, str, str]]:
    _, notes = full(models=tuple(model._meta.label for model in COMPARED), **options)
    return notes.kinds


def test_a_comparison_with_a_copy_that_has_local_s_identity(copied: Pair) -> None:
    """The new identity says whose copy REMOTE is: all rows are known, and none is copied."""
    engine.identity(copied.local)
    replace(copied.remote, by=copied.local)
    Article.objects.filter(title="3").update(title="changed since")
    with pytest.raises(SameIdentity):
        compared()
    renew_identity(using=copied.remote)

    assert [each[:2] for each in compared()] == [("Article", "different")]

    assert_in_step(*COMPARED)
    assert compared() == []


def test_a_comparison_with_a_copy_from_before_synchro(copied: Pair) -> None:
    """Natural and chosen keys tell whose copies the rows are; automatic ones do when asked, many in one statement."""
    Option.objects.filter(key=Option.IDENTITY).delete()
    replace(copied.remote, by=copied.local)
    Article.objects.filter(title="3").update(title="changed since")
    unknown = [(model, kind) for model, kind, _ in compared(dry_run=True)]
    assert {model for model, _ in unknown} == {"Article", "City", "Playlist", "Song"}
    assert unknown.count(("Article", "extra")) == unknown.count(("Article", "missing")) == 30

    with queries(copied.local) as here, queries(copied.remote) as there:
        found = compared(adopt_pks=True)

    assert [each[:2] for each in found] == [("Article", "different")]
    assert_in_step(*COMPARED)
    assert compared() == []
    assert Reference.objects.count() == Reference.objects.using(copied.remote).count() == 36
    for asked in (here, there):
        # Of each model: once to lock what is adopted, once to remember it.
        written = [each for each in asked if each.startswith("INSERT") and "synchro_reference" in each]
        assert len(written) <= 2 * len(COMPARED)


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
