"""Objects that need each other on REMOTE: whichever comes first, the engine ends, and everything arrives."""

from __future__ import annotations

import pytest

from tests import factories
from tests.assertions import assert_in_step
from tests.databases import Pair
from tests.roads import ROADS, Road
from tests.shop.models import Author, Book, Category, Club, Employee, Player


@pytest.mark.parametrize("bring", ROADS)
def test_a_member_that_points_to_the_owner(pair: Pair, bring: Road) -> None:
    """The player needs the club, and the club's list of guests needs the player."""
    club = factories.make(Club, name="a")
    players = [factories.make(Player, name=name, club=club) for name in "bc"]
    club.guests.set(players)

    bring()

    assert_in_step(Club, Player)


@pytest.mark.parametrize("bring", ROADS)
def test_two_clubs_and_each_other_s_players(pair: Pair, bring: Road) -> None:
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
def test_two_circles_that_meet(pair: Pair, bring: Road) -> None:
    """An author's best book is by another author, whose best book is by the first one."""
    authors = [factories.make(Author, name=name) for name in "ab"]
    books = [factories.make(Book, title=each.name, author=each) for each in authors]
    for author, book in zip(authors, reversed(books), strict=True):
        author.best_book = book
        author.save()

    bring()

    assert_in_step(Author, Book)


@pytest.mark.parametrize("bring", ROADS)
def test_a_circle_with_a_tail(pair: Pair, bring: Road) -> None:
    first, second = factories.make(Category, name="1"), factories.make(Category, name="2")
    first.parent, second.parent = second, first
    first.save()
    second.save()
    factories.make(Category, name="3", parent=factories.make(Category, name="4", parent=first))

    bring()

    assert_in_step(Category)
