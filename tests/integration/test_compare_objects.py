"""``synchronize --full``: what differs is found, logged, and repaired by the engine; nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import JSONField, Value
from django.test import override_settings

from synchro import DisableSynchroLog
from synchro.compare import digests
from synchro.compare.columns import write_alike
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, logged
from tests.comparing import assert_agree, full, numbers
from tests.databases import Pair
from tests.integration.test_values_copy import save_all_values
from tests.integration.test_values_refused import _pair
from tests.roads import sync
from tests.shop.models import (
    Account,
    Airport,
    Article,
    Booking,
    Comment,
    Employee,
    Flight,
    Lease,
    Legacy,
    Locker,
    Parcel,
    Passport,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Product,
    Seat,
    Stamped,
    Tag,
    Team,
    Unmanaged,
)
from tests.unwatched.models import Genre
from tests.values.models import Colour, Custom, Everything, Filled
from tests.vendors import marks


def test_each_kind_of_difference_is_found_and_repaired(each_vendor: Pair) -> None:
    same, changed, lost, gone = (factories.article() for _ in range(4))
    sync()
    Article.objects.filter(pk=changed.pk).update(title="Changed")
    Article.objects.filter(pk=gone.pk)._raw_delete(each_vendor.local)
    copies = Article.objects.using(each_vendor.remote).order_by("pk")
    copies.filter(pk=copies[2].pk)._raw_delete(each_vendor.remote)
    (new,) = Article.objects.bulk_create([Article(title="New")])
    extra = Article.objects.using(each_vendor.remote).create(title="Extra")
    expected = [
        ("Article", "deleted", str(gone.pk)),
        ("Article", "different", str(changed.pk)),
        ("Article", "extra", str(extra.pk)),
        ("Article", "missing", str(lost.pk)),
        ("Article", "missing", str(new.pk)),
    ]
    before = logged()

    tallies, notes = full(dry_run=True)

    assert notes.kinds == sorted(expected)
    assert numbers(tallies["Article"]) == {
        "compared": 4, "equal": 1, "missing": 2, "different": 1, "deleted": 1, "extra": 1,
    }  # fmt: skip
    assert logged() == before

    tallies, notes = full()

    assert notes.kinds == sorted(expected)
    assert numbers(tallies["Article"]) == {
        "compared": 4, "equal": 1, "missing": 2, "different": 1, "deleted": 1, "extra": 1, "logged": 4, "repaired": 4,
    }  # fmt: skip
    for each in (same, changed, lost, new):
        assert_same_on_remote(each)
    assert set(Article.objects.using(each_vendor.remote).values_list("title", flat=True)) == {
        *Article.objects.values_list("title", flat=True),
        "Extra",
    }
    assert same.pk not in {int(object_id) for _, object_id, _ in logged()[len(before) :]}

    _, notes = full(delete_extra=True)

    assert notes.kinds == [("Article", "extra", str(extra.pk))]
    assert_in_step(Article)
    assert_agree()


def fill() -> None:
    """Save objects of every kind."""
    factories.product()
    factories.city()
    factories.flight(stopover=factories.make(Airport, code="STOP"))
    song = factories.song()
    playlist = factories.playlist(song, factories.song())
    playlist.genres.add(factories.make(Genre, name="Jazz"))
    ann, bob = factories.person(), factories.person()
    ann.friends.add(bob)
    factories.team(ann, bob)
    first, second = factories.make(Account, name="a"), factories.make(Account, name="b")
    first.follows.add(second)
    factories.pizzeria(partner=factories.make(Place, name="Cellar")).music.add(song)
    boss = factories.employee()
    factories.make(Employee, name="Self", manager=boss)
    factories.make(Passport, employee=boss, number="7")
    locker, tag, parcel = factories.make(Locker, number=4), factories.tag(slug="Tä/g"), factories.make(Parcel)
    factories.make(Booking, locker=locker, tag=tag, parcel=parcel).tags.add(tag)
    factories.seat()
    factories.make(Comment, target=song, text="Nice")
    factories.delivery()
    factories.book()
    factories.make(Lease, name="flat").tenants.add(ann)
    save_all_values()
    for _ in range(2):
        factories.make(Everything, json=Value(None, JSONField()))
    factories.make(Everything)
    factories.make(Filled)
    factories.make(Filled, json=Value(None, JSONField()))
    factories.make(Custom, colour=Colour(255, 0, 1), word="abc é")
    factories.make(Custom)
    factories.make(Stamped, name="a")
    factories.make(Legacy, name="a")
    factories.make(Unmanaged, name="a")


def test_no_false_difference(every_pair: Pair) -> None:
    """Every kind of value and relation is equal after it was copied."""
    fill()
    sync()

    assert_agree()


@contextmanager
def another_notation(alias: str) -> Iterator[None]:
    """Let a database write bytes down in another way."""
    options = connections[alias].settings_dict["OPTIONS"]
    kept = options["options"]
    connections[alias].close()
    options["options"] = f"{kept} -c bytea_output=escape"
    try:
        yield
    finally:
        connections[alias].close()
        options["options"] = kept


def test_servers_that_write_values_down_in_another_way(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their texts of equal rows differ: all is compared value by value."""
    monkeypatch.setattr(digests, "plan", lambda link, model: None)
    fill()
    sync()
    assert write_alike(postgres_pair.local, postgres_pair.remote)

    with another_notation(postgres_pair.remote):
        assert not write_alike(postgres_pair.local, postgres_pair.remote)
        assert_agree()
        Filled.objects.using(postgres_pair.remote).update(binary=b"x")
        _, notes = full(dry_run=True)

    assert {(model, kind) for model, kind, _ in notes.kinds} == {("Filled", "different")}


@pytest.mark.parametrize(
    ("local", "remote"), [pytest.param(*each, marks=marks(*each)) for each in permutations(("postgres", "mariadb"))]
)
def test_text_keys_that_only_one_vendor_tells_apart(unblocked: None, local: str, remote: str) -> None:
    """Page by page on both sides, each in its own order. MariaDB's collation calls qa, QA and qá one key."""
    with _pair(local, remote).active() as pair:
        keys = ["qa", "QB", "qç", "Q d", "q-e", "ÄF", "äg", "Zh", "zi"]
        with override_settings(SYNCHRO_MODELS=[]):
            for each in keys:
                factories.tag(slug=each)
        full(batch_size=2)
        assert_in_step(Tag)
        assert_agree()
        on_postgres = pair.local if local == "postgres" else pair.remote
        with DisableSynchroLog():
            for each in ("QA", "qá"):
                factories.tag(slug=each, using=on_postgres)

        tallies, notes = full(batch_size=2, models=("shop.Tag",))

        other = "extra" if on_postgres == pair.remote else "missing"
        assert notes.kinds == [("Tag", other, "QA"), ("Tag", other, "qá")]
        assert tallies["Tag"].equal == len(keys)
        assert tallies["Tag"].failed == (2 if other == "missing" else 0)
        assert set(Tag.objects.using(pair.remote).values_list("slug", flat=True)) >= set(keys)
        if other == "extra":
            full(batch_size=2, models=("shop.Tag",), delete_extra=True)
            assert_in_step(Tag)


DAMAGES: dict[str, Callable[[str], object]] = {
    "column": lambda using: Product.objects.using(using).update(stock=99),
    "foreign key": lambda using: Flight.objects.using(using).update(stopover=None),
    "members removed": lambda using: Playlist.songs.through.objects.using(using).all()[:1].get().delete(),
    "members added": lambda using: Person.friends.through.objects.using(using).create(
        from_person=Person.objects.using(using).earliest("pk"), to_person=Person.objects.using(using).earliest("pk")
    ),
    "through row": lambda using: Team.members.through.objects.using(using).update(role="coach"),
    "child row": lambda using: Pizzeria.objects.using(using).update(oven="gas"),
    "parent row": lambda using: Place.objects.using(using).update(address="Elsewhere"),
    "generic key": lambda using: Comment.objects.using(using).update(
        object_id=str(Playlist.objects.using(using).get().pk),
        content_type=ContentType.objects.db_manager(using).get_for_model(Playlist),
    ),
    "text key": lambda using: Tag.objects.using(using).update(title="Else"),
    "composite key": lambda using: Seat.objects.using(using).update(guest="Bob"),
    "json to null": lambda using: Filled.objects.using(using).update(json={"a": 1}),
    "json null to NULL": lambda using: (
        Everything.objects.using(using).filter(json=Value(None, JSONField())).update(json=None)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("side", ["local", "remote"])
def test_damage_of_each_kind(sqlite_pair: Pair, damage: Callable[[str], object], side: str) -> None:
    fill()
    sync()
    if side == "local":
        damage(sqlite_pair.local)
    else:
        damage(sqlite_pair.remote)

    _, notes = full()

    assert notes.found
    assert_nothing_pending()
    assert_agree()
    assert_in_step(Product, Flight, Playlist, Person, Team, Pizzeria, Place, Comment, Tag, Seat, Filled, Everything)


def test_what_remote_keeps_is_not_compared(pair: Pair) -> None:
    country = factories.country()
    lease = factories.make(Lease, name="flat", landlord=country)
    sync()
    assert Lease.objects.using(pair.remote).get().landlord is None
    lease.tenants.add(factories.person())
    sync()

    assert_agree()
