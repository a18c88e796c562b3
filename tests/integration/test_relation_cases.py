"""Relations and keys in the situations that projects get them into, by single tasks and in one run."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.db.models import Model
from django.test import override_settings

from synchro import DisableSynchroLog, engine, touch
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import (
    assert_in_step,
    assert_nothing_pending,
    assert_same_objects,
    assert_same_on_remote,
    counterpart,
)
from tests.databases import Pair
from tests.roads import ROADS, Road, run_task, sync
from tests.shop.models import (
    Article,
    Category,
    CheapProduct,
    Comment,
    Employee,
    Membership,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Product,
    Restaurant,
    Seat,
    Song,
    Tag,
    Team,
)

roads = pytest.mark.parametrize("bring", ROADS)


# Trees


@roads
def test_a_tree_that_is_turned_upside_down(each_vendor: Pair, bring: Road) -> None:
    root, branch, leaf = (factories.make(Category, name=name) for name in "abc")
    for each, parent in ((branch, root), (leaf, branch)):
        each.parent = parent
        each.save()
    sync()
    branch.parent, root.parent, leaf.parent = None, leaf, branch
    for each in (branch, root, leaf):
        each.save()

    bring()

    assert_in_step(Category)


@roads
def test_a_branch_goes_to_another_tree_and_its_old_tree_is_deleted(each_vendor: Pair, bring: Road) -> None:
    old, new, branch = (factories.make(Category, name=name) for name in "abc")
    branch.parent = old
    branch.save()
    factories.make(Category, name="leaf", parent=branch)
    sync()
    branch.parent = new
    branch.save()
    old.delete()

    bring()

    assert_in_step(Category)
    assert Category.objects.using(each_vendor.remote).count() == 3


# Generic foreign keys


@roads
def test_a_note_about_something_that_comes_later(each_vendor: Pair, bring: Road) -> None:
    with DisableSynchroLog():
        untold = factories.article()
    told = factories.article()
    for target in (untold, told, factories.tag(slug="a/b"), factories.make(Comment, text="first", target=told)):
        factories.make(Comment, text=f"about {target.pk}", target=target)

    bring()

    assert_in_step(Comment, Article, Tag)


def test_a_note_whose_target_is_gone_stays_a_note(pair: Pair) -> None:
    """Nothing in the database forbids it, so it is no failure; it points to nothing on REMOTE either."""
    article = factories.article()
    comment = factories.make(Comment, text="about nothing", target=article)
    sync()
    article.delete()
    comment = Comment.objects.get()
    comment.text = "still here"
    comment.save()

    sync()

    copy = Comment.objects.using(pair.remote).get()
    assert (copy.text, copy.target) == ("still here", None)
    assert not Article.objects.using(pair.remote).exists()
    assert_nothing_pending()


def test_a_note_about_a_key_that_was_gone_before_the_sync(pair: Pair) -> None:
    """A key that the project chose is the same on both sides; REMOTE's automatic keys are other objects'."""
    about_tag, about_article = (
        factories.make(Comment, text="gone", target=target) for target in (factories.tag(slug="a"), factories.article())
    )
    Tag.objects.all().delete()
    Article.objects.all().delete()
    factories.article(using=pair.remote, pk=about_article.object_id)

    (failure,) = engine.sync_pending().failures

    assert counterpart(about_tag).object_id == "a"
    assert (failure.object_id, failure.error) == (
        str(about_article.pk),
        "object_id points to a shop.Article that does not exist on LOCAL. Correct the relation.",
    )


def test_a_note_that_turns_to_something_that_is_gone(pair: Pair) -> None:
    """The copy must not go on being about the first thing."""
    first, second = factories.article(), factories.article()
    comment = factories.make(Comment, text="about first", target=first)
    sync()
    second_pk = second.pk
    second.delete()
    Comment.objects.update(object_id=second_pk)
    touch(comment)

    (failure,) = engine.sync_pending().failures

    assert failure.object_id == str(comment.pk)
    assert "does not exist on LOCAL" in failure.error


# Through rows


@roads
def test_through_rows_that_live_on_keep_their_key(each_vendor: Pair, bring: Road) -> None:
    people = [factories.person() for _ in range(3)]
    team = factories.team(*people)
    sync()
    rows = Membership.objects.order_by("pk")
    stays, changes, goes = rows
    keys = [counterpart(each).pk for each in (stays, changes)]
    changes.role, changes.inviter = "captain", people[0]
    changes.save()
    goes.delete()
    factories.make(Membership, team=team, person=people[2], role="again")

    bring()

    assert_in_step(Membership, Team, Person)
    assert [counterpart(each).pk for each in (stays, changes)] == keys


@roads
def test_links_of_an_automatic_table_that_live_on_keep_their_key(each_vendor: Pair, bring: Road) -> None:
    songs = [factories.song() for _ in range(3)]
    playlist = factories.playlist(*songs)
    sync()
    through = Playlist.songs.through._base_manager.using(each_vendor.remote)
    before = {row.song_id: row.pk for row in through.all()}
    playlist.songs.set([*songs[:2], factories.song()])

    bring()

    assert_in_step(Playlist, Song)
    after = {row.song_id: row.pk for row in through.all()}
    assert {song: after[song] for song in before if song in after} == {song: before[song] for song in list(before)[:2]}


@roads
def test_relations_from_both_sides(each_vendor: Pair, bring: Road) -> None:
    songs = [factories.song() for _ in range(4)]
    lists = [factories.playlist(*songs) for _ in range(3)]
    sync()
    songs[0].playlists.clear()
    lists[0].songs.clear()
    songs[1].playlists.set([lists[0]])
    lists[1].songs.set([songs[2]])
    songs[3].delete()

    bring()

    assert_in_step(Playlist, Song)


@roads
@pytest.mark.parametrize("watched", ["playlist", "song"])
def test_only_one_side_of_a_relation_is_watched(each_vendor: Pair, bring: Road, watched: str) -> None:
    """The watched side brings its members, whichever side declares the relation and is changed."""
    with override_settings(SYNCHRO_MODELS=[("shop", watched)]):
        songs = [factories.song() for _ in range(3)]
        lists = [factories.playlist(*songs[:2]), factories.playlist()]
        bring()
        assert_same_objects(Playlist if watched == "playlist" else Song)
        songs[0].playlists.clear()
        songs[2].playlists.set(lists)
        lists[0].songs.remove(songs[1])

        bring()

        links = [
            set(Playlist.songs.through._base_manager.using(using).values_list("playlist__name", "song__title"))
            for using in (each_vendor.local, each_vendor.remote)
        ]
        assert links[0] == links[1] == {(each.name, songs[2].title) for each in lists}
        assert_nothing_pending()


# Inheritance


@roads
def test_each_level_of_a_multi_table_child_changes_alone(each_vendor: Pair, bring: Road) -> None:
    pizzeria = factories.pizzeria()
    sync()
    Place.objects.get().save()
    for model, name, value in ((Place, "address", "new"), (Restaurant, "stars", 5), (Pizzeria, "oven", "gas")):
        level = model._base_manager.get()
        setattr(level, name, value)
        level.save(update_fields=[name])

        bring()

        assert_same_on_remote(pizzeria)
    assert_in_step(Place, Restaurant, Pizzeria)


@roads
def test_a_child_is_deleted_and_its_parents_stay(each_vendor: Pair, bring: Road) -> None:
    pizzeria = factories.pizzeria()
    sync()
    pizzeria.delete(keep_parents=True)

    bring()

    assert_in_step(Place, Restaurant, Pizzeria)
    assert Restaurant.objects.using(each_vendor.remote).count() == 1
    assert not Pizzeria.objects.using(each_vendor.remote).exists()


@roads
def test_a_parent_becomes_a_child_later(each_vendor: Pair, bring: Road) -> None:
    place = factories.make(Place, name="p", address="here")
    sync()
    child = Restaurant(place_ptr=place, stars=3)
    child.__dict__.update({name: getattr(place, name) for name in ("name", "address")})
    child.save()

    bring()

    assert_in_step(Place, Restaurant)


@pytest.mark.parametrize("name", ["product", "cheapproduct"])
def test_a_proxy_is_watched_by_either_name(pair: Pair, name: str) -> None:
    with override_settings(SYNCHRO_MODELS=(("shop", name),)):
        CheapProduct.objects.create(sku="proxy", price=1)
        product = factories.product()
        sync()
        assert_in_step(Product)
        CheapProduct.objects.get(sku="proxy").delete()
        product.delete()
        sync()
        assert_in_step(Product)


# Primary keys


@roads
@pytest.mark.parametrize(
    ("model", "values", "pk"),
    [
        (Article, {"title": "t"}, 700),
        (Tag, {"slug": "a", "title": "t"}, "b"),
        (Product, {"sku": "s"}, 700),
    ],
)
def test_a_primary_key_that_is_reassigned(
    each_vendor: Pair, bring: Road, model: type[Model], values: dict[str, Any], pk: Any
) -> None:
    """For Django that is another object, and the first one stays."""
    instance: Any = factories.make(model, **values)
    sync()
    instance.pk = pk
    if model is Product:
        instance.sku = "other"
    instance.save()

    bring()

    assert_in_step(model)
    assert model._base_manager.using(each_vendor.remote).count() == 2


@roads
def test_a_composite_key_that_lives_again(each_vendor: Pair, bring: Road) -> None:
    seat = factories.seat()
    key = seat.pk
    sync()
    seat.delete()
    factories.make(Seat, row=key[0], number=key[1], guest="next")

    bring()

    assert_in_step(Seat)


def test_text_keys_that_differ_in_case_only_are_two_objects(every_pair: Pair) -> None:
    """Where LOCAL's collation lets both live; MariaDB refuses the second one on either side, and says so."""
    factories.tag(slug="qa", title="lower")
    if every_pair.local.startswith("mariadb"):
        sync()
        return
    factories.tag(slug="QA", title="upper")
    if every_pair.remote.startswith("mariadb"):
        for each in ("qa", "QA"):
            run_task("shop.Tag", each)
        titles = set(Tag.objects.using(every_pair.remote).values_list("slug", "title"))
        assert len(titles) == 1
        assert ChangeLog.objects.pending().count() == 1
        return

    sync()

    assert_in_step(Tag)


def test_five_thousand_objects_are_deleted_with_one_queryset(pair: Pair) -> None:
    with DisableSynchroLog(), transaction.atomic(using=pair.local):
        Employee.objects.bulk_create(Employee(name=str(number)) for number in range(5000))
    touch(Employee.objects.all())
    sync()
    assert Employee.objects.using(pair.remote).count() == 5000

    Employee.objects.all().delete()
    sync()

    assert not Employee.objects.using(pair.remote).exists()
    assert_nothing_pending()
