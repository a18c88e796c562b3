"""The project's own signal handlers run for what the engine writes on REMOTE, as they would there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import F
from django.db.models.signals import ModelSignal, m2m_changed, post_delete, post_save, pre_delete, pre_save

from synchro import DisableSynchroLog, disable_synchro_log, engine
from synchro.models import Attempt, ChangeLog
from tests import factories
from tests.assertions import (
    assert_in_step,
    assert_nothing_pending,
    assert_same_on_remote,
    counterpart,
    logged,
)
from tests.databases import Pair
from tests.handlers.models import Agent, Express, Shipment
from tests.queries import kinds, queries
from tests.roads import ROADS, TRIES, Road, Try, sync, try_in_one_run
from tests.shop.models import Country, Invoice, Stamped, Street, Town

Handler = Callable[..., None]
Connect = Callable[[ModelSignal, Any, Handler], None]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect handlers to signals for the time of the test."""
    connected: list[tuple[ModelSignal, Handler, Any]] = []

    def _connect(signal: ModelSignal, sender: Any, handler: Handler) -> None:
        signal.connect(handler, sender=sender, weak=False)
        connected.append((signal, handler, sender))

    yield _connect
    for signal, handler, sender in connected:
        signal.disconnect(handler, sender=sender)


@dataclass
class Call:
    """What a handler got."""

    signal: str
    arguments: dict[str, Any]
    was_adding: bool

    @property
    def instance(self) -> Any:
        return self.arguments["instance"]


NAMES = {pre_save: "pre_save", post_save: "post_save", pre_delete: "pre_delete", post_delete: "post_delete"}


def signal_name(signal: ModelSignal) -> str:
    """Name a signal in the names of tests."""
    return NAMES.get(signal, "m2m_changed")


def listen(connect: Connect, sender: Any, calls: list[Call]) -> None:
    """Note the calls of all handlers of a model's rows."""
    for signal, name in NAMES.items():

        def note(name: str = name, **arguments: Any) -> None:
            calls.append(Call(name, arguments, arguments["instance"]._state.adding))

        connect(signal, sender, note)


@pytest.mark.parametrize("bring", ROADS)
def test_what_a_handler_gets_for_a_save(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    shipment = factories.shipment(number="1")
    calls: list[Call] = []
    listen(connect, Shipment, calls)
    bring()
    shipment = Shipment.objects.get(pk=shipment.pk)
    with DisableSynchroLog():
        Shipment.objects.filter(pk=shipment.pk).update(number="2")
    shipment.save()
    calls[:] = [call for call in calls if call.arguments["using"] == each_vendor.remote]
    (before, after) = calls
    calls.clear()

    bring()

    assert [call.signal for call in (before, after, *calls)] == ["pre_save", "post_save"] * 2
    assert "created" not in before.arguments
    assert [after.arguments["created"], calls[1].arguments["created"]] == [True, False]
    copy = counterpart(shipment)
    for call in (before, after, *calls):
        assert call.arguments["using"] == each_vendor.remote
        assert call.arguments["sender"] is Shipment
        assert call.arguments["raw"] is False
        assert call.arguments["update_fields"] is None
        assert call.instance._state.db == each_vendor.remote
    assert [call.was_adding for call in (before, calls[0])] == [True, False]
    assert before.instance is after.instance
    assert after.instance.pk == calls[0].instance.pk == copy.pk
    assert after.instance.number == "1"
    assert calls[1].instance.number == shipment.number
    assert calls[1].instance._state.adding is False


@pytest.mark.parametrize("bring", ROADS)
def test_what_a_handler_gets_for_a_delete(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    agent = factories.agent()
    shipment = factories.shipment(number="1", agent=agent)
    shipment.stops.add(agent)
    sync()
    copy = counterpart(shipment)
    calls: list[Call] = []
    shipment.delete()
    listen(connect, Shipment, calls)

    bring()

    assert [call.signal for call in calls] == ["pre_delete", "post_delete"]
    for call in calls:
        assert call.arguments["using"] == each_vendor.remote
        assert call.arguments["sender"] is Shipment
        assert call.instance.pk == copy.pk
        assert call.instance.number == "1"
        assert call.instance._state.db == each_vendor.remote
        assert call.arguments["origin"] is call.instance
    assert_in_step(Shipment, Agent)


def test_foreign_keys_of_the_instance_lead_to_remote(pair: Pair, connect: Connect) -> None:
    """Also where the engine itself has followed them on LOCAL, to make a natural key, and both sides use one number."""
    seen = []
    for using in (pair.local, pair.remote):
        town = factories.make(Town, id=7, name="Kehl", using=using)
    factories.make(Street, name="Main St", town_id=town.pk)
    connect(post_save, Street, lambda instance, **kwargs: seen.append((instance.town._state.db, instance.town.pk)))

    sync()

    assert seen == [(pair.remote, 7)]


def test_a_handler_that_saves_the_instance_again(pair: Pair, connect: Connect) -> None:
    def rename(instance: Shipment, created: bool, using: str, **kwargs: Any) -> None:
        if created and using == pair.remote:
            instance.number += "!"
            instance.save(using=using)

    connect(post_save, Shipment, rename)
    shipment = factories.shipment(number="1")

    sync()

    assert Shipment.objects.using(pair.remote).get().number == "1!"
    assert_nothing_pending()
    assert shipment.number == "1"


def test_a_handler_that_changes_the_instance_before_it_is_saved(pair: Pair, connect: Connect) -> None:
    def complete(instance: Shipment, using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            instance.number += "!"

    connect(pre_save, Shipment, complete)
    factories.shipment(number="1")

    sync()

    assert Shipment.objects.using(pair.remote).get().number == "1!"
    assert Shipment.objects.get().number == "1"


def test_a_multi_table_child(each_vendor: Pair, connect: Connect) -> None:
    """Its own handlers get REMOTE's keys at every level, so that saving the instance hits the right rows."""
    factories.shipment(using=each_vendor.remote)  # the two sides number their rows differently
    calls: list[Call] = []
    agent = factories.agent()
    express = factories.make(Express, number="1", hours=2, agent=agent)
    express.stops.add(agent)
    listen(connect, Express, calls)

    def resave(instance: Express, created: bool, using: str, **kwargs: Any) -> None:
        if created:
            instance.hours = 3
            instance.save(using=using)

    connect(post_save, Express, resave)

    sync()

    copy = counterpart(express)
    assert {(call.instance.pk, call.instance.id, call.instance.shipment_ptr_id) for call in calls} == {(copy.pk,) * 3}
    assert copy.hours == 3
    assert copy.number == "1"
    assert Shipment.objects.using(each_vendor.remote).count() == 2
    express.hours = 3
    express.save()
    sync()
    assert_same_on_remote(express)
    assert {(call.instance.pk, call.instance.id) for call in calls[-2:]} == {(copy.pk, copy.pk)}
    express.delete()
    sync()
    assert [call.signal for call in calls if call.arguments["using"] == each_vendor.remote][-2:] == [
        "pre_delete",
        "post_delete",
    ]


@pytest.mark.parametrize("bring", ROADS)
def test_parents_hear_of_their_children_what_django_tells_them(pair: Pair, connect: Connect, bring: Road) -> None:
    """A save tells the class that is saved, and nobody else; a delete tells every level."""
    calls: list[Call] = []
    listen(connect, Shipment, calls)

    def heard() -> list[tuple[str, bool | None]]:
        """What the parent's handlers heard on REMOTE, as they have heard it on LOCAL."""
        sides = [
            [(each.signal, each.arguments.get("created")) for each in calls if each.arguments["using"] == using]
            for using in (pair.local, pair.remote)
        ]
        assert sides[0] == sides[1]
        calls.clear()
        return sides[0]

    express = factories.make(Express, number="1", hours=2)
    bring()
    assert heard() == []
    express.number = "2"
    express.save()
    bring()
    assert heard() == []
    shipment = Shipment.objects.get()
    shipment.number = "3"
    shipment.save()
    bring()
    assert heard() == [("pre_save", None), ("post_save", False)]
    express.delete()
    bring()
    assert heard() == [("pre_delete", None), ("post_delete", None)]
    express = factories.make(Express, number="1")
    Shipment.objects.get().save()
    bring()
    assert heard() == [("pre_save", None), ("post_save", False)]
    shipment = factories.shipment(number="1")
    factories.make(Express, shipment_ptr=shipment, number="2")
    bring()
    assert heard() == [("pre_save", None), ("post_save", True)]
    assert_in_step(Shipment, Express)


@pytest.mark.parametrize("bring", ROADS)
def test_members_of_relations(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    first, second = factories.agent(), factories.agent()
    shipment = factories.shipment()
    shipment.stops.set([first])
    sync()
    calls: list[dict[str, Any]] = []
    shipment.stops.set([second])
    connect(m2m_changed, Shipment.stops.through, lambda **arguments: calls.append(arguments))
    saved: list[Call] = []
    listen(connect, Shipment, saved)

    bring()

    copy = counterpart(shipment)
    assert [(call["action"], call["pk_set"]) for call in calls] == [
        ("pre_remove", {counterpart(first).pk}),
        ("post_remove", {counterpart(first).pk}),
        ("pre_add", {counterpart(second).pk}),
        ("post_add", {counterpart(second).pk}),
    ]
    for call in calls:
        assert call["using"] == each_vendor.remote
        assert call["sender"] is Shipment.stops.through
        assert call["instance"] == copy
        assert call["instance"]._state.db == each_vendor.remote
        assert call["reverse"] is False
        assert call["model"] is Agent
    assert saved == [], "the row itself did not change"
    assert_in_step(Shipment, Agent)


def test_receivers_of_every_sender(pair: Pair, connect: Connect) -> None:
    """A handler without sender is somebody who listens, too."""
    seen = []
    connect(post_save, None, lambda sender, using, **kwargs: seen.append((sender, using)))
    country = factories.country()
    factories.city(country=country)
    seen.clear()

    sync()

    assert [(sender.__name__, using) for sender, using in seen if using == pair.remote] == [
        ("Country", pair.remote),
        ("City", pair.remote),
    ]


def test_skipped_fields_and_moments(pair: Pair, connect: Connect) -> None:
    """Object by object, a copy is made in the same way as in one statement."""
    calls: list[Call] = []
    for model in (Invoice, Stamped):
        listen(connect, model, calls)
    factories.make(Invoice, number="1", balance=100)
    stamped = factories.make(Stamped, name="a")

    sync()

    assert Invoice.objects.using(pair.remote).get().balance == 7
    assert_same_on_remote(stamped)
    Invoice.objects.using(pair.remote).update(balance=41)
    invoice = Invoice.objects.get()
    invoice.number = "2"
    invoice.save()
    calls.clear()
    sync()
    assert [call.instance.balance for call in calls] == [41, 41]
    copy = Invoice.objects.using(pair.remote).get()
    assert (copy.number, copy.balance) == ("2", 41)


def test_where_nobody_listens_the_batch_is_one_statement(pair: Pair, connect: Connect) -> None:
    for _ in range(5):
        factories.shipment()
        factories.agent()
    connect(post_save, Shipment, lambda **kwargs: None)

    with queries(pair.remote) as sent:
        sync()

    inserts = [kind for kind in kinds(sent) if kind.startswith("INSERT handlers")]
    assert inserts.count("INSERT handlers_agent") == 1
    assert inserts.count("INSERT handlers_shipment") == 5


# Handlers that raise


class Unwilling(Exception):
    """A handler's own error, with data in its message."""


@pytest.mark.parametrize(
    ("bring", "error"),
    [
        *((bring, Unwilling("secret")) for bring in TRIES),
        (try_in_one_run, ConnectionRefusedError("mail.example.com")),
        (try_in_one_run, TimeoutError()),
    ],
)
@pytest.mark.parametrize("signal", [pre_save, post_save, pre_delete, post_delete, m2m_changed], ids=signal_name)
def test_a_handler_that_raises_fails_only_its_object(
    each_vendor: Pair, connect: Connect, signal: ModelSignal, error: Exception, bring: Try
) -> None:
    """Whatever it raises: that its mail server is away does not mean that REMOTE is."""
    agent = factories.agent()
    shipments = [factories.shipment(number=f"{number}") for number in range(10)]
    bad = shipments[3]
    if signal in (pre_delete, post_delete):
        sync()
        for each in shipments:
            each.delete()
    if signal is m2m_changed:
        for each in shipments:
            each.stops.add(agent)

    def refuse(instance: Shipment, using: str, **kwargs: Any) -> None:
        if using == each_vendor.remote and instance.number == "3":
            raise error

    connect(signal, Shipment.stops.through if signal is m2m_changed else Shipment, refuse)

    (failure,) = bring()

    assert failure.model == "handlers.Shipment"
    assert failure.error == f"{type(error).__name__} was raised."
    left = ChangeLog.objects.pending().values_list("object_id", flat=True).distinct()
    assert list(left) == [failure.object_id]
    attempt = Attempt.objects.latest("pk")
    assert (attempt.error, attempt.message) == (type(error).__name__, f"{type(error).__name__} was raised.")
    assert "secret" not in attempt.traceback
    numbers = set(Shipment.objects.using(each_vendor.remote).values_list("number", flat=True))
    if signal in (pre_delete, post_delete):
        assert numbers == {"3"}
    elif signal is m2m_changed:
        assert Shipment.stops.through.objects.using(each_vendor.remote).count() == 9
    else:
        assert numbers == {f"{number}" for number in range(10)} - {"3"}
    assert bad.number == "3"


def test_a_handler_that_finds_remote_gone(pair: Pair, connect: Connect) -> None:
    """That is no fault of the object: the run ends, and no attempt is burnt."""

    def lose(using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            raise OperationalError("server closed the connection unexpectedly")

    connect(post_save, Shipment, lose)
    factories.shipment()

    with pytest.raises(OperationalError):
        engine.sync_pending()

    assert Attempt.objects.count() == 0
    assert ChangeLog.objects.pending().get().attempts == 0


def test_a_handler_that_recovers(pair: Pair, connect: Connect) -> None:
    broken = [True]

    def refuse(using: str, **kwargs: Any) -> None:
        if using == pair.remote and broken:
            raise Unwilling

    connect(post_save, Shipment, refuse)
    shipment = factories.shipment()
    assert len(engine.sync_pending().failures) == 1
    assert Shipment.objects.using(pair.remote).count() == 0
    broken.clear()

    sync()

    assert_same_on_remote(shipment)
    assert_in_step(Shipment)


def test_a_handler_whose_statement_fails(pair: Pair, connect: Connect) -> None:
    """The transaction of the others does not suffer from it."""

    def collide(instance: Shipment, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.number == "1":
            for _ in range(2):
                Country.objects.using(using).create(code="XX")

    connect(post_save, Shipment, collide)
    for number in range(3):
        factories.shipment(number=f"{number}")

    report = engine.sync_pending()

    assert (report.synced, len(report.failures)) == (2, 1)
    assert "unique" in report.failures[0].error.lower()
    assert Country.objects.using(pair.remote).count() == 0


# The three scenarios of 0.x: a handler of X changes A, of which REMOTE has changed another field.


def scenario(pair: Pair, connect: Connect, handler: Handler, bring: Road) -> tuple[list[int], list[str]]:
    """Play the scenario, and return A's balance and name on LOCAL and on REMOTE."""
    agent = factories.agent(balance=1, name="1")
    sync()
    connect(post_save, Shipment, handler)
    with pair.reversed.active():
        copy = Agent.objects.using(pair.remote).get()
        copy.name = "42"
        copy.save()
    factories.shipment(agent=agent)
    assert Agent.objects.get().balance == 2

    bring()

    assert_nothing_pending()
    sides = [Agent.objects.using(alias).get() for alias in (pair.local, pair.remote)]
    return [each.balance for each in sides], [each.name for each in sides]


def increment(instance: Shipment, created: bool, using: str, **kwargs: Any) -> None:
    """Change the agent of a new shipment on the side where the shipment is."""
    if created and instance.agent is not None:
        agent = Agent.objects.using(using).get(pk=instance.agent.pk)
        agent.balance += 1
        agent.save(using=using)


@pytest.mark.parametrize("bring", ROADS)
def test_a_handler_whose_changes_are_logged(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    """The bad scenario: LOCAL's A comes last, whatever the handler made of it on REMOTE, and the 42 is lost."""
    assert scenario(each_vendor, connect, increment, bring) == ([2, 2], ["1", "1"])
    assert_in_step(Agent, Shipment)


@pytest.mark.parametrize("bring", ROADS)
def test_a_handler_that_pauses_the_log(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    @disable_synchro_log
    def paused(**kwargs: Any) -> None:
        increment(**kwargs)

    assert scenario(each_vendor, connect, paused, bring) == ([2, 2], ["1", "42"])


@pytest.mark.parametrize("bring", ROADS)
def test_a_handler_that_pauses_the_log_in_a_block(pair: Pair, connect: Connect, bring: Road) -> None:
    def paused(**kwargs: Any) -> None:
        with DisableSynchroLog():
            increment(**kwargs)

    assert scenario(pair, connect, paused, bring) == ([2, 2], ["1", "42"])


@pytest.mark.parametrize("bring", ROADS)
def test_a_handler_that_uses_update(each_vendor: Pair, connect: Connect, bring: Road) -> None:
    def update(instance: Shipment, created: bool, using: str, **kwargs: Any) -> None:
        if created and instance.agent_id is not None:
            Agent.objects.using(using).filter(pk=instance.agent_id).update(balance=F("balance") + 1)

    assert scenario(each_vendor, connect, update, bring) == ([2, 2], ["1", "42"])


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize("signal", [pre_save, post_save, pre_delete, post_delete, m2m_changed], ids=signal_name)
def test_what_logged_handlers_make_of_others_ends_as_on_local(
    pair: Pair, connect: Connect, signal: ModelSignal, bring: Road
) -> None:
    """Whichever signal they listen to, and also where they change objects of the same batch, or the object itself."""
    with DisableSynchroLog():
        agents = [factories.agent(name=name, balance=1) for name in "ab"]
    shipments = [factories.shipment(agent=agents[0], number=f"{number}") for number in range(3)]
    sync()

    def count(using: str, **kwargs: Any) -> None:
        for agent in Agent.objects.using(using):
            agent.balance += 1
            agent.save(using=using)

    connect(signal, Shipment.stops.through if signal is m2m_changed else Shipment, count)
    shipments[0].save()
    shipments[1].stops.add(agents[1])
    shipments[2].delete()

    bring()

    assert_in_step(Agent, Shipment)


def test_handlers_that_change_each_other_come_to_rest(pair: Pair, connect: Connect) -> None:
    """On LOCAL something in the project ends the circle; on REMOTE it must not begin anew with every object."""
    busy: list[str] = []

    def touch_others(sender: Any, using: str, **kwargs: Any) -> None:
        if using in busy:
            return
        busy.append(using)
        for agent in Agent.objects.using(using) if sender is Shipment else ():
            agent.balance += 1
            agent.save(using=using)
        for shipment in Shipment.objects.using(using) if sender is Agent else ():
            shipment.number += "!"
            shipment.save(using=using)
        busy.remove(using)

    agent = factories.agent()
    factories.shipment(agent=agent)
    sync()
    for model in (Agent, Shipment):
        connect(post_save, model, touch_others)
    agent.save()
    Shipment.objects.get().save()

    sync()

    assert_in_step(Agent, Shipment)
    assert sync() == engine.Report()


def test_an_object_that_remote_has_changed_later_is_not_brought_again(pair: Pair, connect: Connect) -> None:
    """A handler that saves it on REMOTE does not make LOCAL's older state newer."""
    agent = factories.agent(name="1")
    shipment = factories.shipment(agent=agent)
    sync()
    with pair.reversed.active():
        copy = Agent.objects.using(pair.remote).get()
        copy.name = "42"
        copy.save()
    shipment.save()
    connect(post_save, Shipment, lambda using, **kwargs: Agent.objects.using(using).get().save(using=using))

    sync()

    assert Agent.objects.using(pair.remote).get().name == "42"


def test_a_logged_handler_of_the_object_itself(pair: Pair, connect: Connect) -> None:
    def rename(instance: Shipment, created: bool, using: str, **kwargs: Any) -> None:
        if created:
            instance.number += "!"
            instance.save(using=using)

    connect(post_save, Shipment, rename)
    factories.shipment(number="1")

    sync()

    assert Shipment.objects.get().number == "1!"
    assert_in_step(Shipment)


def test_a_handler_on_remote_leaves_no_entry_on_either_side(pair: Pair, connect: Connect) -> None:
    factories.shipment(agent=factories.agent())
    before = logged()

    @disable_synchro_log
    def paused(**kwargs: Any) -> None:
        increment(**kwargs)

    connect(post_save, Shipment, paused)

    sync()

    assert logged() == before
    assert logged(using=pair.remote) == []
    assert Agent.objects.using(pair.remote).get().balance == 2
