"""A database restored from an older backup of itself: it has forgotten what the other side still knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from django.core import serializers

from synchro import engine, renew_identity, reset_synchro
from synchro.engine import batch
from synchro.exceptions import KeyOfAnother
from synchro.models import ChangeLog, Reference, options
from tests import factories, rows
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart
from tests.backups import Backup
from tests.databases import Pair
from tests.faults import Crash
from tests.roads import ROADS, Road, run_task, sync
from tests.shop.models import (
    Article,
    Comment,
    Delivery,
    Employee,
    Membership,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Product,
    Restaurant,
    Song,
    Tag,
)
from tests.unwatched.models import Supplier

T = TypeVar("T")


class Lose:
    """Loses what happens on a database: it is restored from a backup of before."""

    def __init__(self, backup: Backup) -> None:
        self.backup = backup

    def __call__(self, happen: Callable[[], T]) -> T:
        self.backup.make()
        lost = happen()
        self.backup.restore()
        return lost


@pytest.fixture
def pair(each_vendor: Pair) -> Pair:
    """Backups are made and put back in another way on each vendor."""
    return each_vendor


@pytest.fixture
def lose(pair: Pair) -> Lose:
    """Loses what happens on LOCAL, which has been synchronized before."""
    factories.article(title="old")
    sync()
    return Lose(Backup(pair.local))


@pytest.fixture
def lose_on_remote(pair: Pair) -> Lose:
    """Loses what happens on REMOTE, to which has been synchronized before."""
    factories.article(title="old")
    sync()
    return Lose(Backup(pair.remote))


def synced(make: Callable[[], T]) -> Callable[[], T]:
    """Return what makes something and brings it to REMOTE."""

    def make_and_sync() -> T:
        made = make()
        sync()
        return made

    return make_and_sync


def titles(using: str) -> list[str]:
    return sorted(Article.objects.using(using).values_list("title", flat=True))


def failing() -> list[tuple[str, str]]:
    """Synchronize, and return what fails as the copy of another object."""
    failures = engine.sync_pending().failures
    return sorted((each.model, each.error) for each in failures if each.error == str(KeyOfAnother()))


def crash_before_acknowledging(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(batch, "acknowledge", crash)
        with pytest.raises(Crash):
            engine.sync_pending()


# LOCAL gives away primary keys again


@pytest.mark.parametrize("road", ROADS)
def test_a_new_object_is_never_written_over_a_lost_one(pair: Pair, lose: Lose, road: Road) -> None:
    lost = lose(synced(lambda: factories.article(title="lost")))
    new = factories.article(title="new")
    assert new.pk == lost.pk

    (failure,) = engine.sync_pending().failures

    assert failure.error == str(KeyOfAnother())
    assert titles(pair.remote) == ["lost", "old"]
    new.title = "new, and changed"
    new.save()
    assert len(run_task("shop.Article", str(new.pk)).failures) == 1
    assert titles(pair.remote) == ["lost", "old"]

    renew_identity()
    Article.objects.get(title="old").save()
    road()

    assert titles(pair.remote) == ["lost", "new, and changed", "old"]
    assert_same_on_remote(new)
    new.title = "new"
    new.save()
    road()
    assert titles(pair.remote) == ["lost", "new", "old"]
    new.delete()
    road()
    assert titles(pair.remote) == ["lost", "old"]
    assert_nothing_pending()


def test_a_new_object_that_is_gone_again_takes_no_lost_one_along(pair: Pair, lose: Lose) -> None:
    lose(synced(lambda: factories.article(title="lost")))
    factories.article(title="new").delete()

    sync()

    assert titles(pair.remote) == ["lost", "old"]
    assert_nothing_pending()


@pytest.mark.parametrize("road", ROADS)
def test_what_points_to_a_new_object_is_not_attached_to_a_lost_one(pair: Pair, lose: Lose, road: Road) -> None:
    def people() -> None:
        factories.song(title="lost")
        factories.employee(name="lost")

    lose(synced(people))
    boss, song = factories.employee(name="boss"), factories.song(title="new")
    employee = factories.employee(name="employee", manager=boss)
    playlist = factories.playlist(song, name="mix")
    comment = factories.make(Comment, text="c", target=song)
    for model, each in (("Employee", employee), ("Playlist", playlist), ("Comment", comment)):
        run_task(f"shop.{model}", str(each.pk))
    engine.sync_pending()

    assert not Employee.objects.using(pair.remote).filter(manager__name="lost").exists()
    assert not Song.objects.using(pair.remote).get(title="lost").playlists.using(pair.remote).exists()
    assert not Comment.objects.using(pair.remote).exists()

    renew_identity()
    road()

    for each in (boss, employee, playlist, comment):
        assert_same_on_remote(each)
    assert Employee.objects.using(pair.remote).count() == 3
    assert Song.objects.using(pair.remote).count() == 2
    assert_nothing_pending()


def test_a_lost_object_of_several_tables(pair: Pair, lose: Lose) -> None:
    """Parents and children have rows, references and entries of their own."""
    lose(synced(lambda: factories.pizzeria(name="lost", oven="coal")))
    new = factories.pizzeria(name="new", oven="gas")

    assert {model for model, _ in failing()} >= {"shop.Place"}

    assert Pizzeria.objects.using(pair.remote).get().oven == "coal"
    assert Place.objects.using(pair.remote).get().name == "lost"
    renew_identity()
    sync()
    assert_same_on_remote(new)
    for model in (Place, Restaurant, Pizzeria):
        assert model._base_manager.using(pair.remote).count() == 2


# What decides as before


def test_a_natural_key_decides(pair: Pair, lose: Lose) -> None:
    """A lost object that is entered again is the same one; one with another key is another one.

    As long as the number of one stands for the other one, nobody moves.
    """
    lose(synced(lambda: [factories.product(sku=sku, name="lost") for sku in ("chair", "desk")]))
    lamp, chair = (factories.product(sku=sku, name="new") for sku in ("lamp", "chair"))

    assert [model for model, _ in failing()] == ["shop.Product"]

    names = dict(Product.objects.using(pair.remote).values_list("sku", "name"))
    assert names == {"chair": "lost", "desk": "lost"}
    renew_identity()
    sync()
    names = dict(Product.objects.using(pair.remote).values_list("sku", "name"))
    assert names == {"chair": "new", "desk": "lost", "lamp": "new"}
    for each in (lamp, chair):
        assert_same_on_remote(each)


def test_a_natural_key_with_the_very_number_of_the_lost_object(pair: Pair, lose: Lose) -> None:
    lose(synced(lambda: factories.product(sku="chair", name="lost")))
    factories.product(sku="chair", name="new")

    sync()

    assert Product.objects.using(pair.remote).get().name == "new"
    assert_in_step(Product)


def test_a_key_of_the_project_s_own_is_the_same_object(pair: Pair, lose: Lose) -> None:
    lose(synced(lambda: factories.tag(slug="a", title="lost")))
    factories.tag(slug="a", title="new")

    sync()

    assert Tag.objects.using(pair.remote).get().title == "new"


def test_a_crash_between_the_two_commits(pair: Pair, lose: Lose, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror knows the very entry that comes again, also together with later ones."""
    article = factories.article(title="0")
    crash_before_acknowledging(monkeypatch)
    article.title = "1"
    article.save()

    sync()

    assert titles(pair.remote) == ["1", "old"]
    assert_in_step(Article)


def test_what_was_pending_in_the_backup_and_has_arrived_since(pair: Pair, lose: Lose) -> None:
    """It comes again by the same entry."""
    factories.article(title="pending")

    lose(sync)

    sync()
    assert titles(pair.remote) == ["old", "pending"]
    assert_in_step(Article)


def test_what_was_pending_in_the_backup_is_not_doubled_by_a_new_identity(pair: Pair, lose: Lose) -> None:
    def go_on() -> None:
        sync()
        factories.article(title="lost")
        sync()

    pending = factories.article(title="pending")
    lose(go_on)
    new = factories.article(title="new")

    renew_identity()
    sync()

    assert titles(pair.remote) == ["lost", "new", "old", "pending"]
    pending.title = "not pending"
    pending.save()
    sync()
    assert titles(pair.remote) == ["lost", "new", "not pending", "old"]
    assert_same_on_remote(new)


def test_a_reset_and_a_new_identity_double_nothing(pair: Pair, lose: Lose) -> None:
    """Only REMOTE remembers then."""
    lose(synced(lambda: factories.article(title="lost")))
    reset_synchro()
    new = factories.article(title="new")
    assert len(failing()) == 1

    renew_identity()
    Article.objects.get(title="old").save()
    sync()

    assert titles(pair.remote) == ["lost", "new", "old"]
    assert_same_on_remote(new)


def test_the_same_entries_again_without_references(pair: Pair) -> None:
    before = factories.article(title="0")
    moment = ChangeLog.objects.get().date
    factories.article(title="1")
    sync()
    before.title = "changed"
    before.save()
    Reference.objects.all().delete()
    options.last_check = moment.replace(year=2000)

    sync()

    assert_in_step(Article)
    assert titles(pair.remote) == ["1", "changed"]


def test_a_table_that_is_loaded_again(pair: Pair) -> None:
    """The references are there still: equal primary keys mean the same objects, although they were added just now."""
    articles = [factories.article(title=f"{number}") for number in range(3)]
    sync()
    saved = serializers.serialize("json", articles)
    Article.objects.all()._raw_delete(pair.local)
    for each in serializers.deserialize("json", saved, using=pair.local):
        article: Any = each.object
        article.title += " again"
        each.save()
    assert ChangeLog.objects.pending().filter(action=ChangeLog.Action.ADD).count() == 3

    sync()

    assert titles(pair.remote) == ["0 again", "1 again", "2 again"]
    assert_in_step(Article)
    renew_identity(using=pair.remote)  # so that the references are unknown
    for article in Article.objects.all():
        article.save()
    sync()
    assert_in_step(Article)


def test_a_row_that_remote_does_not_have_any_more_is_confused_with_nothing(pair: Pair) -> None:
    """After a reset, comparing logs objects as added that REMOTE lacks."""
    article = factories.article(title="0")
    sync()
    reset_synchro()
    Article.objects.using(pair.remote).all().delete()
    rows.entry(Article, str(article.pk))

    sync()

    assert_in_step(Article)


def test_a_deleted_object_whose_key_lives_again(pair: Pair) -> None:
    """As in a table of SQLite without AUTOINCREMENT, which Django's own tables have."""
    gone = factories.article(title="gone")
    sync()
    pk = gone.pk
    gone.delete()
    factories.article(pk=pk, title="new")

    sync()

    assert titles(pair.remote) == ["new"]
    assert_in_step(Article)


# Two sites


def test_a_new_object_is_not_written_over_one_that_the_other_site_made(pair: Pair, lose: Lose) -> None:
    """LOCAL loses an object that came from REMOTE: REMOTE's own reference tells of it, and it comes back."""

    def theirs_comes() -> None:
        with pair.reversed.active():
            factories.article(title="theirs")
            sync()

    lose(theirs_comes)
    new = factories.article(title="ours")

    assert len(failing()) == 1

    assert titles(pair.remote) == ["old", "theirs"]
    renew_identity()
    sync()
    with pair.reversed.active():
        Article.objects.get(title="theirs").save()
        sync()
    assert titles(pair.local) == titles(pair.remote) == ["old", "ours", "theirs"]
    assert_same_on_remote(new)


@pytest.mark.parametrize("renewed", [False, True])
def test_what_the_other_site_has_not_acknowledged_yet_is_its_object(
    pair: Pair, renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REMOTE's engine has brought it here and crashed: there is no mirror yet, and still it is no other object."""
    sync()
    with pair.reversed.active():
        factories.article(title="theirs")
        crash_before_acknowledging(monkeypatch)
    if renewed:
        renew_identity()
    article = Article.objects.get()
    article.title = "ours"
    article.save()

    sync()

    with pair.reversed.active():
        sync()
    assert titles(pair.local) == titles(pair.remote) == ["ours"]


@pytest.mark.parametrize("is_changed", [False, True])
def test_the_other_site_has_lost_an_object_of_its_own(pair: Pair, lose_on_remote: Lose, is_changed: bool) -> None:
    """LOCAL's change of it is not written over the one that has its key on REMOTE now, sent before or never."""

    def theirs_comes() -> None:
        with pair.reversed.active():
            factories.article(title="lost there")
            sync()
        if is_changed:
            Article.objects.get(title="lost there").save()
            sync()

    lose_on_remote(theirs_comes)
    new = factories.article(title="new there", using=pair.remote)
    article = Article.objects.get(title="lost there")
    assert Reference.objects.get(local_object_id=str(article.pk)).remote_object_id == str(new.pk)
    article.title = "changed here"
    article.save()

    sync()

    assert titles(pair.remote) == ["changed here", "new there", "old"]


def test_the_other_site_has_lost_only_what_it_remembered_of_its_object(pair: Pair, lose_on_remote: Lose) -> None:
    """The object itself is in the backup, and its entry: it is the same one."""
    with pair.reversed.active():
        factories.article(title="theirs")

    def come() -> None:
        with pair.reversed.active():
            sync()
        Article.objects.get(title="theirs").save()
        sync()

    lose_on_remote(come)
    article = Article.objects.get(title="theirs")
    article.title = "changed here"
    article.save()

    sync()
    with pair.reversed.active():
        sync()

    assert titles(pair.local) == titles(pair.remote) == ["changed here", "old"]


def test_the_other_site_was_reset(pair: Pair) -> None:
    """Its references, which it has forgotten, were the mirrors of LOCAL's."""
    article = factories.article(title="0")
    sync()
    with pair.reversed.active():
        Article.objects.get().save()
        sync()
        reset_synchro()
    article.title = "1"
    article.save()

    sync()

    assert titles(pair.remote) == ["1"]


# REMOTE restored: LOCAL's reference knows that there was a mirror, however short the log is


def test_remote_lost_an_object_whose_entries_are_pruned(pair: Pair, lose_on_remote: Lose) -> None:
    lost = lose_on_remote(synced(lambda: factories.article(title="lost")))
    ChangeLog.objects.all().delete()
    factories.article(title="theirs", using=pair.remote)
    lost.save()

    sync()

    assert titles(pair.remote) == ["lost", "old", "theirs"]
    assert_same_on_remote(lost)


def test_remote_lost_what_is_only_pointed_to(pair: Pair, lose_on_remote: Lose) -> None:
    """No entry ever told of it: its model is not watched."""

    def deliver() -> Supplier:
        supplier = factories.make(Supplier, name="ours")
        factories.delivery(supplier=supplier)
        sync()
        return supplier

    supplier = lose_on_remote(deliver)
    factories.make(Supplier, name="theirs", using=pair.remote)
    delivery = factories.delivery(supplier=supplier)

    sync()

    assert counterpart(delivery).supplier.name == "ours"
    assert Supplier.objects.using(pair.remote).count() == 2


def test_entries_that_count_as_done_prove_nothing(pair: Pair) -> None:
    """``options.last_check`` settles what never went to REMOTE; a parent that a key told of has no mirror."""
    factories.person(name="A", using=pair.remote)
    person = factories.person(name="A")
    team = factories.team(name="t")
    ChangeLog.objects.of(Person).mark_synced(list(ChangeLog.objects.of(Person).values_list("pk", flat=True)))
    factories.make(Membership, team=team, person=person)
    sync()
    assert not Reference.objects.using(pair.remote).filter(remote_object_id=str(person.pk), added_at=None).exists()
    person.name = "B"
    person.save()

    sync()

    assert Person.objects.using(pair.remote).get().name == "B"


def test_identities_of_both_sites_may_be_renewed(pair: Pair) -> None:
    """Whoever is known under another name is still the same."""
    article = factories.article(title="0")
    sync()
    with pair.reversed.active():
        factories.article(title="theirs")
        sync()
    renew_identity()
    renew_identity(using=pair.remote)
    article.title = "1"
    article.save()
    Article.objects.get(title="theirs").save()

    sync()
    with pair.reversed.active():
        Article.objects.get(title="1").save()
        sync()

    assert titles(pair.local) == titles(pair.remote) == ["1", "theirs"]


def test_deliveries_of_a_lost_supplier_are_the_supplier_s(pair: Pair, lose: Lose) -> None:
    """LOCAL lost an object of a model that is not watched: nothing tells it from the new one with its key."""
    lose(synced(lambda: factories.delivery(supplier=factories.make(Supplier, name="lost"))))
    renew_identity()
    delivery = factories.delivery(supplier=factories.make(Supplier, name="new"))

    sync()

    assert counterpart(delivery).supplier.name == "new"
    assert Delivery.objects.using(pair.remote).count() == 2


def test_a_list_of_songs_of_lost_ones(pair: Pair, lose: Lose) -> None:
    lose(synced(lambda: factories.playlist(factories.song(title="lost"), name="lost")))
    factories.playlist(factories.song(title="new"), name="new")
    assert {model for model, _ in failing()} == {"shop.Playlist", "shop.Song"}

    renew_identity()
    sync()

    songs = {each.name: [song.title for song in each.songs.all()] for each in Playlist.objects.using(pair.remote)}
    assert songs == {"lost": ["lost"], "new": ["new"]}
