"""References, their mirrors on REMOTE, and identities of databases: one copy of each object, and no rows mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections

from synchro import DisableSynchroLog, engine, reset_synchro
from synchro.core import renew_identity
from synchro.exceptions import SameIdentity
from synchro.models import Attempt, ChangeLog, Option, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart
from tests.backups import Backup
from tests.databases import Pair, prepare
from tests.roads import sync
from tests.shop.models import Article, City, Country, Employee, Playlist, Product, Song, Tag

# References


def test_the_mirror_says_what_the_reference_says(each_vendor: Pair) -> None:
    article = factories.article()

    sync()

    reference = Reference.objects.get()
    mirror = Reference.objects.using(each_vendor.remote).get()
    assert reference.peer == engine.identity(each_vendor.remote)
    assert mirror.peer == engine.identity(each_vendor.local)
    assert (reference.local_object_id, reference.remote_object_id) == (str(article.pk), str(counterpart(article).pk))
    assert (mirror.local_object_id, mirror.remote_object_id) == (reference.remote_object_id, reference.local_object_id)
    assert reference.content_type.model == mirror.content_type.model == "article"
    assert reference.content_type_id != mirror.content_type_id


def test_equal_automatic_keys_of_different_objects(each_vendor: Pair) -> None:
    """LOCAL hands out the number that an unrelated row has on REMOTE."""
    theirs = factories.article(title="theirs", using=each_vendor.remote)
    ours = factories.article(pk=theirs.pk, title="ours")
    sync()
    assert counterpart(ours).pk != theirs.pk
    ours.title = "changed"
    ours.save()
    sync()
    theirs.refresh_from_db(using=each_vendor.remote)
    assert theirs.title == "theirs"
    ours.delete()

    sync()

    assert Article.objects.using(each_vendor.remote).get() == theirs


def test_after_explicit_keys_remote_can_still_add_rows(each_vendor: Pair) -> None:
    factories.tag()
    factories.article(pk=1001)
    sync()

    factories.article(using=each_vendor.remote)

    assert Article.objects.using(each_vendor.remote).count() == 2


# Resetting


def test_after_a_reset_nothing_is_doubled(pair: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    city = factories.city()
    sync()
    mirrors = Reference.objects.using(pair.remote).count()
    reset_synchro()
    assert ChangeLog.objects.count() == Reference.objects.count() == 0
    assert Reference.objects.using(pair.remote).count() == mirrors == 5
    for each in (*articles[:2], city):
        each.save()
    second = factories.city(country=city.country)

    sync()

    assert Article.objects.using(pair.remote).count() == 3
    assert Country.objects.using(pair.remote).count() == 1
    for each in (*articles[:2], city, second):
        assert_same_on_remote(each)
    assert_nothing_pending()


def test_after_a_reset_a_delete_still_finds_its_row(pair: Pair) -> None:
    article, other = factories.article(), factories.article()
    sync()
    reset_synchro()
    article.delete()
    other.save()

    sync()

    assert_in_step(Article)
    assert Reference.objects.using(pair.remote).count() == 1


def test_after_a_reset_pending_changes_are_forgotten(pair: Pair) -> None:
    article = factories.article(title="0")
    sync()
    article.title = "1"
    article.save()
    reset_synchro()

    assert engine.sync_pending().is_empty
    assert Article.objects.using(pair.remote).get().title == "0"


# Identities


def test_a_database_keeps_its_identity(each_vendor: Pair) -> None:
    local, remote = (engine.identity(alias) for alias in (each_vendor.local, each_vendor.remote))
    factories.article()
    sync()

    assert local != remote
    assert [engine.identity(alias) for alias in (each_vendor.local, each_vendor.remote)] == [local, remote]
    assert Option.objects.using(each_vendor.remote).filter(key=Option.IDENTITY).count() == 1


def test_equal_identities_are_refused(pair: Pair) -> None:
    """One database was restored from a copy of the other one."""
    article = factories.article()
    engine.identity(pair.local)
    Option.objects.using(pair.remote).create(key=Option.IDENTITY, value=str(engine.identity(pair.local)))

    with pytest.raises(SameIdentity, match=r"synchro\.core\.renew_identity\(\)"):
        engine.sync_pending()
    with pytest.raises(SameIdentity):
        engine.sync_object("shop.Article", str(article.pk))

    assert Article.objects.using(pair.remote).count() == 0
    assert Attempt.objects.count() == 0
    assert ChangeLog.objects.pending().get().attempts == 0
    before = engine.identity(pair.local)
    fresh = renew_identity(using=pair.remote)
    assert engine.identity(pair.remote) == fresh != before == engine.identity(pair.local)
    sync()
    assert_in_step(Article)


def test_without_an_alias_local_gets_the_new_identity(sqlite_pair: Pair) -> None:
    before = engine.identity(sqlite_pair.local)

    assert renew_identity() == engine.identity(sqlite_pair.local) != before


def test_a_new_identity_of_local_doubles_nothing(pair: Pair) -> None:
    """REMOTE knows its rows by the old identity; LOCAL still has its references, and mirrors them anew."""
    article, gone = factories.article(), factories.article()
    city = factories.city()
    sync()
    renew_identity()
    article.title = "changed"
    article.save()
    gone.delete()
    factories.city(country=city.country)

    sync()

    assert Article.objects.using(pair.remote).get().title == "changed"
    assert Country.objects.using(pair.remote).count() == 1
    assert_nothing_pending()


# Several sites


@pytest.fixture
def hub(unblocked: None) -> tuple[Pair, Pair]:
    """Two offices that synchronize to one hub."""
    offices = Pair("sqlite_a", "postgres_b"), Pair("postgres_a", "postgres_b")
    for alias in ("sqlite_a", "postgres_a", "postgres_b"):
        prepare(alias)
    return offices


@pytest.mark.postgres
def test_two_offices_with_equal_automatic_keys(hub: tuple[Pair, Pair]) -> None:
    articles = {}
    for office in hub:
        with office.active():
            articles[office] = factories.article(pk=1, title=office.local)
            sync()
    assert Article.objects.using("postgres_b").count() == 2
    for office in reversed(hub):
        with office.active():
            articles[office].title += " changed"
            articles[office].save()
            sync()
    assert set(Article.objects.using("postgres_b").values_list("title", flat=True)) == {
        "sqlite_a changed",
        "postgres_a changed",
    }
    first, second = hub
    with first.active():
        articles[first].delete()
        sync()
        assert Reference.objects.count() == 0
    with second.active():
        assert_same_on_remote(articles[second])
        assert_in_step(Article)


@pytest.mark.postgres
def test_two_offices_with_the_same_objects(hub: tuple[Pair, Pair]) -> None:
    """A natural or an explicit key is the same object everywhere; foreign keys of both lead to it."""
    for office in hub:
        with office.active():
            factories.city(name=office.local, country=factories.country(code="DE"))
            factories.tag(slug="a", title=office.local)
            sync()

    hub_country = Country.objects.using("postgres_b").get()
    cities = City.objects.using("postgres_b").filter(country=hub_country)
    assert set(cities.values_list("name", flat=True)) == {"sqlite_a", "postgres_a"}
    assert Tag.objects.using("postgres_b").get().title == "postgres_a", "the newest"


@pytest.mark.postgres
def test_what_one_office_deletes_another_may_still_need(hub: tuple[Pair, Pair]) -> None:
    first, second = hub
    for office in hub:
        with office.active():
            factories.city(country=factories.country(code="DE"))
            sync()
    with first.active():
        Country.objects.get().delete()
        (failure,) = engine.sync_pending().failures

    assert "(1 shop.City)" in failure.error
    assert City.objects.using("postgres_b").count() == 1
    with second.active():
        assert_in_step(City, Country)


@pytest.mark.postgres
def test_a_chain_of_three_sites(unblocked: None) -> None:
    """A to B to C: B's references to A and to C stay apart, and what A sends ends at B."""
    first, second = Pair("sqlite_a", "postgres_b"), Pair("postgres_b", "sqlite_b")
    for alias in ("sqlite_a", "postgres_b", "sqlite_b"):
        prepare(alias)
    with first.active():
        ours = factories.article(title="A")
        sync()
    with second.active():
        assert engine.sync_pending().is_empty
        factories.article(title="B")
        Article.objects.get(title="A").save()
        sync()
        assert_same_on_remote(Article.objects.get(title="A"))
        assert Reference.objects.filter(peer=engine.identity("sqlite_b")).count() == 2
        assert Reference.objects.filter(peer=engine.identity("sqlite_a")).count() == 1
    with first.active():
        ours.title = "A again"
        ours.save()
        sync()
        assert Article.objects.using("postgres_b").count() == 2
    with second.active():
        Article.objects.get(title="A again").save()
        sync()
        assert set(Article.objects.using("sqlite_b").values_list("title", flat=True)) == {"A again", "B"}


# REMOTE changes behind our back


@pytest.fixture
def backup(sqlite_pair: Pair) -> Backup:
    """REMOTE's backups."""
    return Backup(sqlite_pair.remote)


def test_remote_restored_from_an_older_backup(sqlite_pair: Pair, backup: Backup) -> None:
    """What it has forgotten comes again when it is saved; what it knows is updated in place."""
    old = factories.article(title="old")
    sync()
    backup.make()
    new = factories.article(title="new")
    old.title = "changed"
    old.save()
    sync()
    backup.restore()
    assert [each.title for each in Article.objects.using(sqlite_pair.remote).all()] == ["old"]
    for each in (new, old):
        each.save()

    sync()

    assert_in_step(Article)
    assert Article.objects.using(sqlite_pair.remote).count() == 2


def test_remote_restored_that_hands_out_keys_again_to_our_objects(sqlite_pair: Pair, backup: Backup) -> None:
    factories.article(title="old")
    sync()
    backup.make()
    lost = factories.article(title="lost")
    sync()
    backup.restore()
    newest = factories.article(title="newest")
    sync()
    assert counterpart(newest).title == "newest"
    lost.save()

    sync()

    assert_in_step(Article)
    assert Article.objects.using(sqlite_pair.remote).count() == 3


def test_remote_restored_that_hands_out_keys_again_to_its_own_rows(sqlite_pair: Pair, backup: Backup) -> None:
    """LOCAL's reference names a row that is not ours: the mirror, which went with the backup, tells."""
    factories.article(title="old")
    sync()
    backup.make()
    lost = factories.article(title="lost")
    deleted = factories.article(title="deleted")
    sync()
    backup.restore()
    theirs = {factories.article(title=f"theirs {number}", using=sqlite_pair.remote).pk for number in range(2)}
    assert theirs == set(map(int, Reference.objects.order_by("pk").values_list("remote_object_id", flat=True)[1:]))
    lost.save()
    deleted.delete()

    sync()

    titles = sorted(Article.objects.using(sqlite_pair.remote).values_list("title", flat=True))
    assert titles == ["lost", "old", "theirs 0", "theirs 1"]
    assert_same_on_remote(lost)
    assert_nothing_pending()


def test_remote_restored_and_what_points_to_the_lost_rows(sqlite_pair: Pair, backup: Backup) -> None:
    """A child is never attached to REMOTE's own row that has the key of its lost parent."""
    factories.article()
    sync()
    backup.make()
    boss = factories.employee(name="boss")
    sync()
    backup.restore()
    factories.employee(name="theirs", using=sqlite_pair.remote)
    employee = factories.employee(name="ours", manager=boss)

    sync()

    assert counterpart(employee).manager.name == "boss"
    assert_same_on_remote(employee)


def test_rows_that_remote_deleted_come_again(pair: Pair) -> None:
    """As REMOTE's project did not log that it deleted them, LOCAL's change is the newest."""
    article, city = factories.article(), factories.city()
    sync()
    for model in (Article, City, Country):
        model.objects.using(pair.remote).all().delete()
    article.save()
    city.save()

    sync()

    assert_same_on_remote(article)
    assert_same_on_remote(city)
    assert_same_on_remote(city.country)
    assert_in_step(Article, City, Country)


def test_local_has_lost_its_references(pair: Pair) -> None:
    """The mirrors know, also of what is only pointed to, and what only is a member."""
    boss, song, article = factories.employee(), factories.song(), factories.article()
    sync()
    Reference.objects.all().delete()
    employee = factories.employee(manager=boss)
    playlist = factories.playlist(song)
    article.save()

    sync()

    assert_in_step(Article)
    assert Employee.objects.using(pair.remote).count() == 2
    assert Employee.objects.using(pair.remote).get(manager__name=boss.name).name == employee.name
    assert (
        Playlist.objects.using(pair.remote).get(name=playlist.name).songs.using(pair.remote).get().title == song.title
    )
    assert Song.objects.using(pair.remote).count() == 1


# REMOTE gets synchro's tables later


@contextmanager
def migrated(alias: str) -> Iterator[None]:
    """Give a database synchro's tables for the time of the block."""
    models = (Option, Reference, ChangeLog, Attempt)
    with connections[alias].schema_editor() as editor:
        for model in models:
            editor.create_model(model)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            for model in models:
                editor.delete_model(model)


def test_references_from_before_remote_had_tables(bare_pair: Pair) -> None:
    """They are taken over: nothing is doubled, changes and deletes find their rows."""
    article, gone, untouched = (factories.article() for _ in range(3))
    product = factories.product()
    sync()
    assert set(Reference.objects.values_list("peer", flat=True)) == {Reference.ANONYMOUS}
    with migrated(bare_pair.remote):
        article.title = "changed"
        article.save()
        product.save()
        gone.delete()
        factories.article()

        sync()

        assert Article.objects.using(bare_pair.remote).count() == 3
        assert Product.objects.using(bare_pair.remote).count() == 1
        assert_in_step(Article, Product)
        assert set(Reference.objects.values_list("peer", flat=True)) == {engine.identity(bare_pair.remote)}
        mirrored = Reference.objects.using(bare_pair.remote).values_list("remote_object_id", flat=True)
        assert str(untouched.pk) in mirrored
        reset_synchro()
        untouched.save()
        sync()
        assert Article.objects.using(bare_pair.remote).count() == 3


def test_a_bare_remote_remembers_by_references_alone(bare_pair: Pair) -> None:
    with DisableSynchroLog():
        country = factories.country()
    city = factories.city(country=country)
    sync()
    city.name = "changed"
    city.save()
    sync()
    assert_same_on_remote(city)
    city.delete()

    sync()

    assert City.objects.using(bare_pair.remote).count() == 0
    assert Country.objects.using(bare_pair.remote).count() == 1
    assert_nothing_pending()
