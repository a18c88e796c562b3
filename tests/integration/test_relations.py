"""What an object points to is on REMOTE before it, whatever the relation; between all pairs of vendors.

In one run from some vendors to others, and by tasks between the other ones: each vendor has all roads on either side.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType

from synchro import DisableSynchroLog, engine
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.databases import Pair
from tests.handlers.models import Agent, Shipment
from tests.roads import ROADS, Road, road_of, sync
from tests.shop.models import (
    Account,
    Author,
    Book,
    Booking,
    Claim,
    Comment,
    Employee,
    Fair,
    Grant,
    Lease,
    Locker,
    Membership,
    Page,
    Parcel,
    Passport,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Profile,
    Restaurant,
    Review,
    Seat,
    Song,
    Station,
    Tag,
    Team,
    Track,
)
from tests.unwatched.models import Genre


@pytest.fixture
def bring(every_pair: Pair) -> Road:
    return road_of(every_pair)


def test_targets_of_unwatched_models_are_copied(every_pair: Pair, bring: Road) -> None:
    delivery = factories.delivery()

    bring()

    assert_same_on_remote(delivery)
    assert_same_on_remote(delivery.supplier)
    assert delivery.supplier.region is not None
    assert_same_on_remote(delivery.supplier.region)


@pytest.mark.parametrize("by_task", [False, True])
def test_a_chain_of_parents_that_nobody_logged(each_vendor: Pair, by_task: bool) -> None:
    Employee.objects.bulk_create(Employee(pk=pk, name=str(pk), manager_id=pk - 1 or None) for pk in range(1, 1501))
    factories.make(Employee, pk=1501, name="1501", manager_id=1500)

    report = engine.sync_object("shop.Employee", "1501") if by_task else engine.sync_pending()

    assert report.failures == ()
    links = [
        Employee.objects.using(using).values_list("name", "manager__name")
        for using in (each_vendor.local, each_vendor.remote)
    ]
    assert sorted(links[1], key=str) == sorted(links[0], key=str)


def test_a_tree_whose_children_were_saved_first(every_pair: Pair, bring: Road) -> None:
    bottom = factories.employee()
    middle = factories.employee()
    top = factories.employee()
    Employee.objects.filter(pk=middle.pk).update(manager=top)
    Employee.objects.filter(pk=bottom.pk).update(manager=middle)

    bring()

    assert_in_step(Employee)


def test_an_object_that_points_to_itself(every_pair: Pair, bring: Road) -> None:
    employee = factories.employee()
    employee.manager = employee
    employee.save()

    bring()

    assert_same_on_remote(employee)


def test_a_cycle_through_a_nullable_foreign_key(every_pair: Pair, bring: Road) -> None:
    book = factories.book()
    book.author.best_book = book
    book.author.save()

    bring()

    assert_in_step(Author, Book)


def test_a_cycle_that_nobody_logged(pair: Pair) -> None:
    with DisableSynchroLog():
        book = factories.book()
        book.author.best_book = book
        book.author.save()
    engine_touches = factories.book(author=book.author)

    sync()

    assert_same_on_remote(engine_touches)
    assert_in_step(Author, Book)


def test_to_field(every_pair: Pair, bring: Road) -> None:
    flight = factories.flight()

    bring()

    assert_same_on_remote(flight)


def test_one_to_one(every_pair: Pair, bring: Road) -> None:
    user = factories.make(get_user_model(), username="ann")
    profile = factories.make(Profile, user=user)
    passport = factories.make(Passport, employee=factories.employee(), number="1")
    bring()
    passport.number = "2"
    passport.save()

    bring()

    assert_same_on_remote(profile)
    assert_same_on_remote(passport)


def test_generic_foreign_keys(every_pair: Pair, bring: Road) -> None:
    article = factories.article()
    comment = factories.make(Comment, target=article)
    answer = factories.make(Comment, target=comment)
    on_supplier = factories.make(Comment, target=factories.delivery().supplier)

    bring()

    for each in (comment, answer, on_supplier):
        assert_same_on_remote(each)


def test_content_types_and_permissions(every_pair: Pair, bring: Road) -> None:
    grant = factories.make(
        Grant,
        permission=Permission.objects.order_by("pk")[5],
        content_type=ContentType.objects.get_for_model(Song),
    )

    bring()

    assert_same_on_remote(grant)


def test_primary_keys_of_every_kind(every_pair: Pair, bring: Road) -> None:
    locker = factories.make(Locker, number=4)
    tag = factories.tag(slug="a b/ü'\"%s")
    booking = factories.make(Booking, locker=locker, tag=tag, parcel=factories.make(Parcel))
    booking.tags.set([tag, factories.tag()])
    seat = factories.seat()
    bring()
    seat.guest = "Bob"
    seat.save()
    locker.note = "new"
    locker.save()

    bring()

    assert_in_step(Booking, Seat, Tag, Locker, Parcel)


def test_a_composite_key_with_a_foreign_key_in_it(every_pair: Pair, bring: Road) -> None:
    """The books have other numbers on REMOTE, and so have the keys of their pages."""
    books = [factories.book(title=title) for title in "ab"]
    changes, goes, *_ = [factories.make(Page, book=book, number=n, text="old") for book in books for n in (1, 2)]
    bring()
    assert_in_step(Page, Book)
    changes.text = "new"
    changes.save()
    goes.delete()
    factories.make(Page, book=books[0], number=3, text="added")

    bring()

    assert_in_step(Page, Book)
    pages = Page.objects.using(every_pair.remote).values_list("book__title", "number", "text")
    assert sorted(pages) == [("a", 1, "new"), ("a", 3, "added"), ("b", 1, "old"), ("b", 2, "old")]
    books[1].delete()

    bring()

    assert_in_step(Page, Book)
    assert Page.objects.using(every_pair.remote).count() == 2


def test_foreign_keys_into_another_watched_app(every_pair: Pair, bring: Road) -> None:
    first, second = (factories.shipment(agent=factories.agent()) for _ in range(2))
    claim = factories.make(Claim, shipment=first, reason="lost")
    bring()
    assert_in_step(Claim, Shipment, Agent)
    claim.shipment = second
    claim.save()
    first.delete()

    bring()

    assert_in_step(Claim, Shipment, Agent)
    second.delete()

    bring()

    assert_in_step(Claim, Shipment, Agent)
    assert not Claim.objects.using(every_pair.remote).exists()


def test_multi_table_inheritance(every_pair: Pair, bring: Road) -> None:
    pizzeria = factories.pizzeria()
    review = factories.make(Review, restaurant=pizzeria)
    pizzeria.music.add(factories.song())
    fair = factories.make(Fair, hall="1", topic="2", visitors=3)
    bring()
    for each in (pizzeria, review, fair):
        assert_same_on_remote(each)
    pizzeria.address, pizzeria.stars, pizzeria.oven = "new", 5, "gas"
    pizzeria.save()
    Place.objects.get(pk=pizzeria.pk).save()
    bring()
    assert_same_on_remote(pizzeria)

    review.delete()
    pizzeria.delete()
    bring()

    assert_in_step(Place, Restaurant, Pizzeria, Review)


def test_automatic_many_to_many(every_pair: Pair, bring: Road) -> None:
    songs = [factories.song() for _ in range(3)]
    playlist = factories.playlist(*songs)
    playlist.genres.add(factories.make(Genre, name="jazz"))
    bring()
    assert_same_on_remote(playlist)
    playlist.songs.remove(songs[0])
    songs[1].playlists.clear()
    songs[0].playlists.add(factories.playlist())
    bring()
    assert_in_step(Playlist, Song)


def test_many_to_many_with_itself(every_pair: Pair, bring: Road) -> None:
    ann, bob, cid = (factories.person() for _ in range(3))
    ann.friends.set([bob, cid])
    bring()
    assert_in_step(Person)
    bob.friends.clear()
    a, b = (factories.make(Account, name=name) for name in "ab")
    a.follows.add(b)
    b.followers.add(b)

    bring()

    assert_in_step(Person, Account)


def test_many_to_many_with_a_through_model(every_pair: Pair, bring: Road) -> None:
    ann, bob = factories.person(), factories.person()
    team = factories.team(ann)
    team.members.add(bob, through_defaults={"role": "coach", "inviter": ann})
    bring()
    assert_in_step(Team, Person, Membership)
    team.members.remove(ann)

    bring()

    assert_in_step(Team, Person, Membership)
    others = [factories.team(bob) for _ in range(2)]
    bob.teams.remove(team)
    team.members.set([ann, factories.person()], through_defaults={"role": "captain"})
    bring()
    assert_in_step(Team, Person, Membership)
    others[0].members.clear()
    ann.teams.set([others[1]])

    bring()

    assert_in_step(Team, Person, Membership)
    assert memberships(every_pair.remote) == memberships(every_pair.local)
    assert len(memberships(every_pair.remote)) == 3
    bob.teams.clear()

    bring()

    assert_in_step(Team, Person, Membership)
    assert len(memberships(every_pair.remote)) == 2


def memberships(using: str) -> set[Any]:
    """Return the links as seen from the other side of the relation."""
    return set(Person.objects.using(using).exclude(teams=None).values_list("name", "teams__name", "membership__role"))


def test_many_to_many_with_itself_and_a_through_model(every_pair: Pair, bring: Road) -> None:
    """Symmetrical: Django makes and removes two rows for each link."""
    one, two, three = (factories.make(Station, name=name) for name in "abc")
    one.neighbours.add(two, through_defaults={"length": 7})
    two.neighbours.add(three)
    bring()
    assert_in_step(Station, Track)
    one.neighbours.set([three], through_defaults={"length": 9})
    track = Track.objects.get(one=three, other=two)
    track.length = 5
    track.save()
    bring()
    assert_in_step(Station, Track)
    assert sorted(Track.objects.using(every_pair.remote).values_list("one__name", "other__name", "length")) == [
        ("a", "c", 9),
        ("b", "c", 1),
        ("c", "a", 9),
        ("c", "b", 5),
    ]
    three.neighbours.clear()

    bring()

    assert_in_step(Station, Track)
    assert not Track.objects.using(every_pair.remote).exists()


def test_a_skipped_foreign_key_stays_remotes(every_pair: Pair, bring: Road) -> None:
    lease = factories.make(Lease, name="flat", landlord=factories.country())
    bring()
    assert Lease.objects.using(every_pair.remote).get().landlord_id is None
    own = factories.country(using=every_pair.remote)
    Lease.objects.using(every_pair.remote).update(landlord=own)
    lease.name = "house"
    lease.save()

    bring()

    copy = Lease.objects.using(every_pair.remote).get()
    assert (copy.name, copy.landlord_id) == ("house", own.pk)


@pytest.mark.parametrize("bring", ROADS)
def test_every_relation_to_a_remote_without_synchro(bare_pair: Pair, bring: Road) -> None:
    book, song, ann, bob = factories.book(), factories.song(), factories.person(), factories.person()
    employee = factories.employee(manager=factories.employee())
    pizzeria, tag = factories.pizzeria(), factories.tag()
    playlist, team = factories.playlist(song), factories.team(ann)
    changed: list[Any] = [book, employee, playlist, team, pizzeria, factories.flight(), factories.delivery()]
    made: list[Any] = [
        factories.make(Page, book=book, number=1),
        factories.make(Passport, employee=employee, number="1"),
        factories.make(Review, restaurant=pizzeria),
        factories.make(Comment, target=book),
        factories.make(Booking, tag=tag, locker=factories.make(Locker, number=4)),
    ]
    book.author.best_book = book
    book.author.save()
    ann.friends.add(bob)
    pizzeria.music.add(song)
    bring()
    models = {type(each) for each in (*changed, *made, song, ann, tag, book.author, Membership())}
    assert_in_step(*models)
    for each in (*changed, *made):
        each.save()
    playlist.songs.set([factories.song()])
    team.members.set([bob])
    ann.friends.clear()
    bring()
    assert_in_step(*models)

    for each in (*made, *changed):
        each.delete()
    bring()

    assert_in_step(*models)
    assert not any(type(each)._base_manager.using(bare_pair.remote).exists() for each in made)
