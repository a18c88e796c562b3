"""Capture: what appears in the log when something changes on LOCAL, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core import serializers
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.test import override_settings
from django.utils import timezone

from synchro import DisableSynchroLog, disable_synchro_log
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import logged
from tests.databases import Pair
from tests.queries import kinds, queries
from tests.shop.models import (
    Article,
    Bin,
    Box,
    Cafe,
    CheapProduct,
    Comment,
    Crate,
    Fair,
    Haunted,
    Hidden,
    Holiday,
    Legacy,
    Locker,
    Parcel,
    Passport,
    Pizzeria,
    Place,
    Product,
    Profile,
    Rack,
    Restaurant,
    Safe,
    Seat,
    Shelf,
    Stamped,
    Stubborn,
    Tag,
    Unmanaged,
)
from tests.threads import PATIENCE, in_thread
from tests.unwatched.models import Continent, Region


def forget() -> None:
    """Empty the log after the preparations of a test."""
    ChangeLog.objects.all().delete()


@contextmanager
def rolled_back(using: str) -> Iterator[None]:
    """Roll back what the block does: the transaction or, inside of one, to a savepoint."""
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)


def warm_up() -> None:
    """Let Django read content types and other things that it reads once in a process."""
    factories.article().delete()
    forget()


# One row a change


def test_add_change_delete(each_vendor: Pair) -> None:
    before = timezone.now()
    article = factories.article()
    pk = article.pk
    article.title = "New"
    article.save()
    article.delete()

    assert logged() == [("article", str(pk), "ADD"), ("article", str(pk), "CHANGE"), ("article", str(pk), "DELETE")]
    for entry in ChangeLog.objects.all():
        assert before <= entry.date <= timezone.now()
        assert entry.date.tzinfo is not None
        assert entry.content_type == ContentType.objects.get_for_model(Article)
        assert (entry.state, entry.attempts, entry.reason) == (ChangeLog.State.PENDING, 0, "")
        assert (entry.next_attempt_at, entry.synced_at, entry.natural_key) == (None, None, None)


def test_dates_keep_their_microseconds(each_vendor: Pair) -> None:
    for _ in range(5):
        factories.article()

    microseconds = {entry.date.microsecond % 1000 for entry in ChangeLog.objects.all()}
    assert microseconds != {0}


def test_every_way_to_save_one_object(pair: Pair) -> None:
    article = Article.objects.create(title="One")
    article.save(update_fields=["title"])
    Article.objects.update_or_create(pk=article.pk, defaults={"title": "Two"})
    other, _ = Article.objects.get_or_create(title="Three")
    run_async(_change(other.pk))

    assert logged() == [
        ("article", str(article.pk), "ADD"),
        ("article", str(article.pk), "CHANGE"),
        ("article", str(article.pk), "CHANGE"),
        ("article", str(other.pk), "ADD"),
        ("article", str(other.pk), "CHANGE"),
    ]


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous code, and close the connections of the thread in which Django does its work."""

    async def work_and_close() -> None:
        try:
            await work
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(work_and_close())


async def _change(pk: int) -> None:
    article = await Article.objects.aget(pk=pk)
    await article.asave()


def test_a_queryset_delete_logs_each_object(pair: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    forget()

    Article.objects.all().delete()

    assert sorted(logged()) == [("article", str(each.pk), "DELETE") for each in articles]


def test_a_change_costs_one_insert(pair: Pair) -> None:
    warm_up()

    with queries(pair.local) as adding:
        article = factories.article()
    with queries(pair.local) as changing:
        article.save()
    with queries(pair.local) as deleting:
        article.delete()

    assert kinds(adding) == ["INSERT shop_article", "INSERT synchro_changelog"]
    assert kinds(changing) == ["UPDATE shop_article", "INSERT synchro_changelog"]
    assert kinds(deleting) == ["DELETE shop_article", "INSERT synchro_changelog"]


def test_the_cost_does_not_depend_on_the_log_or_on_earlier_changes(pair: Pair) -> None:
    article = factories.article()
    for _ in range(20):
        article.save()

    with queries(pair.local) as changing:
        article.save()

    assert len(changing) == 2


def test_nothing_is_sent_to_remote(pair: Pair) -> None:
    with queries(pair.remote) as sent:
        article = factories.article()
        article.save()
        article.delete()

    assert sent == []


# What is not logged


def test_unwatched_models_are_not_logged(pair: Pair) -> None:
    continent = factories.make(Continent, name="Europe")
    continent.save()
    continent.delete()

    assert logged() == []


def test_changes_on_remote_are_not_logged(pair: Pair) -> None:
    article = factories.article(using=pair.remote)
    article.save()
    playlist = factories.make(factories.Playlist, using=pair.remote, name="Loud")
    playlist.songs.add(factories.song(using=pair.remote))
    article.delete()

    assert logged() == []
    assert logged(using=pair.remote) == []


def test_changes_in_a_third_database_are_not_logged(sqlite_pair: Pair) -> None:
    with override_settings(SYNCHRO_LOCAL="sqlite_b", SYNCHRO_REMOTE=None):
        factories.article(using="sqlite_a")

    assert logged(using="sqlite_a") == []
    assert logged(using="sqlite_b") == []


def test_what_sends_no_signal_is_not_logged(pair: Pair) -> None:
    """As 0.x documents it: these are for touch() and for a full comparison."""
    Article.objects.bulk_create([Article(title="One"), Article(title="Two")])
    Article.objects.update(title="Three")
    Article.objects.bulk_update(Article.objects.all(), ["title"])
    with connections[pair.local].cursor() as cursor:
        cursor.execute("UPDATE shop_article SET title = 'Four'")

    assert logged() == []


def test_changes_are_logged_without_a_remote(pair: Pair) -> None:
    with override_settings(SYNCHRO_REMOTE=None):
        article = factories.article()

    assert logged() == [("article", str(article.pk), "ADD")]


def test_watched_models_follow_the_setting(pair: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "city")]):
        factories.article()
        assert logged() == []
    with override_settings(SYNCHRO_MODELS=["unwatched"]):
        continent = factories.make(Continent, name="Europe")
        assert logged() == [("continent", str(continent.pk), "ADD")]
    article = factories.article()

    assert logged()[1:] == [("article", str(article.pk), "ADD")]


def test_a_broken_setting_leaves_the_project_usable(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(SYNCHRO_MODELS=["nowhere"]):
        factories.article()

    assert logged() == []
    assert "nothing is logged error=SYNCHRO_MODELS names the app 'nowhere'" in caplog.text


@pytest.mark.parametrize("signal", [post_save, pre_delete, post_delete, m2m_changed])
def test_no_receiver_listens_to_every_model(signal: Any) -> None:
    assert not signal.has_listeners(Continent)
    assert not signal.has_listeners(Region)


def test_unwatched_models_keep_their_fast_delete(pair: Pair) -> None:
    for key in ("one", "two"):
        factories.make(Session, session_key=key, session_data="", expire_date=factories.moment())

    with queries(pair.local) as sent:
        Session.objects.all().delete()

    assert kinds(sent) == ["DELETE django_session"]


# Transactions


def test_the_entry_is_part_of_the_caller_s_transaction(postgres_pair: Pair) -> None:
    with transaction.atomic(using=postgres_pair.local):
        article = factories.article()
        assert in_thread(logged).result(PATIENCE) == []

    assert in_thread(logged).result(PATIENCE) == [("article", str(article.pk), "ADD")]


def test_a_rolled_back_change_is_not_logged(each_vendor: Pair) -> None:
    with rolled_back(each_vendor.local):
        factories.article()

    assert logged() == []


def test_a_change_rolled_back_to_a_savepoint_is_not_logged(each_vendor: Pair) -> None:
    with transaction.atomic(using=each_vendor.local):
        kept = factories.article()
        with rolled_back(each_vendor.local):
            kept.save()
            factories.article()
        last = factories.article()

    assert logged() == [("article", str(kept.pk), "ADD"), ("article", str(last.pk), "ADD")]


def test_a_transaction_on_another_database_does_not_matter(pair: Pair) -> None:
    with rolled_back(pair.remote):
        article = factories.article()

    assert logged() == [("article", str(article.pk), "ADD")]


def test_appending_waits_for_no_one(postgres_pair: Pair) -> None:
    """A worker that holds locks on the entries of an object does not make the next change of the object wait."""
    article = factories.article()
    with transaction.atomic(using=postgres_pair.local):
        assert len(ChangeLog.objects.select_for_update()) == 1
        in_thread(article.save).result(PATIENCE)

    assert len(logged()) == 2


def test_a_late_commit_is_pending_like_any_other(postgres_pair: Pair) -> None:
    with transaction.atomic(using=postgres_pair.local):
        early = factories.article()
        later = in_thread(factories.article).result(PATIENCE)
        assert [entry.object_id for entry in ChangeLog.objects.pending()] == [str(early.pk), str(later.pk)]

    assert {entry.object_id for entry in ChangeLog.objects.pending()} == {str(early.pk), str(later.pk)}


# Pausing


def test_pausing(pair: Pair) -> None:
    with DisableSynchroLog():
        article = factories.article()
        with DisableSynchroLog():
            article.save()
        playlist = factories.playlist(factories.song())
        playlist.songs.clear()
        factories.make(Shelf, name="s").delete()
        article.delete()
    assert logged() == []

    article = factories.article()
    assert logged() == [("article", str(article.pk), "ADD")]


def test_pausing_as_a_decorator(pair: Pair) -> None:
    disable_synchro_log(factories.article)()
    assert logged() == []

    factories.article()
    assert len(logged()) == 1


def test_pausing_does_not_hit_other_threads(postgres_pair: Pair) -> None:
    with DisableSynchroLog():
        factories.article()
        article = in_thread(factories.article).result(PATIENCE)

    assert logged() == [("article", str(article.pk), "ADD")]


def test_pausing_in_async_code(pair: Pair) -> None:
    async def quietly() -> None:
        with DisableSynchroLog():
            await Article.objects.acreate(title="Quiet")

    async def loudly() -> None:
        await Article.objects.acreate(title="Loud")

    async def main() -> None:
        await asyncio.gather(quietly(), loudly())

    run_async(main())

    loud = Article.objects.get(title="Loud")
    assert logged() == [("article", str(loud.pk), "ADD")]


def test_pausing_inside_a_transaction_covers_only_what_happens_inside(pair: Pair) -> None:
    with transaction.atomic(using=pair.local):
        with DisableSynchroLog():
            factories.article()
        article = factories.article()

    assert logged() == [("article", str(article.pk), "ADD")]


# Primary keys and natural keys


def test_object_ids(pair: Pair) -> None:
    parcel = factories.make(Parcel)
    factories.make(Locker, number=-7)
    factories.make(Tag, slug="a b/'\"%é\U0001f600")
    factories.make(Seat, row="A", number=5)
    legacy = factories.make(Legacy, name="Old")

    assert logged() == [
        ("parcel", str(parcel.pk), "ADD"),
        ("locker", "-7", "ADD"),
        ("tag", "a b/'\"%é\U0001f600", "ADD"),
        ("seat", '["A", "5"]', "ADD"),
        ("legacy", str(legacy.pk), "ADD"),
    ]


def test_a_reassigned_pk_is_a_new_object(pair: Pair) -> None:
    locker = factories.make(Locker, number=1)
    locker.number = 2
    locker.save()

    assert logged() == [("locker", "1", "ADD"), ("locker", "2", "ADD")]


def test_a_delete_keeps_the_natural_key(each_vendor: Pair) -> None:
    country = factories.country(code="DE")
    holiday = factories.make(Holiday, country=country, day=factories.day())
    product = factories.product(sku="Ä-1")
    forget()

    holiday.delete()
    product.delete()

    assert [(entry.content_type.model, entry.natural_key) for entry in ChangeLog.objects.order_by("pk")] == [
        ("holiday", [["DE"], "2024-02-29"]),
        ("product", ["Ä-1"]),
    ]


def test_a_cascade_keeps_natural_keys_that_reach_into_deleted_rows(each_vendor: Pair) -> None:
    country = factories.country(code="DE")
    factories.make(Holiday, country=country, day=factories.day())
    forget()

    country.delete()

    found = {entry.content_type.model: entry.natural_key for entry in ChangeLog.objects.all()}
    assert found == {"holiday": [["DE"], "2024-02-29"], "country": ["DE"]}


def test_a_natural_key_that_fails_does_not_break_the_delete(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    product = factories.product()
    pk = product.pk
    forget()

    def broken(self: Product) -> None:
        raise RuntimeError(f"No key for the customer {47}{11}.")

    monkeypatch.setattr(Product, "natural_key", broken)
    product.delete()

    assert logged() == [("product", str(pk), "DELETE")]
    assert ChangeLog.objects.get().natural_key is None
    assert "model=shop.Product error=RuntimeError" in caplog.text
    assert "in broken" in caplog.text
    assert "4711" not in caplog.text


def test_a_pk_over_255_characters_does_not_break_the_save(sqlite_pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite keeps a longer text than the column has room for."""
    factories.make(Tag, slug="x" * 255)
    factories.make(Tag, slug="x" * 256)

    assert logged() == [("tag", "x" * 255, "ADD")]
    assert "primary key too long model=" in caplog.text


# Models that do something unexpected


def test_models_with_quirks_are_logged(pair: Pair) -> None:
    haunted = factories.make(Haunted, name="Canterville")
    hidden = factories.make(Hidden, name="h", visible=False)
    stamped = factories.make(Stamped, name="s")
    unmanaged = factories.make(Unmanaged, name="u")
    haunted_pk = haunted.pk
    haunted.delete()

    assert logged() == [
        ("haunted", str(haunted_pk), "ADD"),
        ("hidden", str(hidden.pk), "ADD"),
        ("stamped", str(stamped.pk), "ADD"),
        ("unmanaged", str(unmanaged.pk), "ADD"),
        ("haunted", str(haunted_pk), "DELETE"),
    ]


def test_a_delete_that_the_model_refuses_is_not_logged(pair: Pair) -> None:
    stubborn = factories.make(Stubborn, name="No")
    with pytest.raises(RuntimeError, match="Not with me"):
        stubborn.delete()

    assert logged() == [("stubborn", str(stubborn.pk), "ADD")]


def test_fixtures_are_logged(pair: Pair, tmp_path: Any) -> None:
    article, city = factories.article(), factories.city()
    pizzeria = factories.pizzeria()
    playlist = factories.playlist(factories.song())
    objects: list[Any] = [article, city.country, city, Place.objects.get(), Restaurant.objects.get(), pizzeria]
    objects += [*playlist.songs.all(), playlist]
    fixture = tmp_path / "shop.json"
    fixture.write_text(serializers.serialize("json", objects))
    forget()

    call_command("loaddata", str(fixture), database=pair.local, verbosity=0)

    entries = set(logged())
    assert {(model, pk) for model, pk, _ in entries} >= {(each._meta.model_name, str(each.pk)) for each in objects}


# Proxies and multi-table inheritance


def test_a_proxy_logs_its_concrete_model(pair: Pair) -> None:
    cheap = CheapProduct.objects.create(sku="cheap")
    pk = cheap.pk
    cheap.save()
    cheap.delete()

    assert logged() == [("product", str(pk), "ADD"), ("product", str(pk), "CHANGE"), ("product", str(pk), "DELETE")]


def test_a_queryset_delete_of_a_proxy(pair: Pair) -> None:
    product = factories.product()
    forget()

    CheapProduct.objects.all().delete()

    assert logged() == [("product", str(product.pk), "DELETE")]


def test_a_model_watched_by_the_name_of_its_proxy(pair: Pair) -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "cheapproduct")]):
        product = factories.product()
        CheapProduct.objects.get().save()

    assert logged() == [("product", str(product.pk), "ADD"), ("product", str(product.pk), "CHANGE")]


def test_the_child_of_three_levels_logs_each_level(pair: Pair) -> None:
    pizzeria = factories.pizzeria()
    pk = str(pizzeria.pk)
    assert logged() == [("place", pk, "ADD"), ("restaurant", pk, "ADD"), ("pizzeria", pk, "ADD")]
    forget()

    pizzeria.stars = 3
    pizzeria.save()
    assert logged() == [("place", pk, "CHANGE"), ("restaurant", pk, "CHANGE"), ("pizzeria", pk, "CHANGE")]


def test_the_levels_of_a_child_are_logged_by_one_insert(pair: Pair) -> None:
    pizzeria = factories.pizzeria()

    with queries(pair.local) as changing:
        pizzeria.save()

    assert kinds(changing) == [
        "UPDATE shop_place",
        "UPDATE shop_restaurant",
        "UPDATE shop_pizzeria",
        "INSERT synchro_changelog",
    ]


def test_a_parent_saved_alone_logs_itself(pair: Pair) -> None:
    pizzeria = factories.pizzeria()
    forget()

    Place.objects.get().save()
    Restaurant.objects.get().save()

    pk = str(pizzeria.pk)
    assert logged() == [("place", pk, "CHANGE"), ("place", pk, "CHANGE"), ("restaurant", pk, "CHANGE")]


@pytest.mark.parametrize("level", [Place, Restaurant, Pizzeria])
def test_a_delete_on_any_level_logs_every_level(pair: Pair, level: Any) -> None:
    pk = str(factories.pizzeria().pk)
    forget()

    level.objects.get().delete()

    assert sorted(logged()) == [("pizzeria", pk, "DELETE"), ("place", pk, "DELETE"), ("restaurant", pk, "DELETE")]


def test_keep_parents_deletes_and_logs_the_child_only(pair: Pair) -> None:
    pizzeria = factories.pizzeria()
    pk = str(pizzeria.pk)
    forget()

    pizzeria.delete(keep_parents=True)

    assert logged() == [("pizzeria", pk, "DELETE")]


def test_a_link_to_the_parent_with_a_name_of_its_own(pair: Pair) -> None:
    cafe = factories.make(Cafe, name="c", cups=2)

    assert logged() == [("place", str(cafe.pk), "ADD"), ("cafe", str(cafe.pk), "ADD")]


def test_a_child_of_two_parents(pair: Pair) -> None:
    fair = factories.make(Fair, hall="A", topic="Books")

    assert sorted(logged()) == [
        ("event", str(fair.event_id), "ADD"),
        ("fair", str(fair.pk), "ADD"),
        ("venue", str(fair.venue_id), "ADD"),
    ]


def test_a_child_added_to_an_existing_parent(pair: Pair) -> None:
    place = factories.make(Place, name="p")
    forget()

    Restaurant(place_ptr=place, name="p", stars=1).save()

    pk = str(place.pk)
    # What matters is that both are named: Django says "created" about the child only.
    assert {(model, object_id) for model, object_id, _ in logged()} == {("place", pk), ("restaurant", pk)}


# What a delete does to others


def test_children_set_to_null_are_logged(each_vendor: Pair) -> None:
    shelf = factories.make(Shelf)
    boxes = [factories.make(Box, shelf=shelf) for _ in range(2)]
    factories.make(Box, shelf=factories.make(Shelf))
    pk = str(shelf.pk)
    forget()

    shelf.delete()

    assert sorted(logged()) == [
        *sorted(("box", str(box.pk), "CHANGE") for box in boxes),
        ("shelf", pk, "DELETE"),
    ]


def test_children_set_to_a_default_are_logged(pair: Pair) -> None:
    factories.make(Shelf, name="default")
    shelf = factories.make(Shelf)
    crate = factories.make(Crate, shelf=shelf)
    pk = str(shelf.pk)
    forget()

    shelf.delete()

    assert sorted(logged()) == [("crate", str(crate.pk), "CHANGE"), ("shelf", pk, "DELETE")]


def test_children_of_many_deleted_parents_are_logged(pair: Pair) -> None:
    shelves = [factories.make(Shelf) for _ in range(3)]
    boxes = [factories.make(Box, shelf=shelf) for shelf in shelves]
    forget()

    Shelf.objects.all().delete()

    assert sorted(logged()) == sorted(
        [("box", str(box.pk), "CHANGE") for box in boxes] + [("shelf", str(shelf.pk), "DELETE") for shelf in shelves]
    )


def test_orphans_of_an_unwatched_parent_are_logged(pair: Pair) -> None:
    shelf = factories.make(Shelf)
    box = factories.make(Box, shelf=shelf)
    forget()

    with override_settings(SYNCHRO_MODELS=[("shop", "box")]):
        shelf.delete()

    assert logged() == [("box", str(box.pk), "CHANGE")]


def test_orphans_of_a_proxy_and_of_a_child_are_logged(pair: Pair) -> None:
    """A delete of a restaurant deletes the place that a pizzeria calls its partner."""
    partner = factories.make(Restaurant, name="Partner")
    pizzeria = factories.pizzeria(partner=Place.objects.get())
    pk = str(partner.pk)
    forget()

    partner.delete()

    entries = logged()
    assert ("pizzeria", str(pizzeria.pk), "CHANGE") in entries
    assert {("place", pk, "DELETE"), ("restaurant", pk, "DELETE")} <= set(entries)


def test_orphans_are_not_logged_when_the_delete_is_refused(pair: Pair) -> None:
    shelf = factories.make(Shelf)
    factories.make(Box, shelf=shelf)
    factories.make(Safe, shelf=shelf)
    forget()

    with pytest.raises(Exception, match="protected"):
        shelf.delete()

    assert logged() == []


def test_an_orphan_that_is_deleted_in_the_same_breath(pair: Pair) -> None:
    """Its change may be logged before its delete, never after it."""
    employee = factories.employee()
    employee.manager = employee
    employee.save()
    pk = str(employee.pk)
    forget()

    employee.delete()

    assert logged()[-1] == ("employee", pk, "DELETE")


def test_cascades_are_logged(pair: Pair) -> None:
    shelf = factories.make(Shelf)
    bin_ = factories.make(Bin, shelf=shelf)
    rack_shelf = factories.make(Shelf)
    factories.make(Rack, shelf=rack_shelf)
    shelf_pk, bin_pk = str(shelf.pk), str(bin_.pk)
    forget()

    shelf.delete()

    assert sorted(logged()) == [("bin", bin_pk, "DELETE"), ("shelf", shelf_pk, "DELETE")]


def test_cascades_from_an_unwatched_parent_are_logged(pair: Pair) -> None:
    user = factories.user()
    profile = factories.make(Profile, user=user)
    pk = str(profile.pk)
    forget()

    user.delete()

    assert logged() == [("profile", pk, "DELETE")]


def test_generic_relations_are_deleted_and_logged(pair: Pair) -> None:
    target = Comment.objects.create(target=factories.article(), text="First")
    reply = Comment.objects.create(target=target, text="Second")
    keys = {str(target.pk), str(reply.pk)}
    forget()

    target.delete()

    assert {(model, pk) for model, pk, action in logged() if action == "DELETE"} == {("comment", pk) for pk in keys}


def test_a_one_to_one_pk(pair: Pair) -> None:
    passport = factories.make(Passport, employee=factories.employee(), number="X")
    pk = str(passport.pk)
    forget()

    passport.employee.delete()

    assert sorted(logged()) == [("employee", pk, "DELETE"), ("passport", pk, "DELETE")]


# last, because it is about all of them


def test_the_log_survives_a_project_without_time_zones(pair: Pair) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        connections[pair.local].close()
        factories.article()
        (naive,) = [entry.date for entry in ChangeLog.objects.all()]
    connections[pair.local].close()

    assert naive.tzinfo is None
    assert abs(naive - datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=9)) < timedelta(minutes=1)
    assert settings.USE_TZ
