"""The kinds of models that the test project has, each with what makes, changes and deletes many of its objects."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Permission
from django.db import transaction
from django.db.models import JSONField, Value
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from benchmarks.databases import LOCAL, REMOTE
from synchro.models import ChangeLog
from tests import factories
from tests.handlers.models import Agent, Express, Shipment
from tests.shop.models import (
    Account,
    Airport,
    Article,
    Author,
    Badge,
    Bin,
    Book,
    Booking,
    Box,
    Cafe,
    Captain,
    Category,
    CheapProduct,
    City,
    Claim,
    Club,
    Comment,
    Country,
    Coupon,
    Crate,
    Currency,
    Delivery,
    Desk,
    Egg,
    Employee,
    Event,
    Fair,
    Flight,
    Folder,
    Gauge,
    Grant,
    Haunted,
    Hen,
    Hidden,
    Holiday,
    Invoice,
    Landmark,
    Lease,
    Legacy,
    Locker,
    Loud,
    Membership,
    Namesake,
    Page,
    Parcel,
    Passport,
    Person,
    Pigeonhole,
    Pile,
    Pizzeria,
    Place,
    Player,
    Playlist,
    Product,
    Profile,
    Rack,
    Rate,
    Reading,
    Restaurant,
    Review,
    Safe,
    Seat,
    Shelf,
    Shirt,
    Slot,
    Song,
    Square,
    Stamped,
    Station,
    Street,
    Stubborn,
    Tag,
    Team,
    Tower,
    Town,
    Track,
    Twin,
    Unmanaged,
    Vague,
    Venue,
    Worded,
)
from tests.values.models import BigAuto, Colour, Custom, Everything, Filled, SmallAuto


def save_each(model: Any) -> None:
    """Save every object again."""
    for each in model._base_manager.order_by("pk"):
        each.save()


@dataclass(frozen=True)
class Kind:
    """One kind of model. What it does is logged on LOCAL, save by save."""

    name: str
    model: Any
    #: Adds so many objects.
    add: Callable[[int], object]
    #: Changes all of them.
    change: Callable[[Any], object] = save_each
    #: Whether somebody listens to the model's signals.
    is_listened: bool = False
    #: How many statements each object may cost by itself, where something has to be asked or done object by object.
    for_each: int = 0
    #: Models of the same kind, or that need this one: what is done is done to their objects, too.
    others: tuple[Any, ...] = ()

    @property
    def models(self) -> tuple[Any, ...]:
        """All models whose objects are added, changed and deleted."""
        return (self.model, *self.others)

    def change_all(self) -> None:
        """Change all objects of each model."""
        for each in self.models:
            self.change(each)

    def delete_all(self) -> None:
        """Delete all objects of each model, those first that need others."""
        for each in reversed(self.models):
            each._base_manager.all().delete()

    @contextmanager
    def listened(self) -> Iterator[None]:
        """Let somebody listen inside the block, if the kind is about that."""
        signals: list[Any] = []
        if self.is_listened:
            signals += [(signal, self.model) for signal in (pre_save, post_save, pre_delete, post_delete)]
            signals += [(m2m_changed, field.remote_field.through) for field in self.model._meta.local_many_to_many]
        for signal, sender in signals:
            signal.connect(_listen, sender=sender, weak=False)
        try:
            yield
        finally:
            for signal, sender in signals:
                signal.disconnect(_listen, sender=sender)


@contextmanager
def at_once() -> Iterator[None]:
    """Log what the block does in one transaction of LOCAL."""
    with transaction.atomic(using=LOCAL):
        yield


def _listen(**kwargs: Any) -> None:
    """Do nothing: what a handler costs is the project's affair."""


def _each(make: Callable[[], object]) -> Callable[[int], object]:
    return lambda count: [make() for _ in range(count)]


def _contest(model: Any) -> None:
    """Both sides change every object; of every other one REMOTE's change is the newer."""
    theirs = [str(pk) for pk in model.objects.using(REMOTE).order_by("pk").values_list("pk", flat=True)]
    log = ChangeLog.objects.using(REMOTE)
    log.append_changes(model, theirs[::2])
    save_each(model)
    log.append_changes(model, theirs[1::2])


def _cities(count: int) -> None:
    country = factories.country()
    _each(lambda: factories.city(country=country))(count)


def _chain(count: int) -> None:
    """The first is their own manager."""
    manager = factories.employee()
    manager.manager = manager
    manager.save()
    for _ in range(count - 1):
        manager = factories.employee(manager=manager)


def _move_up(model: Any) -> None:
    """Give each employee another manager."""
    employees = list(model.objects.order_by("pk"))
    for each, manager in zip(employees[2:], employees, strict=False):
        each.manager = manager
        each.save()
    save_each(model)


def _flights(count: int) -> None:
    origin = factories.make(Airport, code=factories.unique("")[-4:])
    _each(lambda: factories.flight(origin=origin))(count)


def _circles(count: int) -> None:
    for _ in range(count):
        book = factories.book()
        book.author.best_book = book
        book.author.save()


def _playlists(count: int) -> None:
    songs = [factories.song() for _ in range(3)]
    _each(lambda: factories.playlist(*songs))(count)


def _change_members(model: Any) -> None:
    songs = factories.song(), factories.song()
    for each in model.objects.order_by("pk"):
        each.songs.add(*songs)
        each.songs.remove(each.songs.first())


def _ring(count: int) -> None:
    people = [factories.person() for _ in range(count)]
    for each, friend in zip(people, people[1:] + people[:1], strict=True):
        each.friends.add(friend)


def _teams(count: int) -> None:
    person = factories.person()
    _each(lambda: factories.team(person))(count)


def _holidays(count: int) -> None:
    country = factories.country()
    days = [factories.day() + timedelta(days=number) for number in range(count)]
    for day in days:
        factories.make(Holiday, country=country, day=day)


def _rates(count: int) -> None:
    currency = factories.make(Currency, code=f"{count}")
    for number in range(count):
        factories.make(Rate, currency=currency, day=factories.day() + timedelta(days=number))


def _streets(count: int) -> None:
    town = factories.make(Town, name=factories.unique("town"))
    _each(lambda: factories.make(Street, name=factories.unique("street"), town=town))(count)
    for number in range(count):
        factories.make(Coupon, code=f"{number}")


def _rotate(model: Any) -> None:
    """Let each slot take the next one's label and position, and the last one those of the first."""
    slots = list(model.objects.order_by("pk"))
    values = [(each.label, each.position) for each in slots]
    model.objects.filter(pk=slots[0].pk).update(label="aside", position=0)
    for each, (label, position) in zip([*slots[1:], slots[0]], values, strict=True):
        each.label, each.position = label, position
        each.save()


def _shipments(count: int) -> None:
    agents = [factories.agent() for _ in range(2)]
    for _ in range(count):
        factories.shipment(agent=agents[0]).stops.add(agents[1])


def _simple(count: int) -> None:
    for _ in range(count):
        name = factories.unique("name")
        for model in (Vague, Haunted, Stubborn, Legacy, Unmanaged, SmallAuto, BigAuto):
            factories.make(model, name=name)
        factories.make(Loud, text=name)
        factories.make(Worded, select=name)


def _targets(count: int) -> None:
    for number in range(count):
        name = factories.unique("name")
        for model in (Team, Place, Restaurant):
            factories.make(model, name=name)
        factories.make(Song, title=name)
        factories.make(Airport, code=f"{number}")
        factories.make(Venue, hall=name)
        factories.make(Event, topic=name)


def _columns(count: int) -> None:
    """With SQL's NULL, JSON's null and a value in turn."""
    json = (None, Value(None, JSONField()), {"a": [1, 2.5, None]})
    for number in range(count):
        factories.make(Everything, json=json[number % 3], integer=number, text="text", file="files/a.txt")
        factories.make(Filled)
        factories.make(Custom, colour=Colour(1, 2, 3), word="word")


def _folders(count: int) -> None:
    """The root is its own parent, which PostgreSQL looks at when the transaction ends."""
    root = factories.make(Folder, name="root", parent_id=0)
    root.parent = root
    root.save()
    country = factories.country()
    category = factories.make(Category, name="root")
    for _ in range(count - 1):
        factories.make(Folder, name="folder", parent=root, country=country)
        factories.make(Category, name="category", parent=category)


def _hens(count: int) -> None:
    for _ in range(count):
        hen = factories.make(Hen, egg_id=0)
        hen.egg = factories.make(Egg, hen=hen)
        hen.save()


def _bookings(count: int) -> None:
    for number in range(count):
        tag = factories.tag()
        keys: dict[str, Any] = {
            "locker": factories.make(Locker, number=number),
            "tag": tag,
            "parcel": factories.make(Parcel),
        }
        factories.make(Booking, **keys).tags.add(tag)


def _grants(count: int) -> None:
    permission = Permission.objects.order_by("pk")[0]
    _each(lambda: factories.make(Grant, permission=permission, content_type=permission.content_type))(count)


def _accounts(count: int) -> None:
    accounts = [factories.make(Account, name=factories.unique("account")) for _ in range(count)]
    for each, followed in zip(accounts, accounts[1:] + accounts[:1], strict=True):
        each.follows.add(followed)


def _clubs(count: int) -> None:
    for _ in range(count):
        club = factories.make(Club, name=factories.unique("club"))
        club.guests.add(factories.make(Player, name=factories.unique("player"), club=club))


def _claims(count: int) -> None:
    shipment = factories.make(Shipment, number="1")
    for _ in range(count):
        factories.make(Claim, shipment=shipment)


def _pages(count: int) -> None:
    book = factories.make(Book, title="book", author=factories.make(Author, name="author"))
    for number in range(count):
        factories.make(Page, book=book, number=number)


def _stations(count: int) -> None:
    hub = factories.make(Station, name="hub")
    for _ in range(count):
        hub.neighbours.add(factories.make(Station, name="station"))


def _leases(count: int) -> None:
    landlord, tenant = factories.country(), factories.person()
    for _ in range(count):
        factories.make(Lease, name=factories.unique("lease"), landlord=landlord).tenants.add(tenant)


def _places(count: int) -> None:
    for _ in range(count):
        factories.make(Cafe, name=factories.unique("cafe"))
        factories.make(Fair, hall="hall", topic="topic")
        factories.make(Review, restaurant=factories.pizzeria())


def _natural_keys(count: int) -> None:
    for number in range(count):
        name = factories.unique("name")
        factories.make(Country, code=chr(0x4E00 + number))
        factories.make(Currency, code=chr(0x4E00 + number))
        for model in (Town, Namesake, Twin):
            factories.make(model, name=name)
        factories.make(Badge, code=f"{number}")
        factories.make(Reading, depth=number, taken=factories.moment())
        factories.make(Tower, name=name)
        factories.make(Desk, room=name)


def _unique_values(count: int) -> None:
    for number in range(count):
        length = timedelta(seconds=number)
        moment = factories.moment() + length
        factories.make(
            Gauge,
            decimal=number,
            number=number,
            token=uuid.uuid4(),
            day=factories.day() + timedelta(days=number),
            moment=moment,
            hour=moment.time(),
            length=length,
            address=f"10.0.{number // 256}.{number % 256}",
            big=number,
            path=f"gauges/{number}",
        )
        factories.make(Captain, crew=f"{number}", name="captain", is_captain=True)
        factories.make(Shirt, number=number)
        factories.make(Pigeonhole, letter=chr(0x4E00 + number))


def _shelves(count: int) -> None:
    for _ in range(count):
        shelf = factories.make(Shelf, name="shelf")
        for model in _ON_SHELVES:
            factories.make(model, shelf=shelf)


_ON_SHELVES: tuple[Any, ...] = (Bin, Box, Crate, Safe, Rack, Pile)

PLAIN = Kind("plain", Article, _each(factories.article))
INHERITANCE = Kind("three levels of inheritance", Pizzeria, _each(factories.pizzeria))
MANY_TO_MANY = Kind("many to many", Playlist, _playlists, _change_members)
THROUGH = Kind("through model", Membership, _teams)
GENERIC = Kind("generic foreign key", Comment, _each(lambda: factories.make(Comment, target=factories.article())))

#: A delete reads the object, lets the handlers see it, and deletes it with its rows of relations.
_LISTENED: dict[str, Any] = {"is_listened": True, "for_each": 4}
HANDLERS = Kind("handlers", Agent, _each(factories.agent), **_LISTENED)
HANDLERS_AND_MEMBERS = Kind("handlers and many to many", Shipment, _shipments, **_LISTENED)
HANDLERS_AND_INHERITANCE = Kind(
    "handlers and inheritance", Express, _each(lambda: factories.make(Express, number="1")), **_LISTENED
)

KINDS = (
    PLAIN,
    Kind("changed on both sides", Article, _each(factories.article), _contest),
    Kind("foreign key", City, _cities),
    Kind("foreign key to another app", Claim, _claims),
    Kind("foreign key to unwatched", Delivery, _each(factories.delivery)),
    Kind("foreign key to itself", Employee, _chain, _move_up),
    Kind("foreign key to_field", Flight, _flights),
    Kind("circle", Author, _circles, others=(Book,)),
    Kind("circle without NULL", Hen, _hens, others=(Egg,)),
    Kind("trees", Folder, _folders, others=(Category,)),
    Kind("foreign keys to keys of all kinds", Locker, _bookings, others=(Booking,)),
    Kind("foreign keys to rows of migrations", Grant, _grants),
    Kind("targets of foreign keys", Song, _targets, others=(Team, Place, Restaurant, Airport, Venue, Event)),
    Kind("on_delete of every kind", Shelf, _shelves, others=_ON_SHELVES),
    Kind("one to one", Passport, _each(lambda: factories.make(Passport, employee=factories.employee()))),
    # The users' manager is asked twice for each: where profiles point to, and under the lock before the user is added.
    Kind(
        "one to one with the user", Profile, _each(lambda: factories.make(Profile, user=factories.user())), for_each=2
    ),
    GENERIC,
    INHERITANCE,
    Kind("other kinds of inheritance", Cafe, _places, others=(Fair, Review)),
    Kind("proxy", CheapProduct, _each(lambda: factories.make(CheapProduct, sku=factories.unique("sku")))),
    MANY_TO_MANY,
    Kind("many to many with itself", Person, _ring),
    Kind("many to many in one direction", Account, _accounts),
    Kind("many to many in a circle", Club, _clubs, others=(Player,)),
    THROUGH,
    Kind("many to many with itself through a model", Station, _stations, others=(Track,)),
    Kind("text key", Tag, _each(factories.tag)),
    Kind("UUID key", Parcel, _each(lambda: factories.make(Parcel))),
    Kind("composite key", Seat, _each(factories.seat)),
    Kind("composite key with a foreign key", Page, _pages),
    Kind("natural key", Product, _each(factories.product)),
    Kind(
        "natural keys of every kind",
        Country,
        _natural_keys,
        others=(Currency, Town, Namesake, Twin, Badge, Reading, Tower, Landmark, Desk),
        # Only Currency's own manager knows what its key means, and it is asked for one at a time.
        for_each=1,
    ),
    Kind("natural key with a foreign key", Holiday, _holidays),
    Kind("natural key through a foreign key", Rate, _rates),
    # Only the project's manager knows what the key means, and it is asked for one at a time.
    Kind("natural key of its own manager", Street, _streets, others=(Coupon,), for_each=1),
    Kind("unique values rotated", Slot, _each(factories.slot), _rotate),
    Kind("unique values of every kind", Gauge, _unique_values, others=(Captain, Shirt, Pigeonhole)),
    Kind("columns of every kind", Everything, _columns, others=(Filled, Custom)),
    Kind(
        "odd names and methods",
        Vague,
        _simple,
        others=(Haunted, Loud, Stubborn, Legacy, Worded, Unmanaged, SmallAuto, BigAuto),
    ),
    Kind("skipped relations", Lease, _leases),
    Kind("skipped fields", Invoice, _each(lambda: factories.make(Invoice, number="1"))),
    Kind("generated columns", Square, _each(lambda: factories.make(Square, side=2))),
    Kind("auto_now", Stamped, _each(lambda: factories.make(Stamped, name="a"))),
    Kind("hidden rows", Hidden, _each(lambda: factories.make(Hidden, name="a", visible=False))),
    HANDLERS,
    HANDLERS_AND_MEMBERS,
    HANDLERS_AND_INHERITANCE,
)
