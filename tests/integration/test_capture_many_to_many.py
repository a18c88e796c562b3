"""Capture of many-to-many relations: which owners are logged, and which rows of an explicit through model."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import override_settings

from synchro import DisableSynchroLog
from tests import factories
from tests.assertions import logged
from tests.databases import Pair
from tests.integration.test_capture import forget, rolled_back
from tests.queries import kinds, queries
from tests.shop.models import Account, Booking, Membership, Person, Pizzeria, Playlist, Song, Station, Team, Track
from tests.unwatched.models import Genre


def owners(*objects: Playlist | Song | Person | Account | Pizzeria | Booking) -> set[tuple[str, str, str]]:
    """Return the entries that a change of these owners' relations leaves."""
    return {(each._meta.model_name or "", str(each.pk), "M2M") for each in objects}


@pytest.fixture
def playlists(pair: Pair) -> list[Playlist]:
    """Two playlists, of which the first has two songs and the second shares one of them."""
    first, second = factories.song(title="First"), factories.song(title="Second")
    made = [factories.playlist(first, second), factories.playlist(second)]
    factories.playlist()
    forget()
    return made


def test_forward(playlists: list[Playlist]) -> None:
    playlist, _ = playlists
    song = factories.song()
    forget()

    playlist.songs.add(song)
    assert logged() == [*owners(playlist)]
    playlist.songs.remove(song)
    assert logged() == [*owners(playlist)] * 2
    playlist.songs.clear()
    assert logged() == [*owners(playlist)] * 3
    playlist.songs.set([song])
    assert logged() == [*owners(playlist)] * 4


def test_create_through_the_relation(playlists: list[Playlist]) -> None:
    playlist, _ = playlists
    song = playlist.songs.create(title="New")

    assert logged() == [("song", str(song.pk), "ADD"), *owners(playlist)]


def test_set_that_adds_and_removes(playlists: list[Playlist]) -> None:
    playlist, _ = playlists
    song = factories.song()
    forget()

    playlist.songs.set([song])

    assert set(logged()) == owners(playlist)


def test_what_changes_nothing_is_not_logged(playlists: list[Playlist]) -> None:
    playlist, _ = playlists
    songs = list(playlist.songs.all())

    playlist.songs.add(*songs)
    playlist.songs.set(songs)
    playlist.songs.add()

    assert logged() == []


def test_reverse_add(playlists: list[Playlist]) -> None:
    song = factories.song()
    forget()

    song.playlists.add(*playlists)

    assert set(logged()) == owners(*playlists)


def test_reverse_remove(playlists: list[Playlist]) -> None:
    Song.objects.get(title="Second").playlists.remove(playlists[1])

    assert set(logged()) == owners(playlists[1])


def test_reverse_clear(playlists: list[Playlist]) -> None:
    Song.objects.get(title="Second").playlists.clear()

    assert set(logged()) == owners(*playlists)


def test_reverse_set(playlists: list[Playlist]) -> None:
    Song.objects.get(title="First").playlists.set([playlists[1]])

    assert set(logged()) == owners(*playlists)


def test_clear_on_every_vendor(each_vendor: Pair) -> None:
    song = factories.song()
    playlist = factories.playlist(song)
    forget()

    song.playlists.clear()

    assert set(logged()) == owners(playlist)


def test_to_an_unwatched_model(pair: Pair) -> None:
    playlist, genre = factories.playlist(), factories.make(Genre, name="Jazz")
    forget()

    playlist.genres.add(genre)
    assert logged() == [*owners(playlist)]
    genre.playlists.clear()
    assert logged() == [*owners(playlist)] * 2


def test_the_watched_side_owns_the_relation(pair: Pair) -> None:
    playlist, song = factories.playlist(), factories.song()
    forget()

    with override_settings(SYNCHRO_MODELS=[("shop", "song")]):
        playlist.songs.add(song)
        assert set(logged()) == owners(song)
        song.playlists.clear()
        assert logged() == [*owners(song)] * 2
        playlist.songs.set([song])
        playlist.songs.clear()

    assert logged() == [*owners(song)] * 4


def test_a_relation_of_two_unwatched_models(pair: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "article")]):
        playlist = factories.playlist(factories.song())
        playlist.songs.clear()

    assert logged() == []


def test_symmetrical(pair: Pair) -> None:
    ann, bob, cat = factories.person(), factories.person(), factories.person()
    forget()

    ann.friends.add(bob, cat)
    assert set(logged()) == owners(ann, bob, cat)
    forget()
    bob.friends.remove(ann)
    assert set(logged()) == owners(ann, bob)
    forget()
    cat.friends.clear()
    assert set(logged()) == owners(ann, cat)


def test_with_itself_in_one_direction(pair: Pair) -> None:
    ann, bob = (factories.make(Account, name=name) for name in ("Ann", "Bob"))
    forget()

    ann.follows.add(bob)
    assert logged() == [*owners(ann)]
    bob.followers.remove(ann)
    assert logged() == [*owners(ann)] * 2
    bob.followers.add(ann)
    assert logged() == [*owners(ann)] * 3
    bob.followers.clear()
    assert logged() == [*owners(ann)] * 4


def test_on_a_child_of_three_levels(pair: Pair) -> None:
    pizzeria, song = factories.pizzeria(), factories.song()
    forget()

    pizzeria.music.add(song)
    assert logged() == [*owners(pizzeria)]
    song.pizzeria_set.clear()
    assert logged() == [*owners(pizzeria)] * 2


def test_to_a_text_pk(pair: Pair) -> None:
    booking, tag = factories.make(Booking), factories.tag()
    forget()

    booking.tags.add(tag)
    tag.bookings.clear()

    assert logged() == [*owners(booking)] * 2


def test_it_costs_one_insert(playlists: list[Playlist], pair: Pair) -> None:
    songs = [factories.song() for _ in range(3)]

    with queries(pair.local) as sent:
        playlists[0].songs.add(*songs)

    assert [each for each in kinds(sent) if "synchro" in each] == ["INSERT synchro_changelog"]


def test_rolled_back(playlists: list[Playlist], pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        with rolled_back(pair.local):
            playlists[0].songs.clear()
        playlists[1].songs.clear()

    assert logged() == [*owners(playlists[1])]


# An explicit through model: its rows are objects of their own.


def test_a_row_saved_and_deleted_by_itself(pair: Pair) -> None:
    team = factories.team(factories.person())
    row = Membership.objects.get()
    pk = str(row.pk)
    forget()

    row.role = "captain"
    row.save()
    row.delete()

    assert logged() == [("membership", pk, "CHANGE"), ("membership", pk, "DELETE")]
    assert team.members.count() == 0


def test_rows_that_the_relation_makes(pair: Pair) -> None:
    team, ann, bob = factories.team(), factories.person(), factories.person()
    forget()

    team.members.add(ann, bob, through_defaults={"role": "goalie"})

    assert sorted(logged()) == sorted(("membership", str(row.pk), "ADD") for row in Membership.objects.all())


def test_rows_that_the_relation_makes_from_the_other_side(pair: Pair) -> None:
    team, ann = factories.team(), factories.person()
    forget()

    ann.teams.add(team)

    assert logged() == [("membership", str(Membership.objects.get().pk), "ADD")]


def test_rows_that_a_symmetrical_relation_makes(pair: Pair) -> None:
    """Django inserts one for each direction, and tells of the first only."""
    one, two, three = (factories.make(Station, name=name) for name in "abc")
    forget()

    one.neighbours.add(two)
    two.neighbours.set([one, three])

    assert sorted(logged()) == sorted(("track", str(row.pk), "ADD") for row in Track.objects.all())
    forget()
    with transaction.atomic(using=pair.local):
        with rolled_back(pair.local):
            one.neighbours.add(three)
        two.neighbours.remove(one)
        one.neighbours.add(two)
    added = [("track", str(row.pk), "ADD") for row in Track.objects.filter(one__in=[one, two], other__in=[one, two])]
    assert sorted(each for each in logged() if each[2] == "ADD") == sorted(added)
    forget()
    with DisableSynchroLog():
        one.neighbours.add(three)
    assert logged() == []


def test_rows_that_the_relation_removes(pair: Pair) -> None:
    ann, bob, cat = (factories.person() for _ in range(3))
    team = factories.team(ann, bob, cat)
    factories.team(ann)
    keys = {row.person_id: str(row.pk) for row in Membership.objects.filter(team=team)}
    forget()

    team.members.remove(ann)
    assert logged() == [("membership", keys[ann.pk], "DELETE")]
    bob.teams.remove(team)
    assert logged()[1:] == [("membership", keys[bob.pk], "DELETE")]
    team.members.clear()
    assert logged()[2:] == [("membership", keys[cat.pk], "DELETE")]


def test_rows_that_set_replaces(pair: Pair) -> None:
    ann, bob = factories.person(), factories.person()
    team = factories.team(ann)
    old = str(Membership.objects.get().pk)
    forget()

    team.members.set([bob])

    assert logged() == [("membership", old, "DELETE"), ("membership", str(Membership.objects.get().pk), "ADD")]


def test_rows_cleared_from_the_other_side(pair: Pair) -> None:
    ann = factories.person()
    teams = [factories.team(ann), factories.team(ann)]
    factories.team(factories.person())
    keys = {str(row.pk) for row in Membership.objects.filter(team__in=teams)}
    forget()

    ann.teams.clear()

    assert {(model, action) for model, _, action in logged()} == {("membership", "DELETE")}
    assert {pk for _, pk, _ in logged()} == keys


def test_rows_that_a_member_takes_along(pair: Pair) -> None:
    ann = factories.person()
    factories.team(ann)
    row = str(Membership.objects.get().pk)
    pk = str(ann.pk)
    forget()

    ann.delete()

    assert set(logged()) == {("membership", row, "DELETE"), ("person", pk, "DELETE")}


def test_a_row_that_loses_its_inviter(pair: Pair) -> None:
    ann, bob = factories.person(), factories.person()
    team = factories.team(ann)
    Membership.objects.update(inviter=bob)
    row = str(Membership.objects.get().pk)
    pk = str(bob.pk)
    forget()

    bob.delete()

    assert set(logged()) == {("membership", row, "CHANGE"), ("person", pk, "DELETE")}
    assert team.members.count() == 1


def test_a_through_model_is_logged_for_its_relation_only(pair: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "person")]):
        team = factories.make(Team, name="t")
        team.members.add(factories.person())

    assert {model for model, _, _ in logged()} == {"person"}
