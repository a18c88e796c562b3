"""Whatever happens on LOCAL, and in whatever order its changes are brought: once nothing is pending, REMOTE is equal.

Objects are compared by the names that the machine gives them, not by what synchro remembers of them.

The histories are the same in each run. SYNCHRO_TEST_HISTORIES=1000 plays so many others for each pair of databases.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from synchro import engine
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import assert_nothing_pending, assert_references_agree
from tests.databases import Pair, empty
from tests.roads import pending_objects, run_task
from tests.shop.models import (
    Author,
    Book,
    Category,
    Comment,
    Employee,
    Membership,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Slot,
    Song,
    Tag,
    Team,
)

#: What identifies the objects of each model, and their values, by the names of what they point to.
COLUMNS: dict[type[Model], tuple[str, ...]] = {
    Author: ("name", "best_book__title"),
    Book: ("title", "author__name"),
    Category: ("name", "parent__name"),
    Comment: ("text", "content_type__model"),
    Employee: ("name", "manager__name"),
    Membership: ("team__name", "person__name", "role", "inviter__name"),
    Person: ("name", "friends__name"),
    Pizzeria: ("name", "address", "stars", "oven", "partner__name", "music__title"),
    Place: ("name", "address"),
    Playlist: ("name", "songs__title"),
    Slot: ("label", "position", "reserve", "row", "column"),
    Song: ("title",),
    Tag: ("slug", "title"),
    Team: ("name",),
}
#: Foreign keys that are moved from one target to another.
KEYS: list[tuple[type[Model], str, type[Model], bool]] = [
    (Author, "best_book", Book, True),
    (Book, "author", Author, False),
    (Category, "parent", Category, True),
    (Employee, "manager", Employee, True),
    (Membership, "inviter", Person, True),
    (Pizzeria, "partner", Place, True),
]
#: Attributes that hold a plain value.
VALUES = [(Book, "title"), (Employee, "name"), (Place, "address"), (Pizzeria, "oven"), (Song, "title"), (Tag, "title")]
#: Many-to-many relations: owner, attribute, member.
SETS = [(Playlist, "songs", Song), (Person, "friends", Person), (Team, "members", Person), (Pizzeria, "music", Song)]
TAGS = ["a", "b/c", "ü"]

number = st.integers(0, 30)


class History(RuleBasedStateMachine):
    """Any history of LOCAL between two moments at which nothing is pending."""

    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        for alias in (self.pair.local, self.pair.remote):
            empty(alias)
            ContentType.objects.clear_cache()
        self.count = 0

    def teardown(self) -> None:
        self.bring_all()
        self.remote_is_equal_when_nothing_is_pending()

    @initialize()
    def begin(self) -> None:
        """Most histories are about objects that have arrived long ago."""
        for _ in range(2):
            for kind in (Author, Category, Employee, Person, Playlist, Pizzeria, Slot, Song, Team):
                self._create(kind, 0)
            self.create_book(0)
        pick(Playlist, 0).songs.add(pick(Song, 0))
        pick(Team, 0).members.add(pick(Person, 0))
        pick(Person, 0).friends.add(pick(Person, 1))
        self.bring_all()

    # What people do

    @rule(kind=st.sampled_from([Author, Category, Employee, Person, Playlist, Pizzeria, Slot, Song, Team]), to=number)
    def create(self, kind: type[Model], to: int) -> None:
        self._create(kind, to)

    @rule(slug=st.sampled_from(TAGS))
    def create_tag(self, slug: str) -> None:
        """A key that may have lived before."""
        if not Tag.objects.filter(pk=slug).exists():
            factories.make(Tag, slug=slug, title=self._name())

    @rule(to=number)
    def create_book(self, to: int) -> None:
        if author := pick(Author, to):
            factories.make(Book, title=self._name(), author=author)

    @rule(to=number, kind=st.sampled_from([Employee, Place, Tag, Comment, Slot]))
    def comment(self, to: int, kind: type[Model]) -> None:
        if target := pick(kind, to):
            factories.make(Comment, text=self._name(), target=target)

    @rule(which=st.sampled_from(VALUES), one=number)
    def change(self, which: tuple[type[Model], str], one: int) -> None:
        kind, name = which
        if chosen := pick(kind, one):
            setattr(chosen, name, self._name())
            chosen.save()

    @rule(key=st.sampled_from(KEYS), one=number, to=number, empty=st.booleans())
    def move(self, key: tuple[type[Model], str, type[Model], bool], one: int, to: int, empty: bool) -> None:
        kind, name, target, nullable = key
        chosen, new = pick(kind, one), None if empty and nullable else pick(target, to)
        if chosen and (new or nullable):
            setattr(chosen, name, new)
            chosen.save()

    @rule(kind=st.sampled_from([*COLUMNS]), one=number)
    def delete(self, kind: type[Model], one: int) -> None:
        """Comments about objects with automatic keys go along: alone, they could not be copied."""
        if chosen := pick(kind, one):
            chosen.delete()
            while dangling := [each for each in Comment.objects.all() if is_about_nothing(each)]:
                for comment in dangling:
                    comment.delete()

    @rule(one=number)
    def delete_the_child_alone(self, one: int) -> None:
        if chosen := pick(Pizzeria, one):
            chosen.delete(keep_parents=True)

    @rule(which=st.sampled_from(SETS), one=number, members=st.lists(number, max_size=3), how=st.integers(0, 3))
    def link(self, which: tuple[type[Model], str, type[Model]], one: int, members: list[int], how: int) -> None:
        kind, name, member = which
        chosen = pick(kind, one)
        others = {found for each in members if (found := pick(member, each))}
        if not chosen:
            return
        relation: Any = getattr(chosen, name)
        if how == 0:
            relation.remove(*others)
        elif how == 1:
            relation.set(others)
        elif how == 2 and not others:
            relation.clear()
        else:
            relation.add(*others)

    @rule(one=number, role=st.sampled_from(["captain", "player"]))
    def change_role(self, one: int, role: str) -> None:
        if chosen := pick(Membership, one):
            chosen.role = role
            chosen.save()

    @rule(slots=st.lists(number, min_size=2, max_size=4), name=st.sampled_from(["label", "position", "reserve", "row"]))
    def rotate(self, slots: list[int], name: str) -> None:
        chosen = list({each.pk: each for one in slots if (each := pick(Slot, one))}.values())
        values = [getattr(each, name) for each in chosen]
        with transaction.atomic(using=self.pair.local):
            for each in chosen:
                self.count += 1
                setattr(each, name, f"aside {self.count}" if name == "label" else -self.count)
                each.save()
            for each, value in zip(chosen, values[1:] + values[:1], strict=True):
                setattr(each, name, value)
                each.save()

    @rule(kind=st.sampled_from([Employee, Person, Slot]), one=number, inner=st.booleans())
    def think_better_of_it(self, kind: type[Model], one: int, inner: bool) -> None:
        """Roll back everything, or to a savepoint."""
        with transaction.atomic(using=self.pair.local):
            self._create(kind, one)
            with transaction.atomic(using=self.pair.local):
                if chosen := pick(kind, one):
                    chosen.delete()
                self._create(kind, one)
                transaction.set_rollback(inner, using=self.pair.local)
            transaction.set_rollback(not inner, using=self.pair.local)

    # What workers do

    @precondition(lambda self: bool(pending_objects()))
    @rule(one=number, size=st.sampled_from([1, 3, 1000]))
    def bring_one(self, one: int, size: int) -> None:
        objects = pending_objects()
        with override_settings(SYNCHRO_BATCH_SIZE=size):
            report = engine.sync_object(*objects[one % len(objects)])
        assert report.failures == ()

    @rule(one=number)
    def bring_again(self, one: int) -> None:
        """A message that comes once more, or late."""
        if entry := pick(ChangeLog, one):
            model: Any = entry.content_type.model_class()
            assert run_task(model._meta.label, entry.object_id).failures == ()

    @rule()
    def bring_all(self) -> None:
        assert engine.sync_pending().failures == ()
        assert_nothing_pending()

    @invariant()
    def remote_is_equal_when_nothing_is_pending(self) -> None:
        if ChangeLog.objects.pending().exists():
            return
        assert_references_agree()
        for kind, columns in COLUMNS.items():
            here, there = (Counter(rows(kind, columns, using)) for using in (self.pair.local, self.pair.remote))
            assert there == here, kind.__name__
        assert targets(self.pair.remote) == targets(self.pair.local)

    # Helpers

    def _name(self) -> str:
        self.count += 1
        return f"name {self.count}"

    def _create(self, kind: type[Model], to: int) -> None:
        name = self._name()
        values: dict[type[Model], Callable[[], dict[str, Any]]] = {
            Category: lambda: {"name": name, "parent": pick(Category, to)},
            Employee: lambda: {"name": name, "manager": pick(Employee, to)},
            Song: lambda: {"title": name},
            Slot: lambda: {"label": name, "position": self.count, "reserve": self.count or None, "row": self.count},
        }
        factories.make(kind, **values.get(kind, lambda: {"name": name})())


def pick(kind: type[Model], one: int) -> Any:
    """Return one of LOCAL's objects; None if there is none."""
    objects = kind._base_manager.order_by("pk")
    count = objects.count()
    return objects[one % count] if count else None


def is_about_nothing(comment: Comment) -> bool:
    return comment.content_type.model_class() is not Tag and comment.target is None


def rows(kind: type[Model], columns: tuple[str, ...], using: str) -> list[tuple[Any, ...]]:
    return list(kind._base_manager.using(using).values_list(*columns))


def targets(using: str) -> list[tuple[str, Any]]:
    """Return what each comment is about: a dangling one is about nothing on both sides."""
    found = []
    for comment in Comment.objects.using(using).order_by("text"):
        model: Any = ContentType.objects.using(using).get(pk=comment.content_type_id).model_class()
        target = model._base_manager.using(using).filter(pk=comment.object_id).first()
        names = ("name", "slug", "label", "text")
        found.append((comment.text, next((getattr(target, name) for name in names if hasattr(target, name)), None)))
    return found


def test_any_history(some_pairs: Pair) -> None:
    others = os.environ.get("SYNCHRO_TEST_HISTORIES")
    # The name is what hypothesis draws from if it draws the same in each run: each pair has histories of its own.
    machine = type(f"History from {some_pairs}", (History,), {"pair": some_pairs})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(others or 25),
            stateful_step_count=40,
            deadline=None,
            derandomize=others is None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
