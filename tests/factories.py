"""Objects of the test project with defaults for what a test does not care about, on LOCAL if ``using`` is not given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.db.models import Model

from tests.handlers.models import Agent, Shipment
from tests.shop.models import (
    Airport,
    Article,
    Author,
    Book,
    City,
    Country,
    Delivery,
    Egg,
    Employee,
    Flight,
    Folder,
    Hen,
    Membership,
    Person,
    Pizzeria,
    Playlist,
    Product,
    Seat,
    Slot,
    Song,
    Tag,
    Team,
)
from tests.unwatched.models import Continent, Region, Supplier

M = TypeVar("M", bound=Model)

_numbers = itertools.count(1)


def make(model: type[M], *, using: str | None = None, **values: Any) -> M:
    """Save a new object of any model."""
    instance = model(**values)
    instance.save(using=using or settings.SYNCHRO_LOCAL, force_insert=True)
    return instance


def unique(text: str) -> str:
    """Return a text that no other call returned."""
    return f"{text}-{next(_numbers)}"


def article(**values: Any) -> Article:
    return make(Article, **{"title": unique("article"), "text": "Some words.", "words": 2, **values})


def product(**values: Any) -> Product:
    return make(Product, **{"sku": unique("sku"), "name": "Chair", "price": Decimal("19.90"), "stock": 3, **values})


def country(**values: Any) -> Country:
    number = next(_numbers)
    code = chr(65 + number // 26 % 26) + chr(65 + number % 26)
    return make(Country, **{"code": code, "name": "Somewhere", **values})


def city(*, using: str | None = None, **values: Any) -> City:
    if "country" not in values:
        values["country"] = country(using=using)
    return make(City, using=using, **{"name": unique("city"), "population": 1000, **values})


def tag(**values: Any) -> Tag:
    return make(Tag, **{"slug": unique("tag"), "title": "A tag", **values})


def seat(**values: Any) -> Seat:
    return make(Seat, **{"row": "A", "number": next(_numbers), "guest": "Ann", **values})


def employee(**values: Any) -> Employee:
    return make(Employee, **{"name": unique("employee"), **values})


def book(*, using: str | None = None, **values: Any) -> Book:
    if "author" not in values:
        values["author"] = make(Author, using=using, name=unique("author"))
    return make(Book, using=using, **{"title": unique("book"), **values})


def flight(*, using: str | None = None, **values: Any) -> Flight:
    if values.keys().isdisjoint({"origin", "origin_id"}):
        values["origin"] = make(Airport, using=using, code=f"X{next(_numbers) % 1000:03}")
    return make(Flight, using=using, **{"number": unique("LH"), **values})


def delivery(*, using: str | None = None, **values: Any) -> Delivery:
    """Save a delivery whose supplier is the start of a chain of three unwatched models."""
    if "supplier" not in values:
        continent = make(Continent, using=using, name=unique("continent"))
        region = make(Region, using=using, code=unique("r"), continent=continent)
        values["supplier"] = make(Supplier, using=using, name=unique("supplier"), region=region)
    return make(Delivery, using=using, **{"number": 1, **values})


def song(**values: Any) -> Song:
    return make(Song, **{"title": unique("song"), **values})


def playlist(*songs: Song, **values: Any) -> Playlist:
    made = make(Playlist, **{"name": unique("playlist"), **values})
    made.songs.set(songs)
    return made


def person(**values: Any) -> Person:
    return make(Person, **{"name": unique("person"), **values})


def team(*members: Person, using: str | None = None, **values: Any) -> Team:
    made = make(Team, using=using, **{"name": unique("team"), **values})
    for member in members:
        make(Membership, using=using, team=made, person=member)
    return made


def pizzeria(**values: Any) -> Pizzeria:
    return make(Pizzeria, **{"name": unique("pizzeria"), "address": "1 Main St", "stars": 2, **values})


def slot(**values: Any) -> Slot:
    number = next(_numbers)
    defaults = {"label": unique("slot"), "position": number, "reserve": number, "row": number, "column": 0}
    return make(Slot, **{**defaults, **values})


def agent(**values: Any) -> Agent:
    return make(Agent, **{"name": unique("agent"), "balance": 1, **values})


def shipment(**values: Any) -> Shipment:
    return make(Shipment, **{"number": unique("shipment"), **values})


def user(*, using: str | None = None, **values: Any) -> Any:
    return make(get_user_model(), using=using, **{"username": unique("user"), **values})


def moment(*, microsecond: int = 123456) -> datetime:
    """Return an aware moment with microseconds."""
    return datetime(2024, 2, 29, 23, 59, 59, microsecond, tzinfo=UTC)


def day() -> date:
    return date(2024, 2, 29)


def hen_and_egg(*, using: str | None = None) -> list[Any]:
    """Save two objects that cannot be without each other, which takes keys that are not checked at once."""
    with keys_checked_later(using or settings.SYNCHRO_LOCAL) as alias:
        hen = make(Hen, egg_id=5, using=alias)
        return [hen, make(Egg, id=5, hen=hen, using=alias)]


def two_folders(*, using: str | None = None) -> list[Any]:
    """Save two folders, each of which is in the other one."""
    with keys_checked_later(using or settings.SYNCHRO_LOCAL) as alias:
        pairs = ((5, 6), (6, 5))
        return [make(Folder, id=pk, name=unique("folder"), parent_id=parent, using=alias) for pk, parent in pairs]


@contextmanager
def keys_checked_later(alias: str) -> Iterator[str]:
    """Open a transaction in which foreign keys may point to nothing until its end, on any vendor."""
    with transaction.atomic(using=alias), connections[alias].constraint_checks_disabled():
        yield alias
