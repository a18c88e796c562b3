"""Two databases that diverge at random are equal after a comparison, and rows that were equal are left alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Model

from synchro import DisableSynchroLog
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import _Identities, assert_in_step
from tests.comparing import assert_agree, full
from tests.databases import Pair
from tests.integration.test_compare_objects import fill
from tests.roads import sync
from tests.shop.models import (
    Account,
    Article,
    Author,
    Book,
    City,
    Club,
    Country,
    Employee,
    Locker,
    Membership,
    Passport,
    Person,
    Pizzeria,
    Place,
    Player,
    Playlist,
    Product,
    Restaurant,
    Seat,
    Song,
    Tag,
    Team,
)

MODELS: list[type[Model]] = [
    *(Account, Article, Author, Book, City, Club, Country, Employee, Locker, Membership, Passport, Person, Pizzeria),
    *(Place, Player, Playlist, Product, Restaurant, Seat, Song, Tag, Team),
]
COLUMNS = {
    Article: "title", Product: "name", City: "name", Country: "name", Locker: "note", Tag: "title", Seat: "guest",
    Place: "address", Pizzeria: "oven", Membership: "role", Song: "title", Employee: "name", Passport: "number",
}  # fmt: skip
KEYS = {Book: "author", City: "country", Employee: "manager", Membership: "inviter", Pizzeria: "partner"}
SETS: list[Any] = [Playlist.songs, Person.friends, Account.follows, Pizzeria.music, Club.guests]
NEW: list[Callable[..., Any]] = [
    *(factories.article, factories.city, factories.product, factories.song, factories.tag, factories.seat),
    *(factories.employee, factories.person, factories.book, factories.pizzeria, factories.flight),
]


class Divergence:
    """Changes one side at random, without anybody noticing."""

    def __init__(self, seed: int, pair: Pair) -> None:
        self.random = random.Random(seed)
        self.pair = pair

    def cause(self, count: int) -> None:
        """Make so many changes; what the database refuses is left out."""
        for _ in range(count):
            using = self.random.choice([self.pair.local, self.pair.local, self.pair.remote])
            change = self.random.choice([self.edit, self.edit, self.point, self.link, self.unlink, self.add, self.drop])
            try:
                with DisableSynchroLog(), transaction.atomic(using=using):
                    change(using)
            except (DatabaseError, IndexError):
                pass  # nothing to choose from, or not possible

    def edit(self, using: str) -> None:
        model = self.random.choice(list(COLUMNS))
        self._row(model, using).update(**{COLUMNS[model]: f"edited {self.random.random():.6f}"})

    def point(self, using: str) -> None:
        model = self.random.choice(list(KEYS))
        name = KEYS[model]
        target: Any = model._meta.get_field(name).related_model
        self._row(model, using).update(**{name: self._row(target, using).get()})

    def link(self, using: str) -> None:
        relation = self.random.choice(SETS)
        through, near, far = self._ends(relation)
        pair = {
            near.name: self._row(near.related_model, using).get(),
            far.name: self._row(far.related_model, using).get(),
        }
        through._base_manager.using(using).create(**pair)

    def unlink(self, using: str) -> None:
        through, _, _ = self._ends(self.random.choice(SETS))
        self._row(through, using).delete()

    def add(self, using: str) -> None:
        self.random.choice(NEW)(using=using)

    def drop(self, using: str) -> None:
        self._row(self.random.choice(MODELS), using).get().delete(using=using)

    def _row(self, model: Any, using: str) -> Any:
        rows = model._base_manager.using(using)
        pk = self.random.choice(list(rows.order_by("pk").values_list("pk", flat=True)))
        return rows.filter(pk=pk)

    @staticmethod
    def _ends(relation: Any) -> tuple[Any, Any, Any]:
        field, through = relation.field, relation.through
        names = field.m2m_field_name(), field.m2m_reverse_field_name()
        return through, *(through._meta.get_field(name) for name in names)


def equal_objects() -> set[tuple[str, str]]:
    """Return the LOCAL objects that are the same on both sides, as the assertions of the tests see it."""
    identities = _Identities()
    found = set()
    for model in MODELS:
        there = identities.snapshots(model, identities.remote)
        for each in model._base_manager.using(identities.local):
            same = there.get(repr(identities.of(each, identities.local)))
            if same == [identities.snapshot(each, identities.local)]:
                found.add((str(model._meta.model_name), str(each.pk)))
    return found


def check(pair: Pair, seed: int) -> None:
    for _ in range(2):
        fill_more()
    sync()
    Divergence(seed, pair).cause(40)
    equal = equal_objects()
    last = ChangeLog.objects.latest("pk").pk

    tallies, _ = full(delete_extra=True, batch_size=5)

    assert [each for each in tallies.values() if each.error or each.failed] == []
    assert sum(each.differences for each in tallies.values()) > 5
    assert equal
    entries = ChangeLog.objects.filter(pk__gt=last, action=ChangeLog.Action.CHANGE).select_related("content_type")
    assert equal & {(each.content_type.model, each.object_id) for each in entries} == set()
    assert_in_step(*MODELS)
    assert_agree()


def fill_more() -> None:
    for make in NEW:
        make()
    song = factories.song()
    factories.playlist(song, factories.song())
    ann = factories.person()
    ann.friends.add(factories.person())
    factories.team(ann)
    factories.make(Account, name="a").follows.add(factories.make(Account, name="b"))
    factories.make(Passport, employee=factories.employee(manager=factories.employee()), number="7")
    club = factories.make(Club, name="c")
    club.guests.add(factories.make(Player, name="p", club=club))
    factories.make(Locker, number=Locker.objects.count() + 1)


@pytest.mark.parametrize("seed", range(3))
def test_any_divergence(pair: Pair, seed: int) -> None:
    check(pair, seed)


def test_any_divergence_between_any_vendors(every_pair: Pair) -> None:
    check(every_pair, 99)


def test_the_helper_fills(sqlite_pair: Pair) -> None:
    """All that the other tests compare is there to diverge."""
    fill_more()
    fill()

    assert [model for model in MODELS if not model._base_manager.exists()] == []
