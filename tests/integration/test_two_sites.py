"""Two projects that synchronize to each other: both end equal, nothing echoes, and whatever is lost is recorded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.engine import batch, conflicts
from synchro.models import ChangeLog, Option, Reference
from tests import factories
from tests.assertions import assert_in_step, counterpart
from tests.databases import Pair, prepare
from tests.roads import ROADS, Road, in_one_run, road_of, sync
from tests.shop.models import Article, Employee, Parcel, Person, Playlist, Product, Song, Tag
from tests.threads import PATIENCE, in_thread

State = ChangeLog.State


@pytest.fixture
def sites(each_vendor: Pair) -> Pair:
    """Two sites that know of each other: both have synchronized before."""
    both_sync(each_vendor)
    return each_vendor


def both_sync(pair: Pair, *, rounds: int = 1, first: str = "ours", road: Road = in_one_run) -> None:
    order = (pair, pair.reversed) if first == "ours" else (pair.reversed, pair)
    for _ in range(rounds):
        for site in order:
            with site.active():
                road()


def save(site: Pair, obj: Model, *, clock: timedelta = timedelta(0), **values: Any) -> None:
    """Change an object as the site's own project does, whose clock may be wrong."""
    with site.active():
        for name, value in values.items():
            setattr(obj, name, value)
        obj.save(using=site.local)
    shift(site, clock)


def shift(site: Pair, clock: timedelta) -> None:
    newest = ChangeLog.objects.using(site.local).latest("pk")
    ChangeLog.objects.using(site.local).filter(pk=newest.pk).update(date=newest.date + clock)


def newest(using: str) -> ChangeLog:
    return ChangeLog.objects.using(using).latest("pk")


def sizes(pair: Pair) -> list[int]:
    return [m.objects.using(a).count() for a in (pair.local, pair.remote) for m in (ChangeLog, Reference, Option)]


def assert_equal_and_quiet(pair: Pair, *models: type[Model]) -> None:
    """Both sides are equal as seen from either; further runs do nothing and no table grows."""
    before = None
    for _ in range(2):
        for site in (pair, pair.reversed):
            with site.active():
                assert engine.sync_pending().is_empty
                assert_in_step(*models)
        assert before in (None, sizes(pair))
        before = sizes(pair)


# Clocks


@pytest.mark.parametrize("minutes", [-5, 5])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_change_made_in_sight_of_the_other_side_s_wins_whatever_the_clocks_say(
    sites: Pair, minutes: int, first: str
) -> None:
    """REMOTE's clock is wrong. Its change has arrived here; what we make of it is newer."""
    article = factories.article(title="0")
    both_sync(sites)
    copy = counterpart(article)
    save(sites.reversed, copy, clock=timedelta(minutes=minutes), title="theirs")
    both_sync(sites)
    article.refresh_from_db()
    assert article.title == "theirs"
    save(sites, article, title="ours, in sight of theirs")
    both_sync(sites, first=first)
    copy.refresh_from_db()
    assert copy.title == "ours, in sight of theirs"
    save(sites.reversed, copy, clock=timedelta(minutes=minutes), title="theirs, in sight of ours")

    both_sync(sites, first=first)

    article.refresh_from_db()
    assert article.title == "theirs, in sight of ours"
    assert ChangeLog.objects.skipped().count() == ChangeLog.objects.using(sites.remote).skipped().count() == 0
    assert_equal_and_quiet(sites, Article)


@pytest.mark.parametrize("minutes", [-5, 0, 5])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_changes_made_out_of_sight_make_no_ping_pong(pair: Pair, minutes: int, first: str) -> None:
    """The newest by the clocks of those who made it wins on both sides, and both end equal after one round."""
    both_sync(pair)
    article = factories.article(title="0")
    both_sync(pair)
    copy = counterpart(article)
    save(pair, article, title="ours")
    save(pair.reversed, copy, clock=timedelta(minutes=minutes), title="theirs")

    both_sync(pair, rounds=2, first=first)

    titles = [Article.objects.using(alias).get().title for alias in (pair.local, pair.remote)]
    assert titles == (["ours"] * 2 if minutes < 0 else ["theirs"] * 2)
    assert_equal_and_quiet(pair, Article)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_the_same_microsecond(sites: Pair, first: str) -> None:
    """A draw is decided alike on both sides, by the identities."""
    article = factories.article(title="0")
    both_sync(sites)
    copy = counterpart(article)
    save(sites, article, title="ours")
    save(sites.reversed, copy, title="theirs")
    moment = timezone.now()
    for alias in (sites.local, sites.remote):
        ChangeLog.objects.using(alias).pending().update(date=moment)
    ours_wins = engine.identity(sites.local).bytes > engine.identity(sites.remote).bytes

    both_sync(sites, rounds=2, first=first)

    assert Article.objects.get().title == ("ours" if ours_wins else "theirs")
    assert newest(sites.remote if ours_wins else sites.local).state == State.SKIPPED
    assert_equal_and_quiet(sites, Article)


# The loser


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("winner", ["ours", "theirs"])
def test_the_loser_is_recorded_where_it_was_made(sites: Pair, first: str, winner: str) -> None:
    """As skipped, with when it lost, against what, and in which fields; no matter who synchronizes first."""
    employee = factories.employee(name="0")
    boss = factories.employee(name="boss")
    both_sync(sites)
    copy = counterpart(employee)
    change: list[tuple[Pair, Any, dict[str, Any]]] = [
        (sites, employee, {"manager": boss}),
        (sites.reversed, copy, {"name": "theirs"}),
    ]
    for site, obj, values in change if winner == "theirs" else change[::-1]:
        save(site, obj, **values)
    moment = newest(sites.local if winner == "ours" else sites.remote).date

    both_sync(sites, rounds=2, first=first)

    (lost,) = ChangeLog.objects.using(sites.remote if winner == "ours" else sites.local).skipped()
    assert lost.reason == f"REMOTE changed the object later, at {moment.isoformat()}. Lost here: name, manager."
    assert not ChangeLog.objects.using(sites.local if winner == "ours" else sites.remote).skipped().exists()
    assert_equal_and_quiet(sites, Employee)


def test_remote_s_change_that_goes_nowhere_is_recorded_as_lost(pair: Pair) -> None:
    """REMOTE only logs (SYNCHRO_REMOTE = None): its users still see that LOCAL has overwritten their change."""
    article = factories.article(title="0")
    sync()
    with override_settings(SYNCHRO_LOCAL=pair.remote, SYNCHRO_REMOTE=None):
        theirs = Article.objects.get()
        theirs.title = "theirs"
        theirs.save()
    save(pair, article, title="ours")

    sync()

    (lost,) = ChangeLog.objects.using(pair.remote).skipped()
    assert lost.reason.endswith("Lost here: title.")
    assert_in_step(Article)


@pytest.mark.postgres
def test_a_change_that_somebody_else_waits_for_is_not_settled(unblocked: None) -> None:
    """A to B to C: A overwrites what B has yet to send to C, and C gets B's newest state all the same."""
    first, second = Pair("sqlite_a", "postgres_b"), Pair("postgres_b", "sqlite_b")
    for alias in ("sqlite_a", "postgres_b", "sqlite_b"):
        prepare(alias)
    with first.active():
        ours = factories.product(sku="chair", name="0")
        sync()
    with second.active():
        theirs = Product.objects.get()
        theirs.save()
        sync()
        theirs.name = "B"
        theirs.save()
    save(first, ours, name="A")

    for site in (first, second):
        with site.active():
            sync()

    assert {Product.objects.using(alias).get().name for alias in ("sqlite_a", "postgres_b", "sqlite_b")} == {"A"}
    assert ChangeLog.objects.using("postgres_b").skipped().count() == 0


# Rows and relations


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("row_is_ours", [True, False], ids=["row here", "row there"])
@pytest.mark.parametrize("row_is_newer", [True, False])
def test_a_changed_row_and_changed_members_both_arrive(
    pair: Pair, first: str, row_is_ours: bool, row_is_newer: bool
) -> None:
    """One side renames a playlist, the other one gives it a song."""
    both_sync(pair)
    song, playlist = factories.song(), factories.playlist(name="0")
    both_sync(pair)
    row, members = (pair, pair.reversed) if row_is_ours else (pair.reversed, pair)
    objects = {pair.local: (playlist, song), pair.remote: (counterpart(playlist), counterpart(song))}

    def rename() -> None:
        save(row, objects[row.local][0], name="renamed")

    def link() -> None:
        with members.active():
            playlist_there, song_there = objects[members.local]
            playlist_there.songs.add(song_there)

    for change in (link, rename) if row_is_newer else (rename, link):
        change()

    both_sync(pair, first=first)

    for alias in (pair.local, pair.remote):
        found = Playlist.objects.using(alias).get()
        assert (found.name, found.songs.using(alias).count()) == ("renamed", 1)
        assert ChangeLog.objects.using(alias).skipped().count() == 0
    assert_equal_and_quiet(pair, Playlist, Song)


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("winner", ["ours", "theirs"])
def test_members_changed_on_both_sides(pair: Pair, first: str, winner: str) -> None:
    both_sync(pair)
    playlist, songs = factories.playlist(), [factories.song(title=title) for title in "ab"]
    both_sync(pair)
    copy, copies = counterpart(playlist), [counterpart(each) for each in songs]

    def ours() -> None:
        playlist.songs.add(songs[0])

    def theirs() -> None:
        with pair.reversed.active():
            copy.songs.add(copies[1])

    for change in (theirs, ours) if winner == "ours" else (ours, theirs):
        change()

    both_sync(pair, rounds=2, first=first)

    titles = [s.title for s in Playlist.objects.get().songs.all()]
    assert titles == ["a" if winner == "ours" else "b"]
    (lost,) = ChangeLog.objects.using(pair.remote if winner == "ours" else pair.local).skipped()
    assert lost.reason.startswith("REMOTE changed the object's relations later, at ")
    assert_equal_and_quiet(pair, Playlist, Song)


# Deletes


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("delete_is_newer", [True, False])
@pytest.mark.parametrize("make", [factories.article, factories.product, factories.tag], ids=["auto", "natural", "text"])
def test_deleted_here_and_changed_there(
    pair: Pair, first: str, delete_is_newer: bool, make: Callable[..., Any]
) -> None:
    """The newest wins here, too: the object is gone on both sides, or lives on both."""
    both_sync(pair)
    obj = make()
    both_sync(pair)
    model, copy = type(obj), counterpart(obj)

    def change() -> None:
        save(pair.reversed, copy)

    for step in (change, obj.delete) if delete_is_newer else (obj.delete, change):
        step()

    both_sync(pair, rounds=2, first=first)

    counts = [model.objects.using(alias).count() for alias in (pair.local, pair.remote)]
    assert counts == ([0, 0] if delete_is_newer else [1, 1])
    (lost,) = ChangeLog.objects.using(pair.remote if delete_is_newer else pair.local).skipped()
    assert lost.reason.startswith(f"REMOTE {'deleted' if delete_is_newer else 'changed'} the object later, at ")
    assert_equal_and_quiet(pair, model)
    if delete_is_newer:
        assert Reference.objects.count() == Reference.objects.using(pair.remote).count() == 0


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_deleted_on_both_sides(sites: Pair, first: str) -> None:
    article = factories.article()
    both_sync(sites)
    copy = counterpart(article)
    article.delete()
    with sites.reversed.active():
        copy.delete()

    both_sync(sites, rounds=2, first=first)

    assert Article.objects.count() == Article.objects.using(sites.remote).count() == 0
    assert Reference.objects.count() == Reference.objects.using(sites.remote).count() == 0
    assert_equal_and_quiet(sites, Article)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_deleted_there_while_something_new_here_points_to_it(sites: Pair, first: str) -> None:
    """Both sides end equal: the object comes back with what needs it, or REMOTE's delete has to wait for it."""
    boss = factories.employee(name="boss")
    both_sync(sites)
    copy = counterpart(boss)
    with sites.reversed.active():
        copy.delete()
    factories.make(Employee, name="new", manager=boss)
    for site in (sites, sites.reversed) if first == "ours" else (sites.reversed, sites):
        with site.active():
            engine.sync_pending()
    both_sync(sites, rounds=2, first=first)

    assert_equal_and_quiet(sites, Employee)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_key_of_the_project_s_own_deleted_there_and_added_here_unknown_to_each_other(pair: Pair, first: str) -> None:
    with pair.reversed.active():
        factories.tag(slug="a", using=pair.remote).delete()
    ours = factories.tag(slug="a", title="ours")
    ChangeLog.objects.using(pair.remote).filter(action=ChangeLog.Action.ADD).delete()
    ChangeLog.objects.using(pair.remote).update(date=timezone.now() + timedelta(minutes=1))

    both_sync(pair, rounds=2, first=first)

    assert Tag.objects.get() == Tag.objects.using(pair.remote).get() == ours
    assert_equal_and_quiet(pair, Tag)


# Objects made on either side


def test_objects_made_on_either_side_appear_once_on_both(every_pair: Pair) -> None:
    """Also without natural keys, and with the numbers that the other side uses for other objects."""
    both_sync(every_pair)
    for site in (every_pair, every_pair.reversed):
        with site.active():
            song = factories.song(using=site.local)
            playlist = factories.make(Playlist, name=site.local, using=site.local, pk=77)
            playlist.songs.add(song)
            factories.person(name="Ann", using=site.local)
            factories.make(Parcel, weight=1, using=site.local)

    both_sync(every_pair, rounds=2, road=road_of(every_pair))

    for model, count in ((Playlist, 2), (Song, 2), (Person, 1), (Parcel, 2)):
        assert model.objects.count() == model.objects.using(every_pair.remote).count() == count
    assert_equal_and_quiet(every_pair, Playlist, Song, Person, Parcel)


@pytest.mark.parametrize("road", ROADS)
def test_two_sites_that_synchronize_by_tasks_alone(sites: Pair, road: Road) -> None:
    """Added, changed on both sides, linked and deleted, each object in a task of its own."""
    article, lost, gone = (factories.article(title=title) for title in ("a", "b", "c"))
    playlist = factories.playlist(factories.song(title="ours"))
    with sites.reversed.active():
        factories.article(title="d")
        factories.person(name="Ann").friends.add(factories.person(name="Bob"))
    both_sync(sites, road=road)
    copies = {each: counterpart(each) for each in (article, lost, gone, playlist)}
    save(sites.reversed, copies[article], title="theirs")
    save(sites, lost, title="older")
    save(sites.reversed, copies[lost], title="newer")
    with sites.reversed.active():
        copies[gone].delete()
        copies[playlist].songs.add(factories.song(title="theirs"))

    both_sync(sites, rounds=2, road=road)

    assert sorted(Article.objects.values_list("title", flat=True)) == ["d", "newer", "theirs"]
    assert sorted(playlist.songs.values_list("title", flat=True)) == ["ours", "theirs"]
    assert ChangeLog.objects.skipped().count() == 1
    assert_equal_and_quiet(sites, Article, Playlist, Song, Person)


def test_changes_of_different_objects_both_arrive(sites: Pair) -> None:
    articles = [factories.article(title="0") for _ in range(2)]
    both_sync(sites)
    save(sites.reversed, counterpart(articles[1]), title="theirs")
    save(sites, articles[0], title="ours")

    both_sync(sites)

    assert sorted(Article.objects.values_list("title", flat=True)) == ["ours", "theirs"]
    assert_equal_and_quiet(sites, Article)


# The other side in between: what it does while this side's batch is under way


class Interruption:
    """Lets another process do something right before a function of the engine runs for the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def before(self, module: Any, name: str, action: Callable[[], None]) -> None:
        original, waiting = getattr(module, name), [action]

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            if waiting:
                in_thread(waiting.pop()).result(PATIENCE)
            return original(*args, **kwargs)

        self.monkeypatch.setattr(module, name, interrupted)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    return Interruption(monkeypatch)


@pytest.mark.postgres
def test_a_change_that_the_other_side_overruled_after_it_was_taken(
    postgres_pair: Pair, interrupt: Interruption
) -> None:
    """REMOTE's run has taken its entry, and waits; LOCAL's newer change overwrites the row, and all is acknowledged.

    REMOTE must not go on to write its old state here.
    """
    both_sync(postgres_pair)
    article = factories.article(title="0")
    both_sync(postgres_pair)
    save(postgres_pair.reversed, counterpart(article), title="theirs")
    save(postgres_pair, article, title="ours")

    def ours_first() -> None:
        with postgres_pair.active():
            sync()

    with postgres_pair.reversed.active():
        interrupt.before(batch, "find", ours_first)
        sync()

    both_sync(postgres_pair)
    assert Article.objects.get().title == Article.objects.using(postgres_pair.remote).get().title == "ours"
    assert_equal_and_quiet(postgres_pair, Article)


@pytest.mark.postgres
def test_a_change_on_top_of_one_that_is_not_acknowledged_yet(postgres_pair: Pair, interrupt: Interruption) -> None:
    """LOCAL's change is on REMOTE, where somebody changes it again by a clock that is late, and REMOTE runs first.

    It loses by the dates; then LOCAL's state has to go there once more.
    """
    both_sync(postgres_pair)
    article = factories.article(title="0")
    both_sync(postgres_pair)
    save(postgres_pair, article, title="ours")

    def theirs() -> None:
        copy = Article.objects.using(postgres_pair.remote).get()
        assert copy.title == "ours"
        save(postgres_pair.reversed, copy, clock=timedelta(minutes=-5), title="theirs")
        with postgres_pair.reversed.active():
            sync()

    interrupt.before(batch, "acknowledge", theirs)
    sync()
    both_sync(postgres_pair, rounds=2)

    assert Article.objects.get().title == Article.objects.using(postgres_pair.remote).get().title
    assert_equal_and_quiet(postgres_pair, Article)


@pytest.mark.postgres
def test_a_member_that_is_removed_there_while_ours_are_compared(postgres_pair: Pair, interrupt: Interruption) -> None:
    """Nothing locks the members: REMOTE's log is asked after they have been read."""
    both_sync(postgres_pair)
    playlist, songs = factories.playlist(), [factories.song(title=title) for title in "ab"]
    playlist.songs.add(songs[0])
    both_sync(postgres_pair)
    copy, copies = counterpart(playlist), [counterpart(each) for each in songs]
    playlist.songs.add(songs[1])

    def theirs() -> None:
        with postgres_pair.reversed.active():
            copy.songs.set(copies[1:])

    interrupt.before(batch, "plan_members", theirs)
    sync()
    both_sync(postgres_pair, rounds=2)

    assert [each.title for each in playlist.songs.all()] == ["b"]
    assert_equal_and_quiet(postgres_pair, Playlist, Song)


@pytest.mark.postgres
@pytest.mark.parametrize("moment", ["find", "write", "acknowledge"])
def test_deleted_there_while_something_here_brings_it_back(
    postgres_pair: Pair, interrupt: Interruption, moment: str
) -> None:
    """REMOTE's run deletes the row here in the middle of ours, which needs it there: one of the two gives way."""
    both_sync(postgres_pair)
    playlist, song = factories.playlist(), factories.song()
    both_sync(postgres_pair)
    with postgres_pair.reversed.active():
        Song.objects.get().delete()
    playlist.songs.add(song)

    def theirs() -> None:
        with postgres_pair.reversed.active():
            engine.sync_pending()

    waiting: list[Any] = []

    def when_the_song_is_brought() -> None:
        original = getattr(batch, moment)

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            if Song in args and not waiting:
                waiting.append(in_thread(theirs))
                wait([waiting[0]], timeout=2)  # REMOTE's run may have to wait for a lock of ours
            return original(*args, **kwargs)

        interrupt.monkeypatch.setattr(batch, moment, interrupted)

    when_the_song_is_brought()
    engine.sync_pending()
    waiting[0].result(PATIENCE)
    for _ in range(3):
        for site in (postgres_pair, postgres_pair.reversed):
            with site.active():
                engine.sync_pending()

    assert Song.objects.count() == Song.objects.using(postgres_pair.remote).count()
    assert_equal_and_quiet(postgres_pair, Playlist, Song)


def test_the_rules_name_one_winner(sqlite_pair: Pair) -> None:
    """Whoever asks: of two changes one side wins and the other one loses."""
    link, mirror = (_link(pair) for pair in (sqlite_pair, sqlite_pair.reversed))
    moments = [datetime(2026, 1, 1, tzinfo=timezone.get_current_timezone()) + timedelta(microseconds=n) for n in (0, 1)]
    for ours in moments:
        for theirs in moments:
            assert conflicts._wins(link, theirs, ours) is not conflicts._wins(mirror, ours, theirs)


def _link(pair: Pair) -> Any:
    with pair.active():
        from synchro.engine.link import open_link

        return open_link()


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_an_object_that_comes_back_has_its_places_in_relations(sites: Pair, first: str) -> None:
    """Deleted here, which removes it from a playlist, and changed there later."""
    song, playlist = factories.song(), factories.playlist()
    playlist.songs.add(song)
    both_sync(sites)
    copy = counterpart(song)
    song.delete()
    save(sites.reversed, copy, title="theirs")

    both_sync(sites, rounds=2, first=first)

    assert [each.title for each in playlist.songs.all()] == ["theirs"]
    assert_equal_and_quiet(sites, Playlist, Song)
