"""Unique values that wander between objects, through one run and through tasks for single objects."""

from __future__ import annotations

import string
from datetime import time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import pre_save
from django.test import override_settings

from synchro import engine
from synchro.engine import apply, batch
from synchro.models import Attempt, ChangeLog, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, counterpart
from tests.databases import Pair
from tests.faults import Crash
from tests.queries import queries
from tests.roads import ROADS, TRIES, Road, Try, run_task, sync
from tests.shop.models import Captain, Country, Gauge, Pigeonhole, Profile, Shirt, Slot

PLACE = ("row", "column")
COLUMNS = [("label",), ("position",), ("reserve",), PLACE]

roads = pytest.mark.parametrize("road", ROADS)
tries = pytest.mark.parametrize("road", TRIES)
columns = pytest.mark.parametrize("names", COLUMNS, ids="-".join)


def rotate(objects: list[Any], names: tuple[str, ...]) -> None:
    """Give each object the next one's values, and the last one those of the first."""
    values = [{name: getattr(each, name) for name in names} for each in objects]
    with transaction.atomic(using=objects[0]._state.db):
        for number, each in enumerate(objects):
            change(each, **{name: aside(value, number) for name, value in values[0].items()})
        for each, new in zip(objects, [*values[1:], values[0]], strict=True):
            change(each, **new)


def aside(value: Any, number: int) -> Any:
    return f"aside {number}" if isinstance(value, str) else -1 - number


def change(instance: Model, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    instance.save()


def slots(using: str) -> list[tuple[Any, ...]]:
    """Return the rows of one side, without their keys."""
    return sorted(Slot.objects.using(using).values_list("label", "position", "reserve", "row", "column"), key=str)


def assert_same_slots(pair: Pair) -> None:
    assert slots(pair.remote) == slots(pair.local)
    assert_nothing_pending()


@roads
@columns
def test_two_objects_swap(each_vendor: Pair, names: tuple[str, ...], road: Road) -> None:
    objects = [factories.slot() for _ in range(2)]
    sync()
    keys = [counterpart(each).pk for each in objects]
    rotate(objects, names)

    road()

    assert_same_slots(each_vendor)
    assert [counterpart(each).pk for each in objects] == keys


@roads
def test_objects_rotate_on_a_remote_without_synchro(bare_pair: Pair, road: Road) -> None:
    objects = [factories.slot() for _ in range(3)]
    sync()
    keys = [counterpart(each).pk for each in objects]
    rotate(objects, ("label",))
    rotate(objects[:2], PLACE)

    road()

    assert_same_slots(bare_pair)
    assert [counterpart(each).pk for each in objects] == keys


@roads
@columns
def test_three_objects_rotate(each_vendor: Pair, names: tuple[str, ...], road: Road) -> None:
    objects = [factories.slot() for _ in range(3)]
    sync()
    rotate(objects, names)

    road()

    assert_same_slots(each_vendor)


@pytest.mark.parametrize("model", [Country, Shirt])
def test_many_objects_rotate_where_few_values_are_left(each_vendor: Pair, model: Any) -> None:
    """Codes of two letters and small numbers: temporary values are neither each other's nor those of other rows."""
    name = "code" if model is Country else "number"
    with transaction.atomic(using=each_vendor.local):
        objects = [factories.make(model, **{name: _short(model, number)}) for number in range(150)]
    sync()
    keys = [counterpart(each).pk for each in objects[:3]]
    with transaction.atomic(using=each_vendor.local):
        values = [getattr(each, name) for each in objects]
        change(objects[0], **{name: _short(model, 150)})
        for each, value in zip(objects[1:], values, strict=False):
            change(each, **{name: value})
        change(objects[0], **{name: values[-1]})

    with queries(each_vendor.remote) as sent:
        sync()

    assert [counterpart(each).pk for each in objects[:3]] == keys
    assert_in_step(model)
    assert len(sent) < 60


@roads
def test_unique_values_of_every_kind_are_rotated(each_vendor: Pair, road: Road) -> None:
    objects = [factories.make(Gauge, **_gauge(number)) for number in range(3)]
    sync()
    keys = [counterpart(each).pk for each in objects]
    change(objects[0], **_gauge(9))
    for each, number in ((objects[2], 0), (objects[1], 2), (objects[0], 1)):
        change(each, **_gauge(number))

    road()

    assert [counterpart(each).pk for each in objects] == keys
    assert_in_step(Gauge)


def _gauge(number: int) -> dict[str, Any]:
    moment = factories.moment() + timedelta(days=number, minutes=number)
    return {
        "decimal": Decimal(f"{number}.50"),
        "number": number / 3,
        "token": UUID(int=number),
        "day": moment.date(),
        "moment": moment,
        "hour": time(number, 59, 59, 999999),
        "length": timedelta(days=number, microseconds=1),
        "address": f"2001:db8::{number}",
        "big": 2**62 + number,
        "path": f"gauges/{number}" if number else None,
    }


def test_no_value_is_left_to_stand_in(pair: Pair) -> None:
    """All letters and digits are taken: two that swap theirs fail and say why, and the rows keep what they have."""
    objects = [factories.make(Pigeonhole, letter=letter) for letter in string.ascii_lowercase + string.digits]
    sync()
    before = sorted(Pigeonhole.objects.using(pair.remote).values_list("letter", flat=True))
    with transaction.atomic(using=pair.local):
        for each, letter in zip((objects[0], objects[1], objects[0]), "!ab", strict=True):
            change(each, letter=letter)

    report = engine.sync_pending()

    assert {failure.object_id for failure in report.failures} == {str(each.pk) for each in objects[:2]}
    assert "has the same letter, which must be unique" in report.failures[0].error
    assert sorted(Pigeonhole.objects.using(pair.remote).values_list("letter", flat=True)) == before


def _short(model: Any, number: int) -> Any:
    return f"{chr(65 + number // 26)}{chr(65 + number % 26)}" if model is Country else number


@roads
def test_all_columns_at_once_and_in_opposite_directions(pair: Pair, road: Road) -> None:
    objects = [factories.slot() for _ in range(5)]
    sync()
    rotate(objects, ("label",))
    rotate(objects[::-1], ("position",))
    rotate(objects[:2], PLACE)

    road()

    assert_same_slots(pair)


@roads
def test_required_one_to_one_keys_are_swapped(each_vendor: Pair, road: Road) -> None:
    users = [factories.user() for _ in range(2)]
    profiles = [factories.make(Profile, user=user, motto=user.username) for user in users]
    sync()
    spare = factories.user()
    for profile, user in ((profiles[0], spare), (profiles[1], users[0]), (profiles[0], users[1])):
        change(profile, user=user)

    road()

    copies = Profile.objects.using(each_vendor.remote).values_list("motto", "user__username")
    assert set(copies) == {(users[0].username, users[1].username), (users[1].username, users[0].username)}
    assert_nothing_pending()


@roads
def test_a_constraint_with_a_condition(pair: Pair, road: Road) -> None:
    """Only one of a crew is captain: the others do not stand in each other's way."""
    first, second, third = (factories.make(Captain, crew="red", name=name) for name in "abc")
    change(first, is_captain=True)
    sync()
    change(first, is_captain=False)
    change(second, is_captain=True)

    road()

    assert [counterpart(each).is_captain for each in (first, second, third)] == [False, True, False]
    assert_nothing_pending()


@pytest.mark.parametrize("size", [1000, 7, 1])
def test_positions_move_up_by_one(pair: Pair, size: int) -> None:
    """A chain and not a circle; also where it reaches beyond a batch."""
    objects = [factories.slot(position=number) for number in range(30)]
    sync()
    for each in reversed(objects):
        change(each, position=each.position + 1)
    ChangeLog.objects.pending().filter(object_id=str(objects[-1].pk)).delete()  # as if it had been seen by nobody

    with override_settings(SYNCHRO_BATCH_SIZE=size):
        sync()

    assert_same_slots(pair)


@roads
def test_a_value_goes_to_a_new_object(each_vendor: Pair, road: Road) -> None:
    old = factories.slot(label="wanted")
    sync()
    change(old, label="something else")
    factories.slot(label="wanted")

    road()

    assert_same_slots(each_vendor)


@roads
def test_a_value_goes_from_a_deleted_object_to_a_new_one(each_vendor: Pair, road: Road) -> None:
    old = factories.slot(label="wanted")
    sync()
    old.delete()
    factories.slot(label="wanted")

    road()

    assert_same_slots(each_vendor)


def test_the_one_that_gives_its_value_up_has_failed_before(pair: Pair) -> None:
    """What was given up comes along: the newest state is what counts."""
    objects = [factories.slot() for _ in range(2)]
    sync()
    rotate(objects, ("label",))
    ChangeLog.objects.pending().filter(object_id=str(objects[1].pk)).update(state=ChangeLog.State.FAILED)

    run_task("shop.Slot", str(objects[0].pk))

    assert_same_slots(pair)
    assert not ChangeLog.objects.failed().exists()


def test_only_one_half_of_a_swap_was_logged(pair: Pair) -> None:
    objects = [factories.slot() for _ in range(2)]
    sync()
    labels = [each.label for each in objects]
    Slot.objects.filter(pk=objects[0].pk).update(label="aside")
    Slot.objects.filter(pk=objects[1].pk).update(label=labels[0])
    change(objects[0], label=labels[1])

    sync()

    assert_same_slots(pair)


def own_row(pair: Pair, **values: Any) -> Slot:
    """Make a row that only REMOTE has."""
    return factories.slot(using=pair.remote, **values)


@tries
def test_remote_has_a_row_of_its_own_with_the_value(each_vendor: Pair, road: Try) -> None:
    """It is not adopted and not changed, and the others of the batch arrive."""
    taken = own_row(each_vendor, label="taken")
    bad = factories.slot(label="taken")
    others = [factories.slot() for _ in range(5)]

    (failure,) = road()

    assert failure.object_id == str(bad.pk)
    assert failure.error == (
        f"REMOTE's shop.Slot {taken.pk} has the same label, which must be unique, and does not give it up. "
        "Change one of the two."
    )
    assert Slot.objects.using(each_vendor.remote).count() == 1 + len(others)
    taken.refresh_from_db()
    assert taken.label == "taken"

    change(taken, label="free")
    sync()
    assert counterpart(bad).label == "taken"


@tries
def test_what_stands_behind_an_object_that_cannot_move(pair: Pair, road: Try) -> None:
    """The third wants what the second has, and the second what belongs to REMOTE alone: both fail, with the reason."""
    own_row(pair, label="taken")
    second, third = factories.slot(label="b"), factories.slot(label="c")
    sync()
    before = slots(pair.remote)
    change(second, label="taken")
    change(third, label="b")

    failures = road()

    assert {failure.object_id for failure in failures} == {str(second.pk), str(third.pk)}
    assert slots(pair.remote) == before


@tries
def test_texts_that_only_remote_takes_for_the_same(every_pair: Pair, road: Try) -> None:
    """MariaDB's collation does not tell 'qa' from 'QA': there the second object fails, and nothing is overwritten."""
    if every_pair.local.startswith("mariadb"):
        first = factories.slot(label="qa")
        own_row(every_pair, label="QA")
    else:
        first, _ = factories.slot(label="qa"), factories.slot(label="QA")

    failures = road()

    labels = {row[0] for row in slots(every_pair.remote)}
    if every_pair.remote.startswith("mariadb"):
        assert len(failures) == 1
        assert "the same label" in failures[0].error
        assert len(labels) == 1
    else:
        assert failures == []
        assert labels == {"qa", "QA"}
    assert first.label == "qa"


@pytest.mark.parametrize(("count", "names"), [(2, PLACE), (3, ("label",))])
@roads
def test_killed_while_values_are_aside(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, road: Road, count: int, names: tuple[str, ...]
) -> None:
    objects = [factories.slot() for _ in range(count)]
    sync()
    before = slots(each_vendor.remote)
    rotate(objects, names)
    parked: list[set[str]] = []

    def die(link: Any, model: Any, plan: apply.Plan) -> dict[str, Exception]:
        if parked:
            raise Crash
        return apply.write(link, model, plan)

    def noting(*arguments: Any) -> Any:
        result = make_way(*arguments)
        parked.append(result[0])
        return result

    make_way = batch.make_way
    with monkeypatch.context() as patched:
        patched.setattr(batch, "make_way", noting)
        patched.setattr(batch, "write", die)
        with pytest.raises(Crash):
            road()

    assert parked == [{str(each.pk) for each in objects}]
    assert slots(each_vendor.remote) == before
    road()
    assert_same_slots(each_vendor)


def test_a_handler_refuses_one_of_two_that_swap(pair: Pair) -> None:
    """Neither keeps a temporary value, and both arrive when the handler lets them."""
    objects = [factories.slot() for _ in range(2)]
    sync()
    before = slots(pair.remote)
    keys = [counterpart(each).pk for each in objects]
    rotate(objects, ("position",))
    refused = {keys[1]}

    def refuse(instance: Any, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.pk in refused:
            raise ValueError

    pre_save.connect(refuse, sender=Slot)
    try:
        report = engine.sync_pending()

        assert len(report.failures) == 2
        assert slots(pair.remote) == before
        refused.clear()
        sync()
    finally:
        pre_save.disconnect(refuse, sender=Slot)
    assert_same_slots(pair)


def test_a_swap_leaves_no_attempts(pair: Pair) -> None:
    """It is no failure: nobody has to look at it."""
    objects = [factories.slot() for _ in range(2)]
    sync()
    rotate(objects, ("position",))

    run_task("shop.Slot", str(objects[0].pk))

    assert not Attempt.objects.exists()
    assert Reference.objects.count() == 2
    assert_same_slots(pair)
