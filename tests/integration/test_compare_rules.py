"""What a comparison must not do: overwrite a change on its way, wipe REMOTE, mix up objects."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings
from django.db import OperationalError, ProgrammingError, connections
from django.db.models import DateField, Model
from django.db.models.signals import post_save, pre_delete
from django.test import override_settings
from django.test.utils import isolate_apps
from django.utils import timezone

from synchro import engine
from synchro.compare import Request, digests, repair, run, statistics, surplus
from synchro.core import renew_identity, reset_synchro
from synchro.exceptions import SameIdentity, SynchroError
from synchro.models import KEPT_COMPARISONS, ChangeLog, Comparison, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart, logged
from tests.comparing import Notes, assert_agree, full, numbers
from tests.databases import Pair
from tests.faults import ambiguous_twin, without_permission
from tests.roads import sync
from tests.shop.models import (
    Article,
    City,
    Country,
    Employee,
    Locker,
    Passport,
    Pizzeria,
    Place,
    Playlist,
    Restaurant,
    Seat,
    Slot,
    Stamped,
    Tag,
)
from tests.vendors import only_on

State = ChangeLog.State


def article_on_both(**values: Any) -> Article:
    article = factories.article(**values)
    sync()
    return article


# Changes that are on their way


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
def test_objects_with_unsettled_entries_are_left_out(pair: Pair, state: State) -> None:
    pending, other = article_on_both(), article_on_both()
    pending.title = "Pending"
    pending.save()
    ChangeLog.objects.pending().update(state=state)
    Article.objects.filter(pk=other.pk).update(title="Unlogged")

    tallies, notes = full(dry_run=True)

    assert notes.kinds == [("Article", "different", str(other.pk))]
    assert numbers(tallies["Article"]) == {"compared": 2, "different": 1, "skipped": 1}


def test_a_logged_delete_is_left_out(pair: Pair) -> None:
    article_on_both().delete()

    tallies, notes = full(dry_run=True)

    assert notes.found == []
    assert numbers(tallies["Article"]) == {"skipped": 1}


@pytest.mark.parametrize("change", [lambda copy: copy.save(), lambda copy: copy.delete()], ids=["change", "delete"])
def test_a_change_on_its_way_from_remote_is_not_overwritten(pair: Pair, change: Callable[[Any], object]) -> None:
    """Two sites that synchronize to each other: REMOTE's change has not arrived, and must."""
    article = article_on_both()
    with pair.reversed.active():
        copy = Article.objects.using(pair.remote).get()
        copy.title = "Changed on REMOTE"
        change(copy)

    tallies, notes = full()

    assert notes.found == []
    assert numbers(tallies["Article"])["skipped"] == 1
    with pair.reversed.active():
        sync()
    assert_agree()
    assert [each.title for each in Article.objects.all()] == ["Changed on REMOTE"] * Article.objects.count()
    assert Article.objects.filter(pk=article.pk).count() == Article.objects.using(pair.remote).count()


def test_a_row_that_is_new_on_remote_is_no_extra_row(pair: Pair) -> None:
    with pair.reversed.active():
        Article.objects.using(pair.remote).create(title="New on REMOTE")

    full(delete_extra=True)

    with pair.reversed.active():
        sync()
    assert Article.objects.get().title == "New on REMOTE"


def test_what_arrived_from_remote_may_be_repaired(pair: Pair) -> None:
    article = article_on_both()
    with pair.reversed.active():
        Article.objects.using(pair.remote).get().save()
        sync()
    Article.objects.update(title="Unlogged on LOCAL")

    full()

    assert_same_on_remote(article)
    assert counterpart(article).title == "Unlogged on LOCAL"


def test_a_newer_change_of_remote_that_goes_elsewhere_wins(pair: Pair) -> None:
    """A chain A to B to C: B's own change has arrived at C, and A must not take it back."""
    article_on_both()
    with pair.reversed.active():
        Article.objects.using(pair.remote).get().save()
    ChangeLog.objects.using(pair.remote).update(state=State.SYNCED)
    Article.objects.update(title="Unlogged on LOCAL")

    tallies, notes = full()

    assert notes.found == []
    assert numbers(tallies["Article"])["skipped"] == 1


def test_remote_changes_while_a_repair_is_on_its_way(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction on REMOTE that commits late is newer than the repair, although its date is older."""
    article_on_both()
    ChangeLog.objects.update(date=timezone.now() - timedelta(hours=1))
    Article.objects.update(title="Unlogged on LOCAL")
    real = engine.sync_objects

    def late(*args: Any, **kwargs: Any) -> engine.Report:
        with pair.reversed.active():
            copy = Article.objects.using(pair.remote).get()
            copy.title = "Changed on REMOTE"
            copy.save()
        ChangeLog.objects.using(pair.remote).update(date=timezone.now() - timedelta(seconds=30))
        return real(*args, **kwargs)

    monkeypatch.setattr(engine, "sync_objects", late)
    tallies, _ = full()

    assert Article.objects.using(pair.remote).get().title == "Changed on REMOTE"
    assert numbers(tallies["Article"]) == {"compared": 1, "skipped": 1}
    with pair.reversed.active():
        sync()
    assert Article.objects.get().title == "Changed on REMOTE"


def test_what_comes_along_and_loses_is_not_taken_off_the_model(pair: Pair) -> None:
    """The country is brought because of its city, and REMOTE has a newer one: the city is repaired all the same."""
    with override_settings(SYNCHRO_MODELS=[]):
        city = factories.city()
    city.country.save()
    ChangeLog.objects.update(date=timezone.now() - timedelta(hours=1))
    with pair.reversed.active():
        Country.objects.using(pair.remote).create(code=city.country.code, name="Newer on REMOTE")

    tallies, _ = full(models=("shop.City",))

    assert numbers(tallies["City"]) == {"compared": 1, "missing": 1, "logged": 1, "repaired": 1}


def test_an_object_that_changes_meanwhile_is_looked_at_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved and copied between the two readings: it looks different, and is not."""
    module = importlib.import_module("synchro.compare.run")
    article = article_on_both()
    other = article_on_both()
    Article.objects.filter(pk=other.pk).update(title="Unlogged")
    Article.objects.using(pair.remote).filter(title=article.title).update(title="Old")
    real = module.confirm

    def meanwhile(*args: Any) -> Any:
        article.save()
        sync()
        return real(*args)

    monkeypatch.setattr(module, "confirm", meanwhile)
    tallies, notes = full(dry_run=True)

    assert notes.kinds == [("Article", "different", str(other.pk))]
    assert numbers(tallies["Article"]) == {"compared": 2, "equal": 1, "different": 1}


# Deleting


@pytest.mark.parametrize(
    ("limit", "deleted"), [("10%", False), ("3", False), ("0", False), ("4", True), ("50%", True), ("100%", True)]
)
def test_the_guard(sqlite_pair: Pair, limit: str, deleted: bool) -> None:
    articles = [factories.article() for _ in range(8)]
    sync()
    Article.objects.filter(pk__in=[each.pk for each in articles[:4]])._raw_delete(sqlite_pair.local)
    Article.objects.filter(pk=articles[7].pk).update(title="Unlogged")

    tallies, _ = full(max_delete=limit)

    assert Article.objects.using(sqlite_pair.remote).count() == (4 if deleted else 8)
    assert tallies["Article"].deleted == 4
    assert bool(tallies["Article"].error) is not deleted
    assert_same_on_remote(articles[7])


def test_the_guard_holds_while_local_is_being_emptied(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows that they are looked for again, and are more then."""
    monkeypatch.setattr(sys.modules[run.__module__], "_REMEMBERED", 2)
    articles = [article_on_both() for _ in range(8)]
    local = Article.objects.using(sqlite_pair.local)
    local.filter(pk__in=[each.pk for each in articles[:3]])._raw_delete(sqlite_pair.local)
    real, looks = surplus.look, []

    def look(*args: Any) -> surplus.Page:
        looks.append(args)
        if len(looks) > 1:
            local.all()._raw_delete(sqlite_pair.local)
        return real(*args)

    monkeypatch.setattr(surplus, "look", look)

    tallies, _ = full(models=("shop.Article",), max_delete="4")

    assert Article.objects.using(sqlite_pair.remote).count() == 4
    assert "LOCAL has lost more rows meanwhile" in tallies["Article"].error


def test_an_empty_local_does_not_wipe_remote(pair: Pair) -> None:
    for _ in range(3):
        factories.city()
    sync()
    for model in (City, Country):
        model.objects.all()._raw_delete(pair.local)

    tallies, _ = full(max_delete="10%", delete_extra=True)

    assert City.objects.using(pair.remote).count() == Country.objects.using(pair.remote).count() == 3
    assert "3 rows of REMOTE would be deleted" in tallies["City"].error
    reset_synchro()
    Reference.objects.using(pair.remote).all().delete()
    tallies, _ = full(max_delete="10%", delete_extra=True)
    assert City.objects.using(pair.remote).count() == 3


def test_a_restored_local_deletes_nothing_that_it_never_knew(pair: Pair) -> None:
    """Objects that are newer than the backup are no missed deletes, although REMOTE remembers whose copies they are."""
    old, new = article_on_both(), article_on_both()
    key = Reference.objects.get(local_object_id=str(new.pk)).remote_object_id
    Article.objects.filter(pk=new.pk)._raw_delete(pair.local)
    Reference.objects.filter(local_object_id=str(new.pk)).delete()

    _, notes = full()

    assert notes.kinds == [("Article", "extra", key)]
    assert Article.objects.using(pair.remote).count() == 2
    full(delete_extra=True)
    assert_in_step(Article)
    assert Reference.objects.using(pair.remote).count() == 1
    assert_same_on_remote(old)


def test_parents_and_children_that_are_gone(each_vendor: Pair) -> None:
    """The deletes are carried out only when all are known, so none is held back by another."""
    city = factories.city()
    factories.pizzeria()
    boss = factories.employee()
    Employee.objects.filter(pk=boss.pk).update(manager=boss)
    factories.make(Passport, employee=boss, number="7")
    sync()
    with connections[each_vendor.local].constraint_checks_disabled():
        for model in (Passport, Employee, City, Country, Pizzeria, Restaurant, Place):
            model._base_manager.using(each_vendor.local).all()._raw_delete(each_vendor.local)

    tallies, _ = full()

    assert city.pk
    assert [each for each in tallies.values() if each.failed or each.error] == []
    assert tallies["City"].repaired == tallies["Place"].repaired == tallies["Passport"].repaired == 1
    assert_in_step(City, Country, Pizzeria, Place, Employee, Passport)


def test_extra_rows_are_deleted_on_request_only(each_vendor: Pair) -> None:
    """Also where REMOTE's key is that of a LOCAL object, which has nothing to do with it."""
    article = article_on_both()
    Article.objects.using(each_vendor.remote).create(pk=article.pk, title="Not its copy")
    for using in (each_vendor.remote,):
        Tag.objects.using(using).create(slug="extra")
        playlist = Playlist.objects.using(using).create(name="extra")
        playlist.songs.add(factories.song(using=using))

    full()
    assert Article.objects.using(each_vendor.remote).count() == 2

    tallies, _ = full(delete_extra=True)

    assert tallies["Article"].repaired == tallies["Tag"].repaired == tallies["Playlist"].repaired == 1
    assert_in_step(Article, Tag, Playlist)
    assert Reference.objects.count() == 1
    assert_agree()


# Who is whose copy


def copy_to_remote(pair: Pair, *models: Any) -> None:
    """Let REMOTE begin as a dump of LOCAL."""
    for model in models:
        model._base_manager.using(pair.remote).bulk_create(model._base_manager.using(pair.local).all())


def test_rows_of_a_copy_are_adopted_by_their_keys(each_vendor: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[]):
        factories.country()
        factories.tag()
        factories.make(Locker, number=3)
    copy_to_remote(each_vendor, Country, Tag, Locker)
    Country.objects.update(name="Changed")

    tallies, notes = full(dry_run=True)

    assert [kind for _, kind, _ in notes.kinds] == ["different"]
    assert Reference.objects.count() == 0

    tallies, notes = full()

    assert [kind for _, kind, _ in notes.kinds] == ["different"]
    assert Reference.objects.count() == 3
    assert_in_step(Country, Tag, Locker)
    assert_agree()


def test_automatic_keys_are_adopted_when_asked(each_vendor: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[]):
        cities = [factories.city() for _ in range(3)]
        boss = factories.employee()
        factories.make(Employee, name="x", manager=boss)
        factories.make(Passport, employee=boss, number="7")
    copy_to_remote(each_vendor, Country, City, Employee, Passport)
    City.objects.filter(pk=cities[0].pk).update(population=5)
    City.objects.using(each_vendor.remote).create(pk=500, name="Extra", country_id=cities[0].country_id)

    _, notes = full(dry_run=True, adopt_pks=True)

    expected = [("City", "different", str(cities[0].pk)), ("City", "extra", "500")]
    assert notes.kinds == expected

    _, notes = full(adopt_pks=True)

    assert notes.kinds == expected
    assert logged() == [("city", str(cities[0].pk), "CHANGE")]
    assert_same_on_remote(cities[0])
    assert Reference.objects.count() == 3 + 3 + 2 + 1
    assert_nothing_pending()
    _, notes = full()
    assert notes.kinds == expected[1:]


def test_without_being_asked_automatic_keys_mean_nothing(sqlite_pair: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[]):
        article = factories.article()
    copy_to_remote(sqlite_pair, Article)

    _, notes = full(dry_run=True)

    assert notes.kinds == [("Article", "extra", str(article.pk)), ("Article", "missing", str(article.pk))]


def test_an_empty_remote_is_loaded(each_vendor: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[]):
        for _ in range(5):
            factories.city()
        factories.playlist(factories.song(), factories.song())
        factories.pizzeria()

    full(batch_size=2)

    assert_in_step(City, Country, Playlist, Pizzeria, Place)
    assert_agree()


def test_references_are_counted_while_they_are_made(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL does so a minute later, and may read all of them for each batch until then."""
    monkeypatch.setattr(statistics, "_FIRST", 10)
    Article.objects.bulk_create([Article(title="New") for _ in range(25)])

    with override_settings(SYNCHRO_BATCH_SIZE=5):
        full()

    for using in (postgres_pair.local, postgres_pair.remote):
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'synchro_reference'::regclass")
            assert 10 <= cursor.fetchone()[0] <= 25


def test_a_restored_remote_gets_what_it_lost(pair: Pair) -> None:
    """REMOTE is restored from a backup; a row that LOCAL remembers there is another object's now."""
    first, second = article_on_both(), article_on_both()
    key = Reference.objects.get(local_object_id=str(second.pk)).remote_object_id
    Article.objects.using(pair.remote).filter(pk=key)._raw_delete(pair.remote)
    Reference.objects.using(pair.remote).filter(local_object_id=key).delete()
    Article.objects.using(pair.remote).create(pk=key, title="Another one")

    full()

    assert Article.objects.using(pair.remote).count() == 3
    assert_same_on_remote(first)
    assert_same_on_remote(second)
    assert Article.objects.using(pair.remote).get(pk=key).title == "Another one"


def test_local_forgot_its_references(pair: Pair) -> None:
    article_on_both()
    reset_synchro()

    full()

    assert Reference.objects.count() == 1
    assert_in_step(Article)


def test_the_same_database_under_both_aliases(sqlite_pair: Pair) -> None:
    one = engine.identity(sqlite_pair.local)
    with connections[sqlite_pair.remote].cursor() as cursor:
        cursor.execute("INSERT INTO synchro_option VALUES ('identity', %s)", [str(one)])

    with pytest.raises(SameIdentity):
        full()


def test_a_copy_with_a_log_of_its_own(sqlite_pair: Pair) -> None:
    """What the log of a restored copy holds are LOCAL's changes, not REMOTE's."""
    article = article_on_both()
    for using in (sqlite_pair.local, sqlite_pair.remote):
        factories.make(Locker, number=9, using=using)
    Locker.objects.using(sqlite_pair.remote).update(note="Damaged")
    with sqlite_pair.reversed.active():
        Locker.objects.using(sqlite_pair.remote).get().save()
    ChangeLog.objects.all().delete()
    renew_identity(using=sqlite_pair.remote)

    full()

    assert_in_step(Locker)
    assert article.pk


def test_without_synchros_tables_on_remote(bare_pair: Pair) -> None:
    articles = [article_on_both() for _ in range(3)]
    factories.playlist(factories.song())
    sync()
    Article.objects.filter(pk=articles[0].pk).update(title="Unlogged")
    Article.objects.filter(pk=articles[1].pk)._raw_delete(bare_pair.local)
    Article.objects.using(bare_pair.remote).create(title="Extra")
    factories.make(Locker, number=1, using=bare_pair.remote)

    _, notes = full()

    assert [kind for _, kind, _ in notes.kinds] == ["deleted", "different", "extra", "extra"]
    full(delete_extra=True)
    assert_in_step(Article, Locker, Playlist)


# What cannot be compared


def test_a_missing_table_fails_its_model_alone(each_vendor: Pair) -> None:
    article = factories.article()
    factories.seat()
    sync()
    Article.objects.update(title="Unlogged")
    with connections[each_vendor.remote].schema_editor() as editor:
        editor.delete_model(Seat)
    try:
        tallies, _ = full(models=("shop.Article", "shop.Seat"))
    finally:
        with connections[each_vendor.remote].schema_editor() as editor:
            editor.create_model(Seat)

    assert "shop_seat" in tallies["Seat"].error
    assert_same_on_remote(article)


def test_a_missing_column_fails_its_model_alone(each_vendor: Pair) -> None:
    factories.city()
    sync()
    with connections[each_vendor.remote].cursor() as cursor:
        cursor.execute("ALTER TABLE shop_city RENAME COLUMN population TO people")
    try:
        tallies, _ = full(models=("shop.City", "shop.Country"))
    finally:
        with connections[each_vendor.remote].cursor() as cursor:
            cursor.execute("ALTER TABLE shop_city RENAME COLUMN people TO population")

    assert "population" in tallies["City"].error
    assert tallies["Country"].equal == 1


@only_on("postgres", "mariadb")
@pytest.mark.parametrize("by_checksums", [True, False])
def test_a_table_that_may_not_be_read_fails_its_model_alone(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, by_checksums: bool
) -> None:
    article = factories.article()
    factories.make(Locker, number=1)
    sync()
    Article.objects.update(title="Unlogged")
    if not by_checksums:
        monkeypatch.setattr(digests, "plan", lambda link, model: None)

    with without_permission(each_vendor.remote, "shop_locker"):
        tallies, _ = full(models=("shop.Article", "shop.Locker"))

    assert tallies["Locker"].error in {
        "permission denied for table shop_locker",
        "(1142) SELECT command denied for table `shop_locker`",
        "(1142) SELECT command denied for table 'shop_locker'",
    }
    assert_same_on_remote(article)


def test_an_object_that_cannot_be_repaired(pair: Pair) -> None:
    ambiguous_twin(pair)
    ChangeLog.objects.all().delete()
    article = article_on_both()
    Article.objects.update(title="Unlogged")

    tallies, _ = full()

    assert numbers(tallies["Twin"]) == {"compared": 1, "missing": 1, "extra": 2, "logged": 1, "failed": 1}
    assert_same_on_remote(article)
    assert full()[0]["Twin"].skipped == 1


def test_unique_values_that_moved(pair: Pair) -> None:
    """Objects in each other's way are repaired together: those that come along are equal when their turn comes."""
    slots = [factories.slot() for _ in range(3)]
    sync()
    labels = [each.label for each in slots]
    for each, label in reversed(list(zip(slots, [*labels[1:], "free"], strict=True))):
        Slot.objects.filter(pk=each.pk).update(label=label)

    tallies, _ = full(batch_size=1)

    tally = tallies["Slot"]
    assert (tally.compared, tally.failed) == (3, 0)
    assert 1 <= tally.different == tally.repaired <= 3
    assert_in_step(Slot)


# Narrowing


def test_only_some_models(sqlite_pair: Pair) -> None:
    factories.city()
    factories.pizzeria()

    assert list(full(dry_run=True, models=("shop.city",))[0]) == ["City"]
    assert list(full(dry_run=True, models=("shop.Pizzeria",))[0]) == ["Place", "Restaurant", "Pizzeria"]
    assert "City" in full(dry_run=True, models=("shop",))[0]
    assert "Everything" not in full(dry_run=True, models=("shop",))[0]


def test_only_some_objects(sqlite_pair: Pair) -> None:
    first, second = factories.article(words=1), factories.article(words=2)
    sync()
    Article.objects.update(title="Unlogged")
    Article.objects.using(sqlite_pair.remote).create(title="Extra")

    tallies, notes = full(models=("shop.Article",), where=("words__gte=2",))

    assert notes.kinds == [("Article", "different", str(second.pk))]
    assert tallies["Article"].compared == 1
    assert first.pk


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (("words__in=1,3",), [1, 3]),
        (("words__range=2,3",), [2, 3]),
        (("words__isnull=True",), []),
        (("words__isnull=False", "words__lt=3"), [1, 2]),
        (("title__contains=a", "title__contains=b"), [2]),
        (("title=a=b",), [2]),
    ],
)
def test_conditions(sqlite_pair: Pair, where: tuple[str, ...], numbers: list[int]) -> None:
    """All of them hold, also two of a kind; values of a list are separated by commas."""
    for words, title in [(1, "a"), (2, "a=b"), (3, "b")]:
        factories.article(words=words, title=title)

    found = Request(where=where).objects(Article, sqlite_pair.local)

    assert list(found.order_by("pk").values_list("words", flat=True)) == numbers


def test_a_condition_on_nothing(sqlite_pair: Pair) -> None:
    boss = factories.employee()
    factories.make(Employee, name="x", manager=boss)

    assert list(Request(where=("manager=None",)).objects(Employee, sqlite_pair.local)) == [boss]


@pytest.mark.parametrize(("since", "compared"), [("2026-02-01", 2), ("2026-02-01T12:00", 1), ("2026-02-02", 0)])
def test_only_what_was_saved_since(sqlite_pair: Pair, since: str, compared: int) -> None:
    """As auto_now fields say; models without one are compared whole."""
    factories.article()
    stamped = [factories.make(Stamped, name="x") for _ in range(3)]
    for each, moment in zip(stamped, [(1, 31, 23), (2, 1, 0), (2, 1, 12)], strict=True):
        Stamped.objects.filter(pk=each.pk).update(changed=datetime(2026, *moment, tzinfo=UTC))
    sync()

    tallies, _ = full(dry_run=True, since=since, models=("shop.Stamped", "shop.Article"))

    assert (tallies["Stamped"].compared, tallies["Article"].compared) == (compared, 1)


@isolate_apps("tests.shop")
@pytest.mark.parametrize(
    ("since", "days"), [("2026-02-01", [1, 2]), ("2026-02-01T12:00", [1, 2]), ("2026-02-02T01:00+05:00", [1, 2])]
)
def test_only_what_was_saved_since_a_day(sqlite_pair: Pair, since: str, days: list[int]) -> None:
    """A date knows no hours: whatever was saved on the day may have been saved since."""

    class Dated(Model):
        day = DateField(auto_now=True)

        class Meta:
            app_label = "shop"

    dated = Dated._base_manager.using(sqlite_pair.local)
    with connections[sqlite_pair.local].schema_editor() as editor:
        editor.create_model(Dated)
    try:
        for each in (date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2)):
            dated.filter(pk=dated.create().pk).update(day=each)
        found = Request(since=since).objects(Dated, sqlite_pair.local)
        assert sorted(found.values_list("day", flat=True)) == [date(2026, 2, day) for day in days]
    finally:
        with connections[sqlite_pair.local].schema_editor() as editor:
            editor.delete_model(Dated)


@pytest.mark.parametrize(
    "options", [{"where": ("nothing",)}, {"since": "yesterday"}, {"max_delete": "many"}, {"max_delete": "110%"}]
)
def test_words_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(SynchroError, match="it must be"):
        Request(**options)


# Interruptions


class Stop(KeyboardInterrupt):
    pass


class Impatient(Notes):
    """Presses Ctrl-C after so many objects."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            raise Stop


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_next_run_goes_on(pair: Pair, dry_run: bool) -> None:
    """Of a model without checksums."""
    tags = [factories.tag(slug=f"tag-{number}") for number in range(6)]
    for _ in range(2):
        factories.seat()
    sync()
    Tag.objects.update(title="Unlogged")
    request = Request(dry_run=dry_run, models=("shop.Seat", "shop.Tag"))
    first, second = Impatient(4), Notes()
    with pytest.raises(Stop):
        run(request, watcher=first, batch_size=2)

    tallies = run(request, watcher=second, batch_size=2)

    assert len(first.found) == 4
    assert [each.key for each in second.found] == [each.pk for each in tags[4:]]
    expected = {"compared": 6, "different": 6, **({} if dry_run else {"logged": 6, "repaired": 6})}
    assert [numbers(each) for each in tallies] == [expected, {"compared": 2, "equal": 2}]
    assert Comparison.objects.get().state == Comparison.State.FINISHED


def test_begin_anew(sqlite_pair: Pair) -> None:
    """Nobody ever goes on with what was begun anew: an abandoned run knows nothing of what has happened since."""
    for _ in range(4):
        factories.article()
    sync()
    request = Request(dry_run=True, models=("shop.Article",))
    with pytest.raises(Stop):
        run(request, watcher=Impatient(2), batch_size=2)
    Article.objects.update(title="Unlogged")

    (tally,) = run(request, restart=True)
    (third,) = run(request)

    assert tally.different == third.different == 4
    states = Comparison.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [Comparison.State.ABANDONED, Comparison.State.FINISHED, Comparison.State.FINISHED]


def test_of_two_that_began_at_once_the_first_that_finishes_ends_the_other(sqlite_pair: Pair) -> None:
    factories.article()
    request = Request(dry_run=True, models=("shop.Article",))

    class Rival(Notes):
        def begin(self, *args: Any) -> None:
            Comparison(request=Comparison.objects.get().request).start()

    run(request, watcher=Rival())

    states = Comparison.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [Comparison.State.FINISHED, Comparison.State.ABANDONED]


@pytest.mark.parametrize(("hours", "compared"), [(11, [3, 4]), (13, [1, 2, 3, 4])])
def test_old_progress_is_not_gone_on_with(sqlite_pair: Pair, hours: int, compared: list[int]) -> None:
    """A nightly run that died must not make the next one skip what it had compared."""
    articles = [factories.article(title="Old") for _ in range(4)]
    sync()
    request = Request(dry_run=True, models=("shop.Article",))
    with pytest.raises(Stop):
        run(request, watcher=Impatient(2), batch_size=2)
    moment = timezone.now() - timedelta(hours=hours)
    Comparison.objects.update(started_at=moment - timedelta(days=2), updated_at=moment)
    Article.objects.update(title="Unlogged")
    watcher = Notes()

    run(request, watcher=watcher)

    assert [each.key for each in watcher.found] == [str(articles[number - 1].pk) for number in compared]
    assert watcher.resumed == ([] if hours > 12 else [moment - timedelta(days=2)])


@pytest.mark.parametrize("change", [reset_synchro, lambda: renew_identity(using="sqlite_b")], ids=["reset", "another"])
def test_progress_between_other_databases_or_references_is_not_gone_on_with(
    sqlite_pair: Pair, change: Callable[[], Any]
) -> None:
    """What an interrupted comparison has found to be right may not be so any more."""
    for _ in range(4):
        factories.article()
    sync()
    request = Request(dry_run=True, models=("shop.Article",))
    with pytest.raises(Stop):
        run(request, watcher=Impatient(2), batch_size=2)
    change()
    watcher = Notes()

    run(request, watcher=watcher)

    assert watcher.resumed == []


def test_the_last_comparisons_are_kept(sqlite_pair: Pair) -> None:
    for _ in range(KEPT_COMPARISONS + 2):
        full(dry_run=True, models=("shop.Tag",))

    assert Comparison.objects.count() == KEPT_COMPARISONS == 20
    assert Comparison.objects.earliest("pk").pk == Comparison.objects.latest("pk").pk - 19


class OneModel(Notes):
    """Presses Ctrl-C when the first model is done."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: set[str] = set()

    def begin(self, model: str, total: int, done: int) -> None:
        self.begun.add(model)
        if len(self.begun) > 1:
            raise Stop


@contextmanager
def refusing() -> Iterator[None]:
    """REMOTE takes no articles and lets none go."""

    def refuse(using: str, **kwargs: Any) -> None:
        if using != settings.SYNCHRO_LOCAL:
            raise ValueError("not here")

    for each in (post_save, pre_delete):
        each.connect(refuse, sender=Article)
    try:
        yield
    finally:
        for each in (post_save, pre_delete):
            each.disconnect(refuse, sender=Article)


@pytest.mark.parametrize("how", ["at the next model", "before the repair"])
def test_failures_outlive_an_interruption(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """What the first run has logged did not become good because another process reports it."""
    changed, gone, _ = (article_on_both() for _ in range(3))
    Article.objects.filter(pk=changed.pk).update(title="Unlogged")
    Article.objects.filter(pk=gone.pk)._raw_delete(sqlite_pair.local)
    request = Request(models=("shop.Article", "shop.Tag"), max_delete="100%")
    with refusing(), monkeypatch.context() as patch:
        if how == "before the repair":
            patch.setattr(engine, "sync_objects", Mock(side_effect=Stop))
        with pytest.raises(Stop):
            run(request, watcher=OneModel())

    with refusing():
        article, _ = run(request)

    expected = {"compared": 2, "equal": 1, "different": 1, "deleted": 1, "logged": 2, "failed": 2}
    assert numbers(article) == expected


def test_a_model_that_fails_after_it_has_logged(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    article_on_both()
    Article.objects.update(title="Unlogged")
    monkeypatch.setattr(engine, "sync_objects", Mock(side_effect=ProgrammingError))

    with refusing():
        tallies, _ = full(models=("shop.Article",))

    tally = tallies["Article"]
    assert tally.error.startswith("ProgrammingError")
    assert (tally.logged, tally.repaired, tally.failed) == (1, 0, 1)


def test_a_repair_that_loses_against_remote_after_an_interruption(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    article_on_both()
    ChangeLog.objects.update(date=timezone.now() - timedelta(hours=1))
    Article.objects.update(title="Unlogged on LOCAL")
    request = Request(models=("shop.Article",))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "sync_objects", Mock(side_effect=Stop))
        with pytest.raises(Stop):
            run(request)
    with pair.reversed.active():
        Article.objects.using(pair.remote).get().save()

    (tally,) = run(request)

    assert numbers(tally) == {"compared": 1, "different": 1}


def test_deletes_before_a_kill_count_with_those_after_it(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the report, and for --max-delete: it must not begin anew with each run."""
    articles = [article_on_both() for _ in range(8)]
    local = Article.objects.using(sqlite_pair.local)
    local.filter(pk__in=[each.pk for each in articles[:3]])._raw_delete(sqlite_pair.local)
    request = Request(models=("shop.Article",), max_delete="50%")
    real = repair.log_deletes

    def stop(*args: Any) -> list[str]:
        if ChangeLog.objects.pending().exists():
            raise Stop
        return real(*args)

    with override_settings(SYNCHRO_BATCH_SIZE=2), monkeypatch.context() as patch:
        patch.setattr(repair, "log_deletes", stop)
        with pytest.raises(Stop):
            run(request)
    local.filter(pk__in=[each.pk for each in articles[:5]])._raw_delete(sqlite_pair.local)

    (tally,) = run(request)

    assert "3 rows of REMOTE would be deleted" in tally.error
    assert (tally.deleted, tally.repaired) == (5, 2)
    assert Article.objects.using(sqlite_pair.remote).count() == 6


def test_numbers_add_up_where_a_model_is_begun_anew(sqlite_pair: Pair) -> None:
    """What the interrupted run has repaired is equal now, and was not."""
    for _ in range(6):
        factories.tag()
    sync()
    Tag.objects.update(title="Unlogged")
    request = Request(models=("shop.Tag",))
    with override_settings(SYNCHRO_BATCH_SIZE=2), pytest.raises(Stop):
        run(request, watcher=Impatient(2))
    Comparison.objects.update(position="", scan={"places": "lost"})

    (tally,) = run(request)

    assert numbers(tally) == {"compared": 6, "different": 6, "logged": 6, "repaired": 6}


def test_another_process_takes_over(sqlite_pair: Pair) -> None:
    for _ in range(4):
        factories.article()
    sync()
    request = Request(dry_run=True, models=("shop.Article",))

    class Rival(Notes):
        def advance(self, count: int) -> None:
            run(request)

    with pytest.raises(SynchroError, match="taken over"):
        run(request, watcher=Rival(), batch_size=2)

    assert Comparison.objects.get().tallies[0]["compared"] == 4


def test_an_outage_leaves_what_was_logged_pending(sqlite_pair: Pair) -> None:
    article = article_on_both()
    Article.objects.update(title="Unlogged")

    def fail(sender: Any, **kwargs: Any) -> None:
        raise OperationalError("database is locked")

    post_save.connect(fail, sender=Article)
    try:
        with pytest.raises(OperationalError):
            full()
    finally:
        post_save.disconnect(fail, sender=Article)
    assert ChangeLog.objects.pending().count() == 1

    tallies, _ = full()

    assert tallies["Article"].repaired == 1
    assert_same_on_remote(article)
