"""Natural keys tell which REMOTE row is an object's copy, and never give away a row that is another object's."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Model

from synchro import DisableSynchroLog, engine
from synchro.exceptions import AmbiguousNaturalKey, CounterpartTaken
from synchro.models import Attempt, ChangeLog, Reference
from tests import factories
from tests.assertions import (
    assert_in_step,
    assert_not_on_remote,
    assert_nothing_pending,
    assert_same_on_remote,
    counterpart,
)
from tests.databases import Pair
from tests.roads import ROADS, TRIES, Road, Try, by_tasks, in_one_run, road_of, run_task, sync
from tests.shop.models import (
    Badge,
    City,
    Country,
    Coupon,
    Currency,
    Desk,
    Holiday,
    Landmark,
    Namesake,
    Product,
    Rate,
    Reading,
    Street,
    Tag,
    Tower,
    Town,
    Twin,
)
from tests.vendors import only_on

SENSOR = uuid.UUID("9d2c2f1a-0000-4000-8000-00000000cafe")


def one_of_each_kind(using: str, **changes: Any) -> list[Model]:
    """Save an object for each kind of natural key."""
    country = factories.country(code="DE", using=using)
    currency = factories.make(Currency, code="EUR", using=using)
    town = factories.make(Town, name="Kehl", using=using)
    day = factories.day()
    return [
        country,
        currency,
        town,
        factories.product(sku="chair", stock=changes.get("stock", 3), using=using),
        factories.make(Holiday, country=country, day=day, name=changes.get("name", ""), using=using),
        factories.make(Rate, currency=currency, day=day, value=changes.get("value", 1), using=using),
        factories.make(Street, name="Main St", town=town, length=changes.get("length", 1), using=using),
        factories.make(
            Reading,
            depth=Decimal("1.500"),
            sensor=SENSOR,
            taken=factories.moment(),
            result=changes.get("result", 0.5),
            using=using,
        ),
        factories.make(Tower, name="Eiffel", height=changes.get("height", 1), using=using),
    ]


KINDS = (Country, Currency, Town, Product, Holiday, Rate, Street, Reading, Landmark, Tower)


def test_rows_with_the_same_key_are_adopted(every_pair: Pair) -> None:
    """REMOTE has all of them, with primary keys of its own, before the first synchronization."""
    theirs = one_of_each_kind(every_pair.remote, stock=9, name="old", value=9, length=9, result=9.5, height=9)
    new = {"stock": 5, "name": "new", "value": Decimal("1.25"), "length": 5, "result": 5.5, "height": 5}
    ours = one_of_each_kind(every_pair.local, **new)

    road_of(every_pair)()

    for mine, other in zip(ours, theirs, strict=True):
        assert_same_on_remote(mine)
        assert counterpart(mine).pk == other.pk
    assert_in_step(*KINDS)


@pytest.mark.parametrize("bring", ROADS)
def test_rows_that_differ_in_one_part_of_the_key_are_left_alone(pair: Pair, bring: Road) -> None:
    country = factories.country(code="DE", using=pair.remote)
    sensor = {"sensor": SENSOR, "taken": factories.moment(microsecond=1), "depth": Decimal("1.5")}
    holiday = factories.make(Holiday, country=country, day=factories.moment().replace(day=1).date(), using=pair.remote)
    reading = factories.make(Reading, **sensor, result=1.5, using=pair.remote)
    one_of_each_kind(pair.local)

    bring()

    assert Holiday.objects.using(pair.remote).count() == 2
    assert Holiday.objects.using(pair.remote).get(pk=holiday.pk).day.day == 1
    assert Reading.objects.using(pair.remote).count() == 2
    assert Reading.objects.using(pair.remote).get(pk=reading.pk).result == 1.5
    assert_nothing_pending()


def test_an_adopted_row_gets_the_relations_of_the_object(pair: Pair) -> None:
    factories.person(name="Ann", using=pair.remote).friends.set([factories.person(name="Bob", using=pair.remote)])
    ann = factories.person(name="Ann")

    sync()

    assert_same_on_remote(ann)


def test_the_targets_of_foreign_keys_are_recognized(pair: Pair) -> None:
    """The country was never logged on LOCAL, and exists on REMOTE."""
    theirs = factories.country(code="DE", name="old", using=pair.remote)
    with DisableSynchroLog():
        country = factories.country(code="DE", name="new")
    factories.city(country=country)

    sync()

    assert City.objects.using(pair.remote).get().country_id == theirs.pk
    assert Country.objects.using(pair.remote).get().name == "old", "not logged, so not copied"


def test_a_key_that_changes_keeps_the_counterpart(each_vendor: Pair) -> None:
    product = factories.product(sku="chair")
    sync()
    before = counterpart(product).pk
    product.sku = "stool"
    product.save()

    sync()

    assert counterpart(product).pk == before
    assert_in_step(Product)


def test_a_key_that_changes_while_another_row_on_remote_has_it_is_a_clear_failure(pair: Pair) -> None:
    product = factories.product(sku="chair")
    sync()
    factories.product(sku="stool", name="theirs", using=pair.remote)
    product.sku = "stool"
    product.save()

    (failure,) = engine.sync_pending().failures

    assert (failure.model, failure.object_id) == ("shop.Product", str(product.pk))
    assert "unique" in failure.error.lower()
    assert Product.objects.using(pair.remote).get(sku="stool").name == "theirs"


@pytest.mark.parametrize("bring", ROADS)
def test_objects_without_a_key_are_not_each_other(pair: Pair, bring: Road) -> None:
    """NULL is no key: neither REMOTE's rows nor LOCAL's other objects with NULL are this object."""
    factories.make(Badge, code=None, colour="theirs", using=pair.remote)
    badges = [factories.make(Badge, code=None, colour=f"{number}") for number in range(3)]
    factories.make(Badge, code="x", colour="x")

    bring()

    colours = Badge.objects.using(pair.remote).order_by("colour").values_list("colour", flat=True)
    assert list(colours) == ["0", "1", "2", "theirs", "x"]
    badges[1].delete()
    bring()
    assert list(colours.all()) == ["0", "2", "theirs", "x"]


@pytest.mark.parametrize("bring", ROADS)
def test_objects_without_a_part_of_the_key_may_be_many(each_vendor: Pair, bring: Road) -> None:
    """Unique constraints take no NULL for another one. Of one row it is clear whose it is."""
    theirs = factories.make(Desk, room="a", owner="theirs", using=each_vendor.remote)
    factories.make(Desk, room="a", number=1, owner="a1")
    for number in range(3):
        factories.make(Desk, room="a", owner=f"{number}")
        factories.make(Desk, room="b", owner=f"b{number}")
    bring()
    for desk in Desk.objects.all():
        desk.owner += "!"
        desk.save()
    Desk.objects.get(owner="b1!").delete()

    bring()

    assert_nothing_pending()
    owners = [
        sorted(Desk.objects.using(using).values_list("room", "number", "owner"), key=repr)
        for using in (each_vendor.local, each_vendor.remote)
    ]
    assert owners[0] == owners[1]
    assert Desk.objects.using(each_vendor.remote).filter(pk=theirs.pk).exists()


@pytest.mark.parametrize("bring", ROADS)
def test_rows_that_a_manager_of_the_project_hides(pair: Pair, bring: Road) -> None:
    """A row that is nobody's is recognized; what is used up does not keep its code from others."""
    all_theirs = Coupon._base_manager.using(pair.remote)
    theirs = [
        factories.make(Coupon, code=code, used_up=used_up, using=pair.remote)
        for code, used_up in (("a", True), ("b", False), ("c", True), ("c", True))
    ]
    for code, used_up in (("a", False), ("b", True), ("d", True), ("d", False)):
        factories.make(Coupon, code=code, used_up=used_up, value=1)
    bring()
    assert_nothing_pending()
    assert sorted(all_theirs.filter(value=1).values_list("code", "used_up")) == [
        ("a", False),
        ("b", True),
        ("d", False),
        ("d", True),
    ]
    assert set(all_theirs.filter(code__in="ab").values_list("pk", flat=True)) == {each.pk for each in theirs[:2]}
    Coupon.objects.get(code="d").delete()
    factories.make(Coupon, code="d", value=2)

    bring()

    assert sorted(all_theirs.filter(code="d").values_list("used_up", "value")) == [(False, 2), (True, 1)]
    assert_nothing_pending()


def test_a_manager_that_looks_for_a_target_that_remote_lacks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the town is not there yet means that the street is not there."""

    def get_by_natural_key(self: Any, name: str, town: str) -> Street:
        towns: Any = Town.objects.db_manager(self.db)
        return self.get(name=name, town=towns.get_by_natural_key(town))

    monkeypatch.setattr(Street.Manager, "get_by_natural_key", get_by_natural_key)
    with DisableSynchroLog():
        town = factories.make(Town, name="Kehl")
    street = factories.make(Street, name="Main St", town=town)

    sync()

    assert_same_on_remote(street)


def test_an_unlogged_target_in_a_natural_key(pair: Pair) -> None:
    with DisableSynchroLog():
        country = factories.country(code="DE")
        currency = factories.make(Currency, code="EUR")
    holiday = factories.make(Holiday, country=country, day=factories.day())
    rate = factories.make(Rate, currency=currency, day=factories.day())

    sync()

    assert_same_on_remote(holiday)
    assert_same_on_remote(rate)


# Another object's row


@pytest.mark.parametrize("bring", ROADS)
def test_a_key_that_one_object_frees_and_another_takes(each_vendor: Pair, bring: Road) -> None:
    first = factories.product(sku="chair", name="first")
    sync()
    copy = counterpart(first).pk
    first.sku = "stool"
    first.save()
    second = factories.product(sku="chair", name="second")

    bring()

    assert_in_step(Product)
    assert counterpart(first).pk == copy
    assert_same_on_remote(second)


@pytest.mark.parametrize("bring", ROADS)
def test_a_key_that_a_deleted_object_leaves_to_another(each_vendor: Pair, bring: Road) -> None:
    first = factories.product(sku="chair", name="first")
    sync()
    first.delete()
    second = factories.product(sku="chair", name="second")

    bring()

    assert_in_step(Product)
    assert_same_on_remote(second)
    assert Product.objects.using(each_vendor.remote).count() == 1


@pytest.mark.parametrize("bring", ROADS)
def test_a_key_that_a_deleted_object_leaves_to_another_before_the_first_sync(pair: Pair, bring: Road) -> None:
    """REMOTE has the row, as after a restore from a copy; nothing but the key tells whose it is."""
    factories.product(sku="chair", name="theirs", using=pair.remote)
    with DisableSynchroLog():
        first = factories.product(sku="chair", name="first")
    first.delete()
    second = factories.product(sku="chair", name="second")

    bring()

    assert_in_step(Product)
    assert_same_on_remote(second)


@pytest.mark.parametrize("bring", [in_one_run, by_tasks])
def test_a_chain_of_keys_that_move_on(pair: Pair, bring: Road) -> None:
    products = [factories.product(sku=f"sku {number}", name=f"{number}") for number in range(4)]
    sync()
    copies = [counterpart(each).pk for each in products]
    for number, each in reversed(list(enumerate(products))):
        each.sku = f"sku {number + 1}"
        each.save()
    newest = factories.product(sku="sku 0", name="new")

    bring()

    assert [counterpart(each).pk for each in products] == copies
    assert_same_on_remote(newest)
    assert_in_step(Product)


def test_a_key_that_is_not_free_yet_comes_with_the_one_that_frees_it(pair: Pair) -> None:
    """Also if the task of the one that takes it comes first."""
    first, second = factories.product(sku="first"), factories.product(sku="second")
    sync()
    first.sku = "free"
    first.save()
    second.sku = "first"
    second.save()

    assert run_task("shop.Product", str(second.pk)).failures == ()

    assert_in_step(Product)


def test_a_row_that_belongs_to_another_object_is_not_given_away(pair: Pair) -> None:
    """REMOTE's copy still has the key that LOCAL's object gave up unseen."""
    first = factories.product(sku="chair", name="first")
    sync()
    Product.objects.filter(pk=first.pk).update(sku="stool")
    second = factories.product(sku="chair", name="second")

    (failure,) = engine.sync_pending().failures

    assert (failure.object_id, failure.error) == (str(second.pk), str(CounterpartTaken()))
    assert Product.objects.using(pair.remote).get().name == "first"
    first.refresh_from_db()
    first.save()
    sync()
    assert_in_step(Product)


def test_the_row_of_an_object_that_is_gone_unseen_is_adopted(pair: Pair) -> None:
    """Nobody else can claim it: its owner was deleted without a log entry."""
    first = factories.product(sku="chair", name="first")
    sync()
    copy = counterpart(first).pk
    with DisableSynchroLog():
        first.delete()
    second = factories.product(sku="chair", name="second")

    sync()

    assert counterpart(second).pk == copy
    assert_in_step(Product)


# More than one


def test_more_than_one_row_has_the_key(pair: Pair) -> None:
    for age in (1, 2):
        factories.make(Twin, name="Castor", age=age, using=pair.remote)
    twin = factories.make(Twin, name="Castor", age=3)
    single = factories.make(Twin, name="Pollux", age=4)

    (failure,) = engine.sync_pending().failures

    assert failure.object_id == str(twin.pk)
    assert failure.error.startswith("More than one shop.Twin on REMOTE has the natural key of this object.")
    assert Attempt.objects.get().error == AmbiguousNaturalKey.__name__
    assert list(Twin.objects.using(pair.remote).order_by("age").values_list("age", flat=True)) == [1, 2, 4]
    assert_same_on_remote(single)


def test_deleting_an_object_whose_key_more_than_one_row_has(pair: Pair) -> None:
    for age in (1, 2):
        factories.make(Twin, name="Castor", age=age, using=pair.remote)
    with DisableSynchroLog():
        twin = factories.make(Twin, name="Castor", age=3)
    twin.delete()

    (failure,) = engine.sync_pending().failures

    assert failure.error.startswith("More than one shop.Twin on REMOTE")
    assert Twin.objects.using(pair.remote).count() == 2


@pytest.mark.parametrize("bring", ROADS)
def test_allow_many_takes_the_first(each_vendor: Pair, bring: Road) -> None:
    first = factories.make(Namesake, name="Ann", age=1, using=each_vendor.remote)
    factories.make(Namesake, name="Ann", age=2, using=each_vendor.remote)
    factories.make(Namesake, name="Ann", age=30)

    bring()

    assert list(Namesake.objects.using(each_vendor.remote).order_by("pk").values_list("age", flat=True)) == [30, 2]
    assert Reference.objects.get().remote_object_id == str(first.pk)
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
def test_allow_many_keeps_objects_with_one_key_apart(each_vendor: Pair, bring: Road) -> None:
    """Three on LOCAL, one on REMOTE: it becomes the copy of one of them, and the others are added."""
    factories.make(Namesake, name="Ann", age=1, using=each_vendor.remote)
    for age in (30, 40, 50):
        factories.make(Namesake, name="Ann", age=age)

    bring()

    ages = Namesake.objects.using(each_vendor.remote).order_by("age").values_list("age", flat=True)
    assert list(ages) == [30, 40, 50]
    assert len(set(Reference.objects.values_list("remote_object_id", flat=True))) == 3
    assert_nothing_pending()


@pytest.mark.parametrize("bring", ROADS)
def test_two_objects_with_one_key_that_does_not_allow_it(pair: Pair, bring: Road) -> None:
    """One is copied, and the other fails: in one batch just as in tasks of their own."""
    factories.make(Twin, name="Castor", age=1)
    factories.make(Twin, name="Castor", age=2)

    with pytest.raises(AssertionError):
        bring()

    assert Twin.objects.using(pair.remote).count() == 1
    assert ChangeLog.objects.pending().get().reason == str(CounterpartTaken())


# Deletes


def test_deletes_by_the_logged_key(every_pair: Pair) -> None:
    """Nothing but the key that the log kept tells which rows are meant."""
    one_of_each_kind(every_pair.remote)
    with DisableSynchroLog():
        ours = one_of_each_kind(every_pair.local)
    for each in reversed(ours):
        each.delete()

    sync()

    for model in KINDS:
        assert_not_on_remote(model)
    assert_nothing_pending()


def test_deletes_by_the_logged_key_leave_others_alone(pair: Pair) -> None:
    factories.product(sku="table", using=pair.remote)
    with DisableSynchroLog():
        product = factories.product(sku="chair")
    product.delete()

    sync()

    assert Product.objects.using(pair.remote).get().sku == "table"
    assert_nothing_pending()


def test_a_delete_by_a_key_that_another_object_has_now(pair: Pair) -> None:
    """The row with the logged key is the copy of an object that lives."""
    living = factories.product(sku="stool")
    sync()
    with DisableSynchroLog():
        product = factories.product(sku="chair")
        Product.objects.using(pair.remote).update(sku="chair")
    product.delete()

    sync()

    assert Product.objects.using(pair.remote).count() == 1
    assert str(counterpart_pk(living)) == str(Product.objects.using(pair.remote).get().pk)


def counterpart_pk(obj: Model) -> str:
    """Return what LOCAL's reference says, whatever the copy looks like."""
    return str(Reference.objects.get(local_object_id=str(obj.pk)).remote_object_id)


# Collations: MariaDB says that 'qa' = 'QA' = 'qá'. A key that differs only so is another object's.

on_mariadb = only_on("mariadb")
SIMILAR = [("qa", "QA"), ("qa", "qá"), ("qa", "qa ")]


@pytest.mark.parametrize("bring", ROADS)
@on_mariadb
@pytest.mark.parametrize(("ours", "theirs"), SIMILAR)
def test_a_row_with_a_similar_key_is_not_adopted(each_vendor: Pair, bring: Road, ours: str, theirs: str) -> None:
    other = factories.make(Twin, name=theirs, age=1, using=each_vendor.remote)
    twin = factories.make(Twin, name=ours, age=2)

    bring()

    other.refresh_from_db(using=each_vendor.remote)
    assert (other.name, other.age) == (theirs, 1)
    assert_same_on_remote(twin)
    assert Twin.objects.using(each_vendor.remote).count() == 2


@pytest.mark.parametrize("bring", ROADS)
@on_mariadb
@pytest.mark.parametrize(("ours", "theirs"), SIMILAR)
def test_a_row_with_a_similar_key_is_not_deleted(each_vendor: Pair, bring: Road, ours: str, theirs: str) -> None:
    factories.make(Twin, name=theirs, using=each_vendor.remote)
    with DisableSynchroLog():
        twin = factories.make(Twin, name=ours)
    twin.delete()

    bring()

    assert Twin.objects.using(each_vendor.remote).get().name == theirs


@on_mariadb
@pytest.mark.parametrize(("ours", "theirs"), SIMILAR)
def test_a_similar_key_through_a_manager_of_the_project(each_vendor: Pair, ours: str, theirs: str) -> None:
    """Whatever finds the row, text is compared exactly."""
    for using in (each_vendor.local, each_vendor.remote):
        factories.make(Town, name="Kehl", using=using)
    town = Town.objects.using(each_vendor.remote).get()
    factories.make(Street, name=theirs, town=town, length=7, using=each_vendor.remote)
    street = factories.make(Street, name=ours, town=Town.objects.get())

    sync()

    rows = Street.objects.using(each_vendor.remote)
    assert set(rows.values_list("name", "length")) == {(theirs, 7), (ours, 0)}
    street.delete()
    with DisableSynchroLog():
        unknown = factories.make(Street, name=ours, town=Town.objects.get())
    unknown.delete()
    sync()
    assert rows.get().name == theirs


@pytest.mark.parametrize("bring", TRIES)
@on_mariadb
def test_a_similar_value_that_is_unique_is_a_clear_failure(each_vendor: Pair, bring: Try) -> None:
    theirs = factories.product(sku="QA", name="theirs", using=each_vendor.remote)
    factories.product(sku="qa", name="ours")

    (failure,) = bring()

    assert "has the same sku, which must be unique" in failure.error
    theirs.refresh_from_db(using=each_vendor.remote)
    assert theirs.name == "theirs"


@pytest.mark.parametrize("bring", TRIES)
@on_mariadb
def test_a_similar_text_key(each_vendor: Pair, bring: Try) -> None:
    """An explicit primary key that MariaDB takes for another one is a clear failure, and overwrites nothing."""
    factories.tag(slug="QA", title="theirs", using=each_vendor.remote)
    factories.tag(slug="qa", title="ours")

    (failure,) = bring()

    tag = Tag.objects.using(each_vendor.remote).get()
    assert (tag.slug, tag.title) == ("QA", "theirs")
    assert failure.object_id == "qa"
    assert "PRIMARY" in failure.error
