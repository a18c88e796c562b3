"""Objects that need each other on REMOTE: whichever comes first, the engine ends, and everything arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.signals import pre_save

from synchro import DisableSynchroLog, engine
from synchro.engine import batch
from synchro.models import ChangeLog, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending
from tests.databases import VENDORS, Pair
from tests.faults import Crash
from tests.roads import ROADS, TRIES, Road, Try, run_task, sync
from tests.shop.models import Author, Book, Category, Club, Country, Egg, Employee, Folder, Hen, Player
from tests.vendors import marks


@pytest.mark.parametrize("bring", ROADS)
def test_a_member_that_points_to_the_owner(each_vendor: Pair, bring: Road) -> None:
    """The player needs the club, and the club's list of guests needs the player."""
    club = factories.make(Club, name="a")
    players = [factories.make(Player, name=name, club=club) for name in "bc"]
    club.guests.set(players)

    bring()

    assert_in_step(Club, Player)


@pytest.mark.parametrize("bring", ROADS)
def test_two_clubs_and_each_other_s_players(each_vendor: Pair, bring: Road) -> None:
    clubs = [factories.make(Club, name=name) for name in "ab"]
    players = [factories.make(Player, name=name, club=club) for name, club in zip("cd", clubs, strict=True)]
    for club, guest in zip(clubs, reversed(players), strict=True):
        club.guests.add(guest)

    bring()

    assert_in_step(Club, Player)


@pytest.mark.parametrize("bring", ROADS)
def test_three_objects_in_a_circle(each_vendor: Pair, bring: Road) -> None:
    people = [factories.employee(name=name) for name in "abc"]
    for index, each in enumerate(people):
        each.manager = people[index - 1]
        each.save()

    bring()

    assert_in_step(Employee)


@pytest.mark.parametrize("bring", ROADS)
def test_two_circles_that_meet(each_vendor: Pair, bring: Road) -> None:
    """An author's best book is by another author, whose best book is by the first one."""
    authors = [factories.make(Author, name=name) for name in "ab"]
    books = [factories.make(Book, title=each.name, author=each) for each in authors]
    for author, book in zip(authors, reversed(books), strict=True):
        author.best_book = book
        author.save()

    bring()

    assert_in_step(Author, Book)


@pytest.mark.parametrize("bring", ROADS)
def test_a_circle_with_a_tail(each_vendor: Pair, bring: Road) -> None:
    first, second = factories.make(Category, name="1"), factories.make(Category, name="2")
    first.parent, second.parent = second, first
    first.save()
    second.save()
    factories.make(Category, name="3", parent=factories.make(Category, name="4", parent=first))

    bring()

    assert_in_step(Category)


# Keys that may not be null


circles = pytest.mark.parametrize("make", [factories.hen_and_egg, factories.two_folders])


@pytest.mark.parametrize("bring", ROADS)
@circles
def test_a_circle_of_required_keys(pair: Pair, make: Callable[[], list[Any]], bring: Road) -> None:
    """It arrives in one transaction where the vendor checks when it commits."""
    circle = make()

    bring()

    assert_in_step(*{type(each) for each in circle})


@pytest.mark.parametrize("bring", TRIES)
@pytest.mark.parametrize(
    "every_pair",
    [pytest.param(Pair(f"{local}_a", "mariadb_b"), id=local, marks=marks(local, "mariadb")) for local in VENDORS],
    indirect=True,
)
@circles
def test_a_circle_of_required_keys_where_each_row_is_checked_at_once(
    every_pair: Pair, make: Callable[[], list[Any]], bring: Try
) -> None:
    """None of the circle can be the first one: both fail and say why, and REMOTE stays as it was."""
    circle = make()

    failures = bring()

    assert {(each.model, each.object_id) for each in failures} == {(each._meta.label, str(each.pk)) for each in circle}
    reasons = ChangeLog.objects.pending().values_list("reason", flat=True)
    assert sorted(reasons) == sorted(each.error for each in failures)
    assert all("point to each other" in each and len(each) < 300 for each in reasons)
    assert not any(type(each)._base_manager.using(every_pair.remote).exists() for each in circle)
    assert not Reference.objects.exists()
    assert not Reference.objects.using(every_pair.remote).exists()


def test_a_circle_of_required_keys_that_nobody_logged(pair: Pair) -> None:
    with DisableSynchroLog():
        first, second = factories.two_folders()
    factories.make(Folder, name="logged", parent=second)

    sync()

    assert_in_step(Folder)
    assert Folder.objects.using(pair.remote).count() == 3
    assert_nothing_pending()


def test_what_hangs_on_a_circle_and_what_it_needs(pair: Pair) -> None:
    """A parent of the unlogged kind on one end, children in any number on the other one."""
    with DisableSynchroLog():
        country = factories.country()
    folders = factories.two_folders()
    for each in folders:
        each.country = country
        each.save()
    children = [factories.make(Folder, name=name, parent=folders[0]) for name in "abc"]

    for each in children:
        run_task("shop.Folder", str(each.pk))
    sync()

    assert_in_step(Folder, Country)
    assert_nothing_pending()


def test_a_folder_that_is_its_own_parent(pair: Pair) -> None:
    """REMOTE's automatic key of it is not known before it is there."""
    factories.make(Folder, pk=500, name="root", parent_id=500)

    sync()

    assert_in_step(Folder)


def test_an_object_of_a_circle_that_cannot_be_copied(pair: Pair) -> None:
    """Nothing of the circle arrives, and nothing with keys that lead nowhere."""

    def refuse(instance: Folder, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.name == "bad":
            raise ValueError

    folders = factories.two_folders()
    folders[0].name = "bad"
    folders[0].save()
    pre_save.connect(refuse, sender=Folder)
    try:
        report = engine.sync_pending()
    finally:
        pre_save.disconnect(refuse, sender=Folder)

    assert len(report.failures) == 2
    assert not Folder.objects.using(pair.remote).exists()
    assert not Reference.objects.using(pair.remote).exists()

    sync()
    assert_in_step(Folder)


def test_killed_in_the_middle_of_a_circle(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.hen_and_egg()
    rounds: list[str] = []

    def dying(link: Any, model: Any, plan: Any) -> Any:
        rounds.append(model.__name__)
        if len(rounds) == 3:
            raise Crash
        return write(link, model, plan)

    write = batch.write
    with monkeypatch.context() as patched:
        patched.setattr(batch, "write", dying)
        with pytest.raises(Crash):
            engine.sync_pending()

    assert not Hen.objects.using(pair.remote).exists()
    assert not Egg.objects.using(pair.remote).exists()
    sync()
    assert_in_step(Hen, Egg)
