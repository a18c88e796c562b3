"""A delete takes the object itself from REMOTE, never what is not ours, in an order that every vendor accepts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Model, ProtectedError
from django.db.models.signals import pre_delete
from django.test import override_settings

from synchro import DisableSynchroLog, engine
from synchro.models import Attempt, ChangeLog, Reference
from tests import factories
from tests.assertions import (
    assert_in_step,
    assert_not_on_remote,
    assert_nothing_pending,
    assert_same_on_remote,
    counterpart,
)
from tests.databases import Pair
from tests.roads import ROADS, TRIES, Road, Try, pending_objects, run_task, sync
from tests.shop.models import (
    Airport,
    Article,
    Author,
    Bin,
    Book,
    Box,
    Category,
    City,
    Country,
    Crate,
    Employee,
    Locker,
    Person,
    Pile,
    Playlist,
    Product,
    Rack,
    Safe,
    Shelf,
    Song,
    Tag,
    Team,
)
from tests.threads import PATIENCE, in_thread

# Before the first sync


@pytest.mark.parametrize("bring", ROADS)
def test_added_and_deleted_before_the_sync_does_nothing(pair: Pair, bring: Road) -> None:
    """Not even where REMOTE has a row with the same natural key or the same explicit primary key."""
    theirs: list[Product | Tag | Article] = [
        factories.product(sku="chair", using=pair.remote),
        factories.tag(slug="a", using=pair.remote),
        factories.article(using=pair.remote),
    ]
    for each in (factories.product(sku="chair"), factories.tag(slug="a"), factories.article()):
        each.delete()

    bring()

    for each in theirs:
        each.refresh_from_db(using=pair.remote)
    assert_nothing_pending()
    assert Reference.objects.count() == 0
    assert Reference.objects.using(pair.remote).count() == 0


def test_added_and_deleted_twice_before_the_sync(pair: Pair) -> None:
    for _ in range(2):
        factories.tag(slug="a").delete()

    sync()

    assert_in_step(Tag)


@pytest.mark.parametrize("bring", ROADS)
def test_without_reference_and_natural_key_nothing_is_touched(pair: Pair, bring: Road) -> None:
    """The same primary key alone does not tell that it is the same object."""
    with DisableSynchroLog():
        ours = [factories.tag(slug="a"), factories.make(Locker, number=1), factories.article(id=1001)]
    theirs = [
        factories.tag(slug="a", using=pair.remote),
        factories.make(Locker, number=1, using=pair.remote),
        factories.article(using=pair.remote),
    ]
    for each in ours:
        each.delete()

    bring()

    for each in theirs:
        each.refresh_from_db(using=pair.remote)
    assert_nothing_pending()


# The key lives again


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize(
    ("model", "values"),
    [(Article, {"id": 5, "title": "x"}), (Tag, {"slug": "a"}), (Product, {"id": 7, "sku": "chair"})],
    ids=["automatic", "explicit", "natural"],
)
def test_a_deleted_key_that_lives_again(
    each_vendor: Pair, bring: Road, model: type[Model], values: dict[str, Any]
) -> None:
    first = factories.make(model, **values)
    sync()
    before = counterpart(first).pk
    first.delete()
    second = factories.make(model, **values)

    bring()

    assert_same_on_remote(second)
    assert_in_step(model)
    copy = counterpart(second)
    assert (copy.pk == before) == (model is Tag), "an automatic key is not used again: it is another object"


def test_a_deleted_key_that_lives_again_without_what_hung_on_it(pair: Pair) -> None:
    """The members of the old object are not those of the new one."""
    song = factories.song()
    old = factories.playlist(song, id=5)
    sync()
    old.delete()
    factories.playlist(id=5)

    sync()

    assert_in_step(Playlist, Song)
    assert Playlist.objects.using(pair.remote).get().songs.using(pair.remote).count() == 0


def test_deleted_added_and_deleted_again(pair: Pair) -> None:
    factories.tag(slug="a")
    sync()
    Tag.objects.get().delete()
    factories.tag(slug="a").delete()

    sync()

    assert_in_step(Tag)
    assert_not_on_remote(Tag)


def test_a_row_that_is_gone_from_remote_already(pair: Pair) -> None:
    article = factories.article()
    sync()
    Article.objects.using(pair.remote).all().delete()
    article.delete()

    sync()

    assert_nothing_pending()
    assert Reference.objects.count() == 0
    assert Reference.objects.using(pair.remote).count() == 0


# Rows of REMOTE's own


@pytest.mark.parametrize("bring", TRIES)
def test_rows_that_exist_only_on_remote_hold_a_delete_back(each_vendor: Pair, bring: Try) -> None:
    assert_held_back(each_vendor, bring)


@pytest.mark.parametrize("bring", TRIES)
def test_a_remote_without_synchro_holds_a_delete_back(bare_pair: Pair, bring: Try) -> None:
    assert_held_back(bare_pair, bring)


def assert_held_back(pair: Pair, bring: Try) -> None:
    country = factories.country()
    other = factories.country()
    sync()
    theirs = [factories.city(country=counterpart(country), using=pair.remote) for _ in range(3)]
    country.delete()
    other.delete()

    (failure,) = bring()

    assert (failure.model, failure.object_id) == ("shop.Country", ChangeLog.objects.pending().get().object_id)
    assert failure.error == (
        "Rows that exist only on REMOTE point to the object (3 shop.City), so it is not deleted there. "
        "Move or delete those rows on REMOTE."
    )
    assert City.objects.using(pair.remote).count() == 3
    assert Country.objects.using(pair.remote).count() == 1
    for each in theirs:
        each.delete(using=pair.remote)

    assert bring() == []

    assert_in_step(Country, City)


def test_any_number_of_rows_of_remote_hold_deletes_back(each_vendor: Pair) -> None:
    """Each object of a batch by itself, and also where only Django knows of the foreign key."""
    countries = [factories.country() for _ in range(3)]
    shelves = [factories.make(Shelf) for _ in range(2)]
    bosses = [factories.employee() for _ in range(2)]
    airport = factories.make(Airport, code="MUC")
    sync()
    many: dict[Any, Any] = {model: model._base_manager.using(each_vendor.remote) for model in (City, Pile, Employee)}
    many[City].bulk_create(City(name="c", country=counterpart(countries[0])) for _ in range(1200))
    many[Pile].bulk_create(Pile(shelf_id=counterpart(shelves[0]).pk) for _ in range(1000))
    many[Employee].bulk_create(Employee(name="e", manager_id=counterpart(bosses[0]).pk) for _ in range(1001))
    factories.city(country=counterpart(countries[1]), using=each_vendor.remote)
    factories.make(Pile, shelf_id=counterpart(shelves[1]).pk, using=each_vendor.remote)
    factories.employee(manager_id=counterpart(bosses[1]).pk, using=each_vendor.remote)
    factories.flight(origin_id="MUC", using=each_vendor.remote)
    for each in (*countries, *shelves, *bosses, airport):
        each.delete()

    failures = engine.sync_pending().failures

    told = sorted(re.findall(r"\((\d+ shop\.\w+)\)", " ".join(each.error for each in failures)))
    assert told == [
        "1 shop.City",
        "1 shop.Employee",
        "1 shop.Flight",
        "1 shop.Pile",
        "1000 shop.Pile",
        "1001 shop.Employee",
        "1200 shop.City",
    ]
    left = {model: model._base_manager.using(each_vendor.remote).count() for model in (Country, Shelf, Employee)}
    assert left == {Country: 2, Shelf: 2, Employee: 1004}


@pytest.mark.parametrize("bring", TRIES)
@pytest.mark.parametrize("model", [Safe, Rack, Pile])
def test_rows_of_remote_that_protect_hold_a_delete_back(each_vendor: Pair, bring: Try, model: type[Model]) -> None:
    """And so do those for which neither Django nor the database cares."""
    shelf, other = factories.make(Shelf), factories.make(Shelf)
    sync()
    theirs = factories.make(model, shelf=counterpart(shelf), using=each_vendor.remote)
    held = str(shelf.pk)
    shelf.delete()
    other.delete()

    (failure,) = bring()

    assert (failure.object_id, failure.error) == (
        held,
        f"Rows that exist only on REMOTE point to the object (1 {model._meta.label}), so it is not deleted there. "
        "Move or delete those rows on REMOTE.",
    )
    assert Shelf.objects.using(each_vendor.remote).count() == 1
    theirs.refresh_from_db(using=each_vendor.remote)
    theirs.delete(using=each_vendor.remote)

    assert bring() == []

    assert_in_step(Shelf, model)
    assert not Shelf.objects.using(each_vendor.remote).exists()


@override_settings(SYNCHRO_REMOTE_CASCADE=True)
@pytest.mark.parametrize("bring", ROADS)
def test_remote_cascades_to_rows_of_its_own(each_vendor: Pair, bring: Road) -> None:
    """What Django's delete does there: some go, with what hangs on them, some lose the key; nobody else is touched."""
    shelf, other = factories.make(Shelf), factories.make(Shelf)
    bin_of_other = factories.make(Bin, shelf=other)
    sync()
    for model in (Bin, Box, Crate):
        for target in (shelf, other):
            factories.make(model, shelf=counterpart(target), using=each_vendor.remote)
    shelf.delete()

    bring()

    copy = counterpart(other)
    assert list(Shelf.objects.using(each_vendor.remote).all()) == [copy]
    assert [each.shelf_id for each in Bin.objects.using(each_vendor.remote).all()] == [copy.pk] * 2
    for model in (Box, Crate):
        keys = [each.shelf_id for each in model._base_manager.using(each_vendor.remote).order_by("pk")]
        assert keys == [None, copy.pk]
    assert_same_on_remote(bin_of_other)
    assert_nothing_pending()


@override_settings(SYNCHRO_REMOTE_CASCADE=True)
def test_remote_cascades_further_down(pair: Pair) -> None:
    root = factories.make(Category, name="root")
    sync()
    branch = factories.make(Category, name="branch", parent=counterpart(root), using=pair.remote)
    factories.make(Category, name="leaf", parent=branch, using=pair.remote)
    root.delete()

    sync()

    assert not Category.objects.using(pair.remote).exists()


@override_settings(SYNCHRO_REMOTE_CASCADE=True)
@pytest.mark.parametrize("model", [Safe, Rack])
def test_rows_of_remote_protect_also_where_it_cascades(each_vendor: Pair, model: type[Model]) -> None:
    shelf, other = factories.make(Shelf), factories.make(Shelf)
    sync()
    theirs = factories.make(model, shelf=counterpart(shelf), using=each_vendor.remote)
    shelf.delete()
    other.delete()

    (failure,) = engine.sync_pending().failures

    assert failure.error == (
        f"Rows that exist only on REMOTE protect the object ({model._meta.label}), so it is not deleted there. "
        "Move or delete those rows on REMOTE."
    )
    assert Shelf.objects.using(each_vendor.remote).count() == 1
    theirs.delete(using=each_vendor.remote)
    sync()
    assert not Shelf.objects.using(each_vendor.remote).exists()


@override_settings(SYNCHRO_REMOTE_CASCADE=True)
def test_a_cascade_leaves_ours_to_their_own_entries(pair: Pair) -> None:
    """A child that moved on LOCAL before its parent went is moved, not deleted and made again."""
    old, new = factories.make(Shelf), factories.make(Shelf)
    child = factories.make(Bin, shelf=old)
    sync()
    key = counterpart(child).pk
    factories.make(Bin, shelf=counterpart(old), using=pair.remote)
    child.shelf = new
    child.save()
    old.delete()

    report = run_task("shop.Shelf", str(ChangeLog.objects.filter(action=ChangeLog.Action.DELETE).get().object_id))

    assert report.failures == ()
    assert counterpart(child).pk == key
    assert Bin.objects.using(pair.remote).count() == 1
    assert_nothing_pending()


def test_rows_of_remote_in_two_tables_are_both_counted(pair: Pair) -> None:
    shelf = factories.make(Shelf)
    sync()
    for model in (Bin, Box, Box):
        factories.make(model, shelf=counterpart(shelf), using=pair.remote)
    shelf.delete()

    (failure,) = engine.sync_pending().failures

    assert "(1 shop.Bin, 2 shop.Box)" in failure.error
    assert Box.objects.using(pair.remote).exclude(shelf=None).count() == 2, "they are not ours to change"


def test_a_held_delete_goes_through_when_its_pause_is_over(pair: Pair) -> None:
    country = factories.country()
    sync()
    theirs = factories.city(country=counterpart(country), using=pair.remote)
    country.delete()
    engine.sync_due()
    theirs.delete(using=pair.remote)

    assert engine.sync_due().is_empty, "the entry waits"
    ChangeLog.objects.pending().update(next_attempt_at=factories.moment())
    report = engine.sync_due()

    assert (report.synced, report.failures) == (1, ())
    assert_in_step(Country, City)


def test_members_that_remote_added_do_not_hold_a_delete_back(pair: Pair) -> None:
    """Rows of an automatic through table belong to the object."""
    playlist = factories.playlist()
    sync()
    counterpart(playlist).songs.add(factories.song(using=pair.remote))
    playlist.delete()

    sync()

    assert_not_on_remote(Playlist)
    assert Song.objects.using(pair.remote).count() == 1
    assert_nothing_pending()


# Rows of ours


@pytest.mark.parametrize("bring", ROADS)
def test_children_of_every_kind(each_vendor: Pair, bring: Road) -> None:
    shelf = factories.make(Shelf)
    for model in (Bin, Bin, Box, Box, Crate):
        factories.make(model, shelf=shelf)
    factories.make(Shelf, name="default")
    sync()
    shelf.delete()

    bring()

    assert_in_step(Shelf, Bin, Box, Crate)
    assert Box.objects.using(each_vendor.remote).filter(shelf=None).count() == 2


@pytest.mark.mariadb
def test_children_of_every_kind_in_any_order(each_vendor: Pair) -> None:
    """Each change in a task of its own, in an order that nobody chose."""
    shelves = [factories.make(Shelf) for _ in range(2)]
    for shelf in shelves:
        for model in (Bin, Box, Crate):
            factories.make(model, shelf=shelf)
    sync()
    for shelf in shelves:
        shelf.delete()
    objects = pending_objects()
    random.Random(7).shuffle(objects)

    for label, object_id in objects:
        assert run_task(label, object_id).failures == ()

    assert_in_step(Shelf, Bin, Box, Crate)


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize("model", [Safe, Rack])
def test_children_that_protect(each_vendor: Pair, bring: Road, model: type[Model]) -> None:
    shelf = factories.make(Shelf)
    child = factories.make(model, shelf=shelf)
    sync()
    child.delete()
    shelf.delete()

    bring()

    assert_in_step(Shelf, model)


def test_a_child_that_protects_lets_nothing_be_logged(pair: Pair) -> None:
    shelf = factories.make(Shelf)
    factories.make(Safe, shelf=shelf)
    sync()
    with pytest.raises(ProtectedError):
        shelf.delete()

    assert engine.sync_pending().is_empty
    assert_in_step(Shelf, Safe)


@pytest.mark.parametrize("bring", ROADS)
def test_children_that_neither_django_nor_the_database_cares_for(each_vendor: Pair, bring: Road) -> None:
    """The pile goes on pointing to a shelf that is gone: on LOCAL, and so on REMOTE."""
    shelf = factories.make(Shelf)
    factories.make(Pile, shelf=shelf)
    sync()
    shelf.delete()

    bring()

    assert_not_on_remote(Shelf)
    assert Pile.objects.using(each_vendor.remote).count() == 1
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
def test_a_child_that_moves_before_its_parent_goes(pair: Pair, bring: Road) -> None:
    old, new = factories.country(), factories.country()
    city = factories.city(country=old)
    sync()
    city.country = new
    city.save()
    old.delete()

    bring()

    assert_in_step(Country, City)


@pytest.mark.parametrize("bring", ROADS)
def test_members_of_relations(each_vendor: Pair, bring: Road) -> None:
    """The rows of an automatic through table go with the object, those of an explicit one by their own entries."""
    song = factories.song()
    kept = factories.song()
    playlist = factories.playlist(song, kept)
    gone = factories.playlist(song)
    ann, bob = factories.person(), factories.person()
    ann.friends.add(bob)
    factories.team(ann, bob)
    sync()
    song.delete()
    gone.delete()
    bob.delete()

    bring()

    assert_in_step(Playlist, Song, Person, Team)
    assert_same_on_remote(playlist)


# Many


def test_a_queryset_of_a_thousand(pair: Pair) -> None:
    country = factories.country()
    for number in range(1000):
        City(name=f"{number}", country=country).save(using=pair.local)
    sync()
    City.objects.exclude(name="500").delete()

    report = sync()

    assert report.synced == 999
    assert_in_step(Country, City)
    assert City.objects.using(pair.remote).get().name == "500"


@pytest.mark.parametrize("bring", ROADS)
def test_a_tree(each_vendor: Pair, bring: Road) -> None:
    root = factories.make(Category, name="root")
    for name in "abc":
        branch = factories.make(Category, name=name, parent=root)
        for leaf in "12":
            factories.make(Category, name=name + leaf, parent=branch)
    factories.make(Category, name="other")
    sync()
    assert Category.objects.using(each_vendor.remote).count() == 11
    root.delete()

    bring()

    assert_in_step(Category)
    assert Category.objects.using(each_vendor.remote).get().name == "other"


def test_a_tree_of_which_remote_holds_a_leaf(each_vendor: Pair) -> None:
    """What does not lead to the leaf goes; what does stays whole."""
    root = factories.make(Category, name="root")
    left, right = (factories.make(Category, name=name, parent=root) for name in ("left", "right"))
    sync()
    leaf = factories.make(Category, name="leaf", parent=counterpart(right), using=each_vendor.remote)
    root.delete()

    report = engine.sync_pending()

    assert len(report.failures) == 2
    assert {each.name for each in Category.objects.using(each_vendor.remote).all()} == {"root", "right", "leaf"}
    assert left.name == "left"
    leaf.delete(using=each_vendor.remote)
    sync()
    assert_in_step(Category)


# Circles


@pytest.mark.parametrize("bring", ROADS)
def test_an_object_that_points_to_itself(each_vendor: Pair, bring: Road) -> None:
    employee = factories.employee()
    employee.manager = employee
    employee.save()
    sync()
    employee.delete()

    bring()

    assert_in_step(Employee)


@pytest.mark.parametrize("bring", ROADS)
def test_two_objects_of_one_model_that_point_to_each_other(each_vendor: Pair, bring: Road) -> None:
    first, second = factories.make(Category, name="1"), factories.make(Category, name="2")
    first.parent, second.parent = second, first
    first.save()
    second.save()
    sync()
    Category.objects.all().delete()

    bring()

    assert_in_step(Category)
    assert_not_on_remote(Category)


@pytest.mark.parametrize("bring", ROADS)
def test_two_objects_of_two_models_that_point_to_each_other(each_vendor: Pair, bring: Road) -> None:
    book = factories.book()
    book.author.best_book = book
    book.author.save()
    sync()
    book.author.delete()

    bring()

    assert_in_step(Author, Book)
    assert_not_on_remote(Author)


def test_three_objects_in_a_circle_with_a_fourth_that_waits(each_vendor: Pair) -> None:
    first, second, third = (factories.make(Category, name=name) for name in "123")
    for child, parent in ((first, second), (second, third), (third, first)):
        child.parent = parent
        child.save()
    fourth = factories.make(Category, name="4", parent=first)
    sync()
    Category.objects.all().delete()
    assert fourth.pk

    for label, object_id in pending_objects():
        assert run_task(label, object_id).failures == ()

    assert_in_step(Category)


def remembered(pair: Pair, here: Model, there: Model) -> None:
    """Let LOCAL remember a copy that was made by hand."""
    content_type = ContentType.objects.get_for_model(here)
    pks = {"local_object_id": here.pk, "remote_object_id": there.pk}
    Reference.objects.create(content_type=content_type, peer=engine.identity(pair.remote), **pks)


def made_on_both_sides(pair: Pair, make: Callable[..., list[Any]]) -> set[type[Model]]:
    """Let both sides have copies of what no vendor but those that check on commit can bring; return the models."""
    with DisableSynchroLog():
        objects = make(using=pair.local)
        for here, there in zip(objects, make(using=pair.remote), strict=True):
            remembered(pair, here, there)
    return {type(each) for each in objects}


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize("make", [factories.hen_and_egg, factories.two_folders])
def test_objects_that_cannot_let_go_of_each_other(
    each_vendor: Pair, make: Callable[..., list[Any]], bring: Road
) -> None:
    """Vendors that check on commit delete them together; elsewhere it is a clear failure, not an endless try."""
    models = made_on_both_sides(each_vendor, make)
    with connections[each_vendor.local].constraint_checks_disabled():
        for model in models:
            model._base_manager.all().delete()

    if each_vendor.remote.startswith("mariadb"):
        report = engine.sync_pending()
        assert len(report.failures) == 2
        assert "point to each other" in report.failures[0].error
        assert all(model._base_manager.using(each_vendor.remote).exists() for model in models)
    else:
        bring()
        assert_nothing_pending()
        assert not any(model._base_manager.using(each_vendor.remote).exists() for model in models)


# Outcomes


def test_a_delete_leaves_neither_references_nor_attempts(pair: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    sync()
    articles[0].delete()
    articles[1].delete()

    report = sync()

    assert report.by_model == {"shop.Article": 2}
    assert Reference.objects.count() == Reference.objects.using(pair.remote).count() == 1
    assert Attempt.objects.count() == 0
    assert_in_step(Article)


def test_an_object_that_comes_to_point_to_another_while_that_is_deleted(postgres_pair: Pair) -> None:
    """Django empties its key after it has told which keys it will empty: nobody has logged that."""
    manager, late = factories.employee(), factories.employee()
    sync()

    def point_to_it() -> None:
        newest = Employee.objects.get(pk=late.pk)
        newest.manager_id = manager.pk
        newest.save()
        sync()

    def meanwhile(**kwargs: Any) -> None:
        in_thread(point_to_it).result(PATIENCE)

    pre_delete.connect(meanwhile, sender=Employee)
    try:
        manager.delete()
    finally:
        pre_delete.disconnect(meanwhile, sender=Employee)
    late.refresh_from_db()
    assert late.manager is None
    sync()

    assert_same_on_remote(late)
    assert_in_step(Employee)
