"""What an object points to is on REMOTE before it, whatever the relation; between all pairs of vendors."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType

from synchro import DisableSynchroLog, engine
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.databases import Pair
from tests.shop.models import (
    Account,
    Author,
    Book,
    Booking,
    Comment,
    Employee,
    Fair,
    Grant,
    Lease,
    Locker,
    Membership,
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
    Tag,
    Team,
)
from tests.unwatched.models import Genre


def sync() -> None:
    report = engine.sync_pending()
    assert report.failures == ()


def test_targets_of_unwatched_models_are_copied(every_pair: Pair) -> None:
    delivery = factories.delivery()

    sync()

    assert_same_on_remote(delivery)
    assert_same_on_remote(delivery.supplier)
    assert delivery.supplier.region is not None
    assert_same_on_remote(delivery.supplier.region)


@pytest.mark.parametrize("by_task", [False, True])
def test_a_chain_of_parents_that_nobody_logged(pair: Pair, by_task: bool) -> None:
    Employee.objects.bulk_create(Employee(pk=pk, name=str(pk), manager_id=pk - 1 or None) for pk in range(1, 1501))
    employee = factories.make(Employee, pk=1501, name="told", manager_id=1500)

    report = engine.sync_object("shop.Employee", "1501") if by_task else engine.sync_pending()

    assert report.failures == ()
    assert_same_on_remote(employee)
    assert Employee.objects.using(pair.remote).count() == 1501


def test_a_tree_in_one_batch_whose_children_were_saved_first(every_pair: Pair) -> None:
    bottom = factories.employee()
    middle = factories.employee()
    top = factories.employee()
    Employee.objects.filter(pk=middle.pk).update(manager=top)
    Employee.objects.filter(pk=bottom.pk).update(manager=middle)

    sync()

    assert_in_step(Employee)


def test_an_object_that_points_to_itself(every_pair: Pair) -> None:
    employee = factories.employee()
    employee.manager = employee
    employee.save()

    sync()

    assert_same_on_remote(employee)


def test_a_cycle_through_a_nullable_foreign_key(every_pair: Pair) -> None:
    book = factories.book()
    book.author.best_book = book
    book.author.save()

    sync()

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


def test_to_field(every_pair: Pair) -> None:
    flight = factories.flight()

    sync()

    assert_same_on_remote(flight)


def test_one_to_one(every_pair: Pair) -> None:
    user = factories.make(get_user_model(), username="ann")
    profile = factories.make(Profile, user=user)
    passport = factories.make(Passport, employee=factories.employee(), number="1")
    sync()
    passport.number = "2"
    passport.save()

    sync()

    assert_same_on_remote(profile)
    assert_same_on_remote(passport)


def test_generic_foreign_keys(every_pair: Pair) -> None:
    article = factories.article()
    comment = factories.make(Comment, target=article)
    answer = factories.make(Comment, target=comment)
    on_supplier = factories.make(Comment, target=factories.delivery().supplier)

    sync()

    for each in (comment, answer, on_supplier):
        assert_same_on_remote(each)


def test_content_types_and_permissions(every_pair: Pair) -> None:
    grant = factories.make(
        Grant,
        permission=Permission.objects.order_by("pk")[5],
        content_type=ContentType.objects.get_for_model(Song),
    )

    sync()

    assert_same_on_remote(grant)


def test_primary_keys_of_every_kind(every_pair: Pair) -> None:
    locker = factories.make(Locker, number=4)
    tag = factories.tag(slug="a b/ü'\"%s")
    booking = factories.make(Booking, locker=locker, tag=tag, parcel=factories.make(Parcel))
    booking.tags.set([tag, factories.tag()])
    seat = factories.seat()
    sync()
    seat.guest = "Bob"
    seat.save()
    locker.note = "new"
    locker.save()

    sync()

    assert_in_step(Booking, Seat, Tag, Locker, Parcel)


def test_multi_table_inheritance(every_pair: Pair) -> None:
    pizzeria = factories.pizzeria()
    review = factories.make(Review, restaurant=pizzeria)
    pizzeria.music.add(factories.song())
    fair = factories.make(Fair, hall="1", topic="2", visitors=3)
    sync()
    for each in (pizzeria, review, fair):
        assert_same_on_remote(each)
    pizzeria.address, pizzeria.stars, pizzeria.oven = "new", 5, "gas"
    pizzeria.save()
    Place.objects.get(pk=pizzeria.pk).save()
    sync()
    assert_same_on_remote(pizzeria)

    review.delete()
    pizzeria.delete()
    sync()

    assert_in_step(Place, Restaurant, Pizzeria, Review)


def test_automatic_many_to_many(every_pair: Pair) -> None:
    songs = [factories.song() for _ in range(3)]
    playlist = factories.playlist(*songs)
    playlist.genres.add(factories.make(Genre, name="jazz"))
    sync()
    assert_same_on_remote(playlist)
    playlist.songs.remove(songs[0])
    songs[1].playlists.clear()
    songs[0].playlists.add(factories.playlist())
    sync()
    assert_in_step(Playlist, Song)


def test_many_to_many_with_itself(every_pair: Pair) -> None:
    ann, bob, cid = (factories.person() for _ in range(3))
    ann.friends.set([bob, cid])
    sync()
    assert_in_step(Person)
    bob.friends.clear()
    a, b = (factories.make(Account, name=name) for name in "ab")
    a.follows.add(b)
    b.followers.add(b)

    sync()

    assert_in_step(Person, Account)


def test_many_to_many_with_a_through_model(every_pair: Pair) -> None:
    ann, bob = factories.person(), factories.person()
    team = factories.team(ann)
    team.members.add(bob, through_defaults={"role": "coach", "inviter": ann})
    sync()
    assert_in_step(Team, Person, Membership)
    team.members.remove(ann)

    sync()

    assert_in_step(Team, Person, Membership)


def test_a_skipped_foreign_key_stays_remotes(every_pair: Pair) -> None:
    lease = factories.make(Lease, name="flat", landlord=factories.country())
    sync()
    assert Lease.objects.using(every_pair.remote).get().landlord_id is None
    own = factories.country(using=every_pair.remote)
    Lease.objects.using(every_pair.remote).update(landlord=own)
    lease.name = "house"
    lease.save()

    sync()

    copy = Lease.objects.using(every_pair.remote).get()
    assert (copy.name, copy.landlord_id) == ("house", own.pk)
