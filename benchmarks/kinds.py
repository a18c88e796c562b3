"""The kinds of models that the test project has, each with what makes, changes and deletes many of its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from benchmarks.databases import LOCAL, REMOTE
from synchro.models import ChangeLog
from tests import factories
from tests.handlers.models import Agent, Express, Shipment
from tests.shop.models import (
    Airport,
    Article,
    Author,
    CheapProduct,
    City,
    Comment,
    Currency,
    Delivery,
    Employee,
    Flight,
    Hidden,
    Holiday,
    Invoice,
    Membership,
    Parcel,
    Passport,
    Person,
    Pizzeria,
    Playlist,
    Product,
    Rate,
    Seat,
    Slot,
    Square,
    Stamped,
    Street,
    Tag,
    Town,
)


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
    Kind("foreign key to unwatched", Delivery, _each(factories.delivery)),
    Kind("foreign key to itself", Employee, _chain, _move_up),
    Kind("foreign key to_field", Flight, _flights),
    Kind("circle", Author, _circles),
    Kind("one to one", Passport, _each(lambda: factories.make(Passport, employee=factories.employee()))),
    GENERIC,
    INHERITANCE,
    Kind("proxy", CheapProduct, _each(lambda: factories.make(CheapProduct, sku=factories.unique("sku")))),
    MANY_TO_MANY,
    Kind("many to many with itself", Person, _ring),
    THROUGH,
    Kind("text key", Tag, _each(factories.tag)),
    Kind("UUID key", Parcel, _each(lambda: factories.make(Parcel))),
    Kind("composite key", Seat, _each(factories.seat)),
    Kind("natural key", Product, _each(factories.product)),
    Kind("natural key with a foreign key", Holiday, _holidays),
    Kind("natural key through a foreign key", Rate, _rates),
    # Only the project's manager knows what the key means, and it is asked for one at a time.
    Kind("natural key of its own manager", Street, _streets, for_each=1),
    Kind("unique values rotated", Slot, _each(factories.slot), _rotate),
    Kind("skipped fields", Invoice, _each(lambda: factories.make(Invoice, number="1"))),
    Kind("generated columns", Square, _each(lambda: factories.make(Square, side=2))),
    Kind("auto_now", Stamped, _each(lambda: factories.make(Stamped, name="a"))),
    Kind("hidden rows", Hidden, _each(lambda: factories.make(Hidden, name="a", visible=False))),
    HANDLERS,
    HANDLERS_AND_MEMBERS,
    HANDLERS_AND_INHERITANCE,
)
