"""Objects that wait for another one: they burn no attempts, and go through as soon as that one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.db.models.signals import pre_delete, pre_save
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.models import Attempt, ChangeLog, Wait
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending
from tests.databases import Pair
from tests.queries import kinds, queries
from tests.running import Queued, run, run_task
from tests.shop.models import City, Country, Employee

SOON = timedelta(minutes=1)


@contextmanager
def refused(pair: Pair, obj: Model) -> Iterator[None]:
    """Let REMOTE refuse one object."""
    model = type(obj)

    def refuse(instance: Model, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.name == obj.name:  # type: ignore[attr-defined]
            raise ValueError

    pre_save.connect(refuse, sender=model)
    yield
    pre_save.disconnect(refuse, sender=model)


def entry_of(obj: Model) -> ChangeLog:
    return ChangeLog.objects.of_objects(type(obj), [str(obj.pk)]).latest("pk")


def make_due(obj: Model) -> None:
    ChangeLog.objects.of_objects(type(obj), [str(obj.pk)]).update(next_attempt_at=None)


def test_a_child_waits_without_an_attempt_and_goes_with_its_parent(each_vendor: Pair, queued: Queued) -> None:
    country = factories.country()
    city = factories.city(country=country)
    with refused(each_vendor, country):
        ended = run("shop.City", str(city.pk))

    assert (ended.state, ended.result) == ("SUCCESS", f"Waits for shop.Country {country.pk}: ValueError was raised.")
    waiting = entry_of(city)
    assert (waiting.state, waiting.attempts) == (ChangeLog.State.PENDING, 0)
    assert waiting.reason == ended.result
    assert waiting.next_attempt_at is not None
    assert waiting.next_attempt_at - timezone.now() > SOON
    assert Wait.objects.get().for_object_id == str(country.pk)
    queued.clear()

    make_due(country)
    assert run("shop.Country", str(country.pk)).result == "1 synced, 0 skipped, 0 failed"

    assert queued == [("synchro_tasks.replicate", [("shop.City", str(city.pk))])]
    assert entry_of(city).next_attempt_at is None
    assert run("shop.City", str(city.pk)).result == "1 synced, 0 skipped, 0 failed"
    assert_in_step(Country, City)
    assert not Wait.objects.exists()


def test_any_number_that_wait_are_woken_in_batches(pair: Pair, queued: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wait, "AT_ONCE", 4)
    monkeypatch.setattr(Wait, "NAMED", 6)
    country = factories.country()
    cities = [factories.city(country=country) for _ in range(10)]
    with refused(pair, country):
        run_task("checkpoint")
    assert Wait.objects.count() == 10
    make_due(country)
    queued.clear()

    with queries(pair.local) as statements:
        run("shop.Country", str(country.pk))

    assert kinds(statements).count("SELECT synchro_wait") <= 6
    assert ChangeLog.objects.due(timezone.now()).of(City).count() == 10
    assert not Wait.objects.exists()
    ((_, named),) = queued
    assert len(named) == 6, "the others are found by those, and by the checkpoint"
    for _ in cities:
        run(*named[0])
        run_task("checkpoint")
    assert_in_step(Country, City)


def test_a_chain_goes_link_by_link(pair: Pair, queued: Queued) -> None:
    boss = factories.employee(name="boss")
    chain = [boss]
    for number in range(4):
        chain.append(factories.employee(name=f"{number}", manager=chain[-1]))
    with refused(pair, boss):
        run_task("checkpoint")
    assert Wait.objects.count() == 4
    make_due(boss)

    queued.clear()
    run("shop.Employee", str(boss.pk))
    for _ in range(4):
        (_, ((label, object_id),)) = queued.pop()
        run(label, object_id)

    assert_nothing_pending()
    assert_in_step(Employee)


def test_who_waits_is_not_tried_again_before_its_time(sqlite_pair: Pair) -> None:
    country = factories.country()
    factories.city(country=country)
    with refused(sqlite_pair, country):
        run_task("checkpoint")
        with queries(sqlite_pair.remote) as remote:
            assert run_task("checkpoint").result == "0 synced, 0 skipped, 0 failed, 0 old rows deleted"

    assert remote == []


@override_settings(SYNCHRO_MAX_ATTEMPTS=3)
def test_children_do_not_use_up_their_parent_s_attempts(pair: Pair) -> None:
    country = factories.country()
    with refused(pair, country):
        run("shop.Country", str(country.pk))
        for _ in range(5):
            run("shop.City", str(factories.city(country=country).pk))

    parent = entry_of(country)
    assert (parent.state, parent.attempts) == (ChangeLog.State.PENDING, 1)
    assert Attempt.objects.count() == 1


@override_settings(SYNCHRO_MAX_ATTEMPTS=1)
def test_who_waits_for_one_that_was_given_up_goes_when_that_is_corrected(pair: Pair) -> None:
    country = factories.country()
    city = factories.city(country=country)
    with refused(pair, country):
        run_task("checkpoint")
        assert entry_of(country).state == ChangeLog.State.FAILED
        assert entry_of(city).state == ChangeLog.State.PENDING

    country.save()
    run_task("checkpoint")
    run_task("checkpoint")

    assert_nothing_pending()
    assert_in_step(Country, City)


@override_settings(SYNCHRO_MAX_ATTEMPTS=3)
def test_who_waits_for_what_is_not_on_its_way_is_given_up_in_the_end(pair: Pair) -> None:
    """Nobody else will bring the parent: it has no entry of its own."""
    country = factories.country()
    city = factories.city(country=country)
    ChangeLog.objects.of_objects(Country, [str(country.pk)]).delete()

    with refused(pair, country):
        for _ in range(3):
            make_due(city)
            engine.sync_due()

    assert entry_of(city).state == ChangeLog.State.FAILED
    assert not Wait.objects.exists()


@override_settings(SYNCHRO_MAX_ATTEMPTS=1)
def test_a_delete_waits_for_rows_whose_own_delete_was_given_up(pair: Pair) -> None:
    country = factories.country()
    city = factories.city(country=country)
    engine.sync_due()
    pks = {Country: country.pk, City: city.pk}

    def refuse(using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            raise ValueError

    country.delete()
    pre_delete.connect(refuse, sender=City)
    for _ in range(2):
        ChangeLog.objects.of(Country).wake()
        engine.sync_due()
    pre_delete.disconnect(refuse, sender=City)

    deletes = {model: ChangeLog.objects.of_objects(model, [str(pk)]).latest("pk") for model, pk in pks.items()}
    assert (deletes[City].state, deletes[Country].state) == (ChangeLog.State.FAILED, ChangeLog.State.PENDING)
    assert deletes[Country].attempts == 0

    ChangeLog.objects.failed().retry()
    engine.sync_due()
    engine.sync_due()

    assert_nothing_pending()
    assert not Country.objects.using(pair.remote).exists()


@override_settings(SYNCHRO_MAX_ATTEMPTS=1)
def test_who_wants_the_counterpart_of_one_that_was_given_up_waits_for_it(pair: Pair) -> None:
    first = factories.make(Country, code="AA")
    engine.sync_due()
    first.code = "BB"
    first.save()
    with refused(pair, first):
        engine.sync_due()
    assert entry_of(first).state == ChangeLog.State.FAILED
    second = factories.make(Country, code="AA", name="second")

    with refused(pair, first):
        for _ in range(2):
            make_due(second)
            engine.sync_due()

    assert (entry_of(second).state, entry_of(second).attempts) == (ChangeLog.State.PENDING, 0)

    ChangeLog.objects.failed().retry()
    engine.sync_due()
    engine.sync_due()

    assert_nothing_pending()
    assert_in_step(Country)


def test_the_checkpoint_wakes_those_whose_parent_was_settled_by_somebody_who_did_not_know(pair: Pair) -> None:
    country = factories.country()
    city = factories.city(country=country)
    with refused(pair, country):
        engine.sync_due()
    entries = ChangeLog.objects.of_objects(Country, [str(country.pk)])
    entries.mark_synced(list(entries.values_list("pk", flat=True)))

    engine.sync_due()

    assert entry_of(city).state == ChangeLog.State.SYNCED


def test_one_run_brings_a_parent_that_is_corrected_and_its_children(pair: Pair) -> None:
    country = factories.country()
    factories.city(country=country)
    with refused(pair, country):
        engine.sync_due()

    assert engine.sync_pending().synced == 2

    assert not Wait.objects.exists()


def test_a_task_without_anybody_waiting_asks_for_nobody(pair: Pair) -> None:
    country = factories.country()
    factories.city(country=country)
    run("shop.Country", str(country.pk))
    country.save()

    with queries(pair.local) as local:
        run("shop.Country", str(country.pk))

    assert [statement for statement in local if "synchro_wait" in statement] == local[:1]
    assert "EXISTS" in local[0]


@pytest.mark.parametrize(
    ("waits", "circle"),
    [
        ({"a": "b", "b": "c", "c": None}, set()),
        ({"a": "b", "b": "a"}, {"a", "b"}),
        ({"a": "a"}, {"a"}),
        ({"x": "a", "a": "b", "b": "a", "y": "x", "z": None}, {"x", "a", "b", "y"}),
    ],
)
def test_circles(waits: dict[str, str | None], circle: set[str]) -> None:
    from synchro.engine.record import _in_circles

    targets: Any = {(City, each): other and (City, other) for each, other in waits.items()}

    assert {each for _, each in _in_circles(targets)} == circle
