"""Relations and keys in the situations that projects get them into, by single tasks and in one run."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, transaction
from django.db.models import Model
from django.test import override_settings

from synchro import DisableSynchroLog, engine, touch
from synchro.engine.members import write_members
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import (
    assert_in_step,
    assert_nothing_pending,
    assert_same_objects,
    assert_same_on_remote,
    counterpart,
)
from tests.comparing import assert_agree
from tests.databases import Pair, prepare
from tests.roads import ROADS, TRIES, Road, Try, by_tasks, in_one_run, sync
from tests.shop.models import (
    Airport,
    Article,
    Booking,
    Category,
    CheapProduct,
    Comment,
    Employee,
    Flight,
    Grant,
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
from tests.vendors import only_on

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


# Keys to other columns


@roads
def test_a_value_that_others_point_to_changes_with_them(each_vendor: Pair, bring: Road) -> None:
    """In one transaction; what only REMOTE has follows, too."""
    airport = factories.make(Airport, code="OLD")
    other = factories.make(Airport, code="XXX")
    flights = [factories.flight(origin=airport), factories.flight(origin=other, stopover=airport)]
    sync()
    theirs = factories.flight(origin_id="OLD", using=each_vendor.remote)
    with factories.keys_checked_later(each_vendor.local):
        airport.code = "NEW"
        airport.save()
        for flight, name in zip(flights, ("origin_id", "stopover_id"), strict=True):
            setattr(flight, name, "NEW")
            flight.save()
    factories.flight(origin_id="NEW", stopover_id="XXX")

    bring()

    theirs.refresh_from_db()
    assert theirs.origin_id == "NEW"
    theirs.delete()
    assert_in_step(Airport, Flight)


@roads
def test_values_that_others_point_to_change_places(each_vendor: Pair, bring: Road) -> None:
    """Also where those stay with the value, and so point to another object."""
    airports = [factories.make(Airport, code=code) for code in ("AAA", "BBB", "CCC")]
    follows, stays = (factories.flight(origin=each) for each in airports[:2])
    sync()
    with factories.keys_checked_later(each_vendor.local):
        Airport.objects.filter(code="AAA").update(code="TMP")
        for airport, code in zip(airports, ("BBB", "CCC", "AAA"), strict=True):
            Airport.objects.filter(pk=airport.pk).update(code=f"-{code}"[:4])
        for airport, code in zip(airports, ("BBB", "CCC", "AAA"), strict=True):
            airport.code = code
            airport.save()
        follows.origin_id = "BBB"
        follows.save()

    bring()

    assert_in_step(Airport, Flight)
    assert counterpart(stays).origin == counterpart(airports[0])


# Content types and permissions


@roads
def test_a_permission_that_the_project_made(each_vendor: Pair, bring: Road) -> None:
    """Migrations did not make it on REMOTE: it comes along with what points to it, and is found the next time."""
    song_type = ContentType.objects.get_for_model(Song)
    made = Permission.objects.create(codename="sing", name="Can sing", content_type=song_type)
    try:
        factories.make(Grant, permission=made)
        factories.make(Grant, permission=made)

        bring()

        copy = Permission.objects.using(each_vendor.remote).get(codename="sing")
        assert (copy.name, copy.content_type.natural_key()) == ("Can sing", ("shop", "song"))
        assert [each.permission_id for each in Grant.objects.using(each_vendor.remote).all()] == [copy.pk] * 2
        assert_in_step(Grant)
    finally:
        for using in (each_vendor.local, each_vendor.remote):
            Grant.objects.using(using).all().delete()
            Permission.objects.using(using).filter(codename="sing").delete()


@roads
def test_a_content_type_that_remote_lacks(each_vendor: Pair, bring: Road) -> None:
    """As of an app that REMOTE's project has not installed yet: it is made there, once."""
    own = ContentType.objects.create(app_label="attic", model="trunk")
    try:
        permission = Permission.objects.order_by("pk")[0]
        for _ in range(2):
            factories.make(Grant, permission=permission, content_type=own)

        bring()

        assert_same_objects(Grant)
        assert_nothing_pending()
        copy = ContentType.objects.using(each_vendor.remote).get(app_label="attic")
        assert copy.model == "trunk"
    finally:
        for using in (each_vendor.local, each_vendor.remote):
            Grant.objects.using(using).all().delete()
            ContentType.objects.using(using).filter(app_label="attic").delete()
        ContentType.objects.clear_cache()


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


def test_a_member_that_remote_deletes_at_that_moment(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is not dropped in silence: its owner fails, and is brought as soon as the member is there again."""
    song = factories.song()
    sync()
    playlist = factories.playlist(song)

    def lose(link: Any, change: Any) -> bool:
        Song.objects.using(each_vendor.remote).all()._raw_delete(each_vendor.remote)
        return write_members(link, change)

    with monkeypatch.context() as patched:
        patched.setattr("synchro.engine.batch.write_members", lose)
        (failure,) = engine.sync_pending().failures

    assert failure.object_id == str(playlist.pk)
    sync()
    assert_in_step(Playlist, Song)
    assert Song.objects.using(each_vendor.remote).count() == Playlist.songs.through._base_manager.count() == 1


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


@roads
@pytest.mark.parametrize("watched", ["team", "person"])
def test_only_one_side_of_a_relation_with_a_through_model_is_watched(
    each_vendor: Pair, bring: Road, watched: str
) -> None:
    """The side that declares the relation brings the through rows; the other one alone brings itself."""
    with override_settings(SYNCHRO_MODELS=[("shop", watched)]):
        people = [factories.person() for _ in range(3)]
        team = factories.team(*people[:2])
        bring()
        people[2].teams.add(team, through_defaults={"role": "coach"})
        team.members.remove(people[0])
        row = Membership.objects.get(person=people[1])
        row.role = "captain"
        row.save()

        bring()

        links = set(Membership.objects.using(each_vendor.remote).values_list("team__name", "person__name", "role"))
        expected = {(team.name, people[1].name, "captain"), (team.name, people[2].name, "coach")}
        assert links == (expected if watched == "team" else set())
        assert_same_objects(Team if watched == "team" else Person)
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
def test_a_proxy_is_watched_by_either_name(each_vendor: Pair, name: str) -> None:
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


#: A space alone, or at the end, is no character for MariaDB's default collation.
TEXTS = ["", " x", "a\nb", "\t", "None", "0", '["a"]', '"', "'", "\\", "%s", "{a}", "a,b", "a/b?c#d", "\N{ELEPHANT}"]


@pytest.mark.parametrize("bring", [in_one_run, by_tasks])
def test_text_keys_with_any_character(every_pair: Pair, bring: Road) -> None:
    booking = factories.make(Booking)
    booking.tags.set(factories.make(Tag, slug=text) for text in TEXTS)
    bring()
    assert_in_step(Tag, Booking)
    Tag.objects.update(title="changed")
    touch(Tag.objects.all())
    booking.tags.set(Tag.objects.filter(slug__in=["", " x"]))
    bookings = [factories.make(Booking, tag_id=text) for text in TEXTS]
    bring()
    assert_in_step(Tag, Booking)
    for each in bookings:
        each.delete()
    Tag.objects.all().delete()

    bring()

    assert_in_step(Tag, Booking)
    assert not Tag.objects.using(every_pair.remote).exists()


@pytest.mark.parametrize("bring", TRIES)
def test_text_keys_that_differ_in_case_only_are_two_objects(every_pair: Pair, bring: Try) -> None:
    """Where LOCAL's collation lets both live; MariaDB refuses the second one on either side, and says so."""
    factories.tag(slug="qa", title="lower")
    if every_pair.local.startswith("mariadb"):
        with pytest.raises(IntegrityError):
            factories.tag(slug="QA", title="upper")
        assert bring() == []
        assert_in_step(Tag)
        return
    factories.tag(slug="QA", title="upper")

    failures = bring()

    if every_pair.remote.startswith("mariadb"):
        (failure,) = failures
        first, second = ("QA", "qa") if failure.object_id == "qa" else ("qa", "QA")
        assert (failure.model, failure.object_id) == ("shop.Tag", second)
        assert "PRIMARY" in failure.error
        assert ChangeLog.objects.pending().get().reason == failure.error
        titles = {"qa": "lower", "QA": "upper"}
        assert Tag.objects.using(every_pair.remote).values_list("slug", "title").get() == (first, titles[first])
    else:
        assert failures == []
        assert_in_step(Tag)


@only_on("mariadb")
@pytest.mark.parametrize("remote", ["mariadb_b", "postgres_b", "sqlite_b"])
@roads
def test_keys_that_a_collation_takes_for_those_of_their_targets(each_vendor: Pair, remote: str, bring: Road) -> None:
    """MariaDB lets 'QA' point to 'qa'; so the copy points to the copy of 'qa', whichever way it is spelt."""
    prepare(remote)
    with Pair(each_vendor.local, remote).active():
        factories.tag(slug="qa")
        factories.make(Airport, code="MUC")
        factories.make(Booking, tag_id="QA")
        factories.flight(origin_id="muc", stopover_id="MUC")
        booking = factories.make(Booking, tag_id="Qa")
        bring()
        booking.tag_id = "qA"
        booking.save()

        bring()

        assert_nothing_pending()
        assert set(Booking.objects.using(remote).values_list("tag__slug", flat=True)) == {"qa"}
        assert Flight.objects.using(remote).get().origin.code == "MUC"
        assert_agree()


def test_five_thousand_objects_are_deleted_with_one_queryset(each_vendor: Pair) -> None:
    with DisableSynchroLog(), transaction.atomic(using=each_vendor.local):
        Employee.objects.bulk_create(Employee(name=str(number)) for number in range(5000))
    touch(Employee.objects.all())
    sync()
    assert Employee.objects.using(each_vendor.remote).count() == 5000

    Employee.objects.all().delete()
    sync()

    assert not Employee.objects.using(each_vendor.remote).exists()
    assert_nothing_pending()
