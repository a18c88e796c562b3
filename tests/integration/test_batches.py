"""Batches: a fixed number of queries whatever their size, a bad object that stops only itself, REMOTE going away."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.db.models import CheckConstraint, Model, Q
from django.db.models.signals import pre_save
from django.test import override_settings
from django.utils import timezone

from synchro import call_synchronize, engine, touch
from synchro.engine import batch, run
from synchro.exceptions import TransientError
from synchro.models import Attempt, ChangeLog, Reference
from synchro.signals import object_failed
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart
from tests.databases import Pair
from tests.queries import kinds, queries
from tests.roads import sync
from tests.shop.models import (
    Article,
    City,
    Country,
    Currency,
    Employee,
    Haunted,
    Hidden,
    Holiday,
    Membership,
    Person,
    Pizzeria,
    Playlist,
    Product,
    Rate,
    Seat,
    Slot,
    Stubborn,
    Tag,
    Vague,
)
from tests.vendors import only_on

# Queries


def _cities(number: int) -> None:
    country = factories.country()
    for _ in range(number):
        factories.city(country=country)


def _holidays(number: int) -> None:
    country = factories.country()
    for index in range(number):
        factories.make(Holiday, country=country, day=factories.day() + timedelta(days=index))


def _rates(number: int) -> None:
    currency = factories.make(Currency, code=f"{number}")
    for index in range(number):
        factories.make(Rate, currency=currency, day=factories.day() + timedelta(days=index))


def _playlists(number: int) -> None:
    songs = [factories.song() for _ in range(3)]
    for _ in range(number):
        factories.playlist(*songs)


def _teams(number: int) -> None:
    people = [factories.person() for _ in range(2)]
    for _ in range(number):
        factories.team(*people)


def _each(make: Callable[[], Model]) -> Callable[[int], None]:
    def make_many(number: int) -> None:
        for _ in range(number):
            make()

    return make_many


CONTENTS = [
    pytest.param(Article, _each(factories.article), id="plain"),
    pytest.param(City, _cities, id="foreign key"),
    pytest.param(Product, _each(factories.product), id="natural key"),
    pytest.param(Holiday, _holidays, id="natural key with a foreign key"),
    pytest.param(Rate, _rates, id="natural key through a foreign key"),
    pytest.param(Tag, _each(factories.tag), id="text key"),
    pytest.param(Seat, _each(factories.seat), id="composite key"),
    pytest.param(Playlist, _playlists, id="many to many"),
    pytest.param(Membership, _teams, id="through model"),
    pytest.param(Pizzeria, _each(factories.pizzeria), id="multi-table inheritance"),
    pytest.param(Vague, _each(lambda: factories.make(Vague, name="a")), id="costly to print"),
]


def _queries_of(pair: Pair) -> tuple[list[str], list[str]]:
    """Synchronize and return the statements on LOCAL and on REMOTE."""
    with queries(pair.local) as here, queries(pair.remote) as there:
        sync()
    return kinds(here), kinds(there)


@pytest.mark.parametrize(("model", "make"), CONTENTS)
def test_the_number_of_queries_does_not_depend_on_the_size(
    postgres_pair: Pair, model: Any, make: Callable[[int], None]
) -> None:
    """As many for ten objects as for five hundred: added, changed, and deleted."""
    with transaction.atomic(using=postgres_pair.local):
        make(1)
    sync()
    sent = {}
    for number in (10, 500):
        with transaction.atomic(using=postgres_pair.local):
            make(number)
        added = _queries_of(postgres_pair)
        with transaction.atomic(using=postgres_pair.local):
            for each in model.objects.order_by("-pk")[:number]:
                each.save()
        changed = _queries_of(postgres_pair)
        with transaction.atomic(using=postgres_pair.local):
            model.objects.filter(pk__in=model.objects.order_by("-pk")[:number].values_list("pk", flat=True)).delete()
        sent[number] = (added, changed, _queries_of(postgres_pair))

    assert sent[10] == sent[500]
    assert_in_step(model)


def test_nothing_pending_costs_next_to_nothing(postgres_pair: Pair) -> None:
    factories.article()
    sync()

    here, there = _queries_of(postgres_pair)

    assert len(there) <= 1
    assert len(here) <= 6


def test_a_task_without_anything_to_do_costs_one_query(postgres_pair: Pair) -> None:
    article = factories.article()
    sync()

    with queries(postgres_pair.local) as here, queries(postgres_pair.remote) as there:
        assert engine.sync_object("shop.Article", str(article.pk)).is_empty

    assert (len(here), there) == (1, [])


@pytest.mark.parametrize("listened", [False, True])
def test_a_chain_of_any_length_costs_the_same(pair: Pair, listened: bool) -> None:
    """Each points to the one before it. Where somebody listens each link takes a round, and arrives as a whole."""
    parents: list[Any] = []
    if listened:
        pre_save.connect(note := _noting(parents, pair.remote), sender=Employee)
    asked = []
    for length in (5, 20, 60):
        boss = None
        for _ in range(length):
            boss = factories.employee(manager=boss)
        with queries(pair.remote) as found:
            sync()
        asked.append(len(found))
    if listened:
        pre_save.disconnect(note, sender=Employee)
        assert parents.count(None) == 3
        assert len(parents) == 85
    else:
        assert asked[1] == asked[2]
    assert_in_step(Employee)


def _noting(parents: list[Any], remote: str) -> Callable[..., None]:
    def note(instance: Employee, using: str, **kwargs: Any) -> None:
        if using == remote:
            parents.append(instance.manager_id)

    return note


# One bad object


@pytest.fixture
def poison(each_vendor: Pair) -> Slot:
    """A batch of 50, one of which REMOTE refuses because a row of its own has the same unique label."""
    factories.slot(label="s3cr3t 'label'", position=-1, reserve=None, column=9, using=each_vendor.remote)
    for _ in range(25):
        factories.slot()
    bad = factories.slot(label="s3cr3t 'label'")
    for _ in range(24):
        factories.slot()
    return bad


def test_a_bad_object_fails_alone(each_vendor: Pair, poison: Slot) -> None:
    report = engine.sync_pending()

    assert report.synced == 49
    assert [(failure.model, failure.object_id) for failure in report.failures] == [("shop.Slot", str(poison.pk))]
    assert Slot.objects.using(each_vendor.remote).count() == 50
    for each in Slot.objects.exclude(pk=poison.pk)[:3]:
        assert_same_on_remote(each)
    assert ChangeLog.objects.pending().get().object_id == str(poison.pk)


def test_a_failed_attempt_tells_why_and_shows_no_values(each_vendor: Pair, poison: Slot) -> None:
    (failure,) = engine.sync_pending().failures

    attempt = Attempt.objects.get()
    entry = ChangeLog.objects.pending().get()
    assert attempt.object_id == str(poison.pk)
    assert attempt.error == "UniqueValueTaken"
    assert attempt.message == entry.reason == failure.error
    assert "label" in attempt.message
    for text in (attempt.message, attempt.traceback, entry.reason):
        assert "s3cr3t" not in text
    assert entry.attempts == 1


@contextmanager
def refusing(pair: Pair, value: str, model: type[Model] = Slot, field: str = "label") -> Iterator[None]:
    """Let REMOTE have a constraint that its model does not tell of, and that refuses one value."""
    constraint = CheckConstraint(condition=~Q(**{field: value}), name="shop_value_refused")
    with connections[pair.remote].schema_editor() as editor:
        editor.add_constraint(model, constraint)
    yield
    with connections[pair.remote].schema_editor() as editor:
        editor.remove_constraint(model, constraint)


@only_on("postgres", "mariadb")
def test_culprits_are_found_with_few_statements(each_vendor: Pair) -> None:
    """Only the rows are written again in parts; what was read and decided for the batch stays."""
    with transaction.atomic(using=each_vendor.local):
        slots = [factories.slot(label=f"good {number}") for number in range(500)]
        bad = factories.slot(label="bad")

    with refusing(each_vendor, "bad"), queries(each_vendor.remote) as remote, queries(each_vendor.local) as local:
        report = engine.sync_pending()

    assert (report.synced, [each.object_id for each in report.failures]) == (500, [str(bad.pk)])
    assert len([each for each in remote if "INSERT INTO" in each and "shop_slot" in each]) <= 60
    assert len([each for each in remote if "shop_slot" not in each]) <= 30
    assert len(local) <= 40
    assert all(
        "synchro/refusals.py" in each.traceback or "apply.py" in each.traceback for each in Attempt.objects.all()
    )
    for slot in slots[::100]:
        assert_same_on_remote(slot)


#: Rules that only REMOTE's table has, and how they go again.
RULES = {
    "check": (
        "ALTER TABLE shop_slot ADD CONSTRAINT shop_rule CHECK (label NOT LIKE 'bad%')",
        "ALTER TABLE shop_slot DROP CONSTRAINT shop_rule",
    ),
    "length": (
        "ALTER TABLE shop_slot ALTER COLUMN label TYPE varchar(8)",
        "ALTER TABLE shop_slot ALTER COLUMN label TYPE varchar(50)",
    ),
    "exclusion": (
        "ALTER TABLE shop_slot ADD CONSTRAINT shop_rule EXCLUDE USING gist (circle('<(1,1),1>') WITH &&)"
        " WHERE (label LIKE 'bad%')",
        "ALTER TABLE shop_slot DROP CONSTRAINT shop_rule",
    ),
    "trigger": (
        "CREATE FUNCTION shop_rule() RETURNS trigger AS $$ BEGIN IF NEW.label LIKE 'bad%' THEN"
        " RAISE SQLSTATE 'SHOP1' USING MESSAGE = NEW.label; END IF; RETURN NEW; END $$ LANGUAGE plpgsql;"
        "CREATE TRIGGER shop_rule BEFORE INSERT OR UPDATE ON shop_slot FOR EACH ROW EXECUTE FUNCTION shop_rule()",
        "DROP FUNCTION shop_rule CASCADE",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_server_finds_the_culprits(postgres_pair: Pair, rule: str) -> None:
    """With one statement for all, and the errors are those that each of them meets alone."""
    with transaction.atomic(using=postgres_pair.local):
        known = [factories.slot(label=f"old {number}") for number in range(100)]
    sync()
    with transaction.atomic(using=postgres_pair.local):
        for number, slot in enumerate(known):
            slot.label = f"bad and long {number}" if number in {0, 50, 51, 99} else f"new {number}"
            slot.save(using=postgres_pair.local)
        for number in range(100):
            factories.slot(label=f"bad and long +{number}" if number in {0, 50, 51, 99} else f"new +{number}")
    bad = {str(slot.pk) for slot in Slot.objects.filter(label__startswith="bad")}

    prescribe, waive = RULES[rule]
    with connections[postgres_pair.remote].cursor() as cursor:
        cursor.execute(prescribe)
        with queries(postgres_pair.remote) as remote:
            report = engine.sync_pending()
        met = _last_attempts()
        ChangeLog.objects.pending().update(next_attempt_at=None)
        for each in bad:
            engine.sync_object("shop.Slot", each, alone=True)
        alone = _last_attempts()
        cursor.execute(waive)

    # The first of the rows that exclude each other is there.
    arrived = bad - met.keys()
    assert len(arrived) == (1 if rule == "exclusion" else 0)
    assert (report.synced, {each.object_id for each in report.failures}) == (192 + len(arrived), bad - arrived)
    assert len(remote) <= 70
    assert met == alone
    assert Attempt.objects.count() == 2 * len(met)
    for slot in Slot.objects.exclude(pk__in=met):
        assert_same_on_remote(slot)


@contextmanager
def as_role_without(privilege: str, using: str) -> Iterator[None]:
    """Use a database as a role that has everything but one of the privileges that PostgreSQL gives to everybody."""
    connection: Any = connections[using]
    role = f"synchro_test_{settings.RUN}_limited"
    privilege = privilege.format(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role}")
        cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        cursor.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
        cursor.execute(f"REVOKE {privilege} FROM PUBLIC")
        cursor.execute(f"SET ROLE {role}")
        vars(connection).pop("_synchro_may_stage", None)
        try:
            yield
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute(f"GRANT {privilege} TO PUBLIC")
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")
            vars(connection).pop("_synchro_may_stage", None)


@pytest.mark.parametrize("privilege", ['TEMPORARY ON DATABASE "{}"', "USAGE ON LANGUAGE plpgsql"])
def test_a_role_with_few_privileges_gets_everything_there(postgres_pair: Pair, privilege: str) -> None:
    """Temporary tables and procedures make it fast; it works without them."""
    with transaction.atomic(using=postgres_pair.local):
        slots = [factories.slot(label=f"good {number}") for number in range(100)]
        bad = factories.slot(label="bad")

    with refusing(postgres_pair, "bad"), as_role_without(privilege, postgres_pair.remote):
        report = engine.sync_pending()

    assert (report.synced, [each.object_id for each in report.failures]) == (100, [str(bad.pk)])
    assert "shop_value_refused" in Attempt.objects.get().message
    for slot in slots[::20]:
        assert_same_on_remote(slot)


def test_many_changes_are_logged_without_temporary_tables(postgres_pair: Pair) -> None:
    with transaction.atomic(using=postgres_pair.local):
        slots = [factories.slot() for _ in range(20)]
    sync()

    without_temporary_tables = as_role_without('TEMPORARY ON DATABASE "{}"', postgres_pair.local)
    with without_temporary_tables, transaction.atomic(using=postgres_pair.local):
        touch(slots)

    assert ChangeLog.objects.pending().count() == 20


def _last_attempts() -> dict[str, tuple[str, str]]:
    attempts = Attempt.objects.order_by("id").values_list("object_id", "error", "message")
    return {object_id: (error, message) for object_id, error, message in attempts}


@pytest.mark.parametrize("refused", [None, "bad"])
def test_rows_of_all_sizes_keep_their_order(postgres_pair: Pair, refused: str | None) -> None:
    """Where REMOTE's keys come back in the order of the rows: a short one does not slip in between long ones."""
    draw = random.Random(7)
    with transaction.atomic(using=postgres_pair.local):
        for number in range(400):
            text = draw.randbytes(draw.choice([1, 100, 500, 900, 1900])).hex()[: draw.choice([1, 100, 1900, 3800])]
            factories.article(text=refused if refused and number % 40 == 7 else text)

    with refusing(postgres_pair, "bad", Article, "text"):
        report = engine.sync_pending()

    assert (report.synced, len(report.failures)) == ((390, 10) if refused else (400, 0))
    keys = dict(Reference.objects.values_list("local_object_id", "remote_object_id"))
    theirs = dict(Article.objects.using(postgres_pair.remote).values_list("pk", "text"))
    ours = dict(Article.objects.exclude(text="bad").values_list("pk", "text"))
    assert {pk: theirs[int(keys[str(pk)])] for pk in ours} == ours


def test_a_culprit_takes_those_along_that_were_to_point_to_it(postgres_pair: Pair) -> None:
    """Rows that would get their foreign key when the others are there do not stay without it."""
    with transaction.atomic(using=postgres_pair.local):
        boss = factories.employee(name="bad")
        report_of = factories.employee(manager=boss)
        free = factories.employee(manager=factories.employee())
    with refusing(postgres_pair, "bad", Employee, "name"):
        engine.sync_pending()

    assert set(Employee.objects.using(postgres_pair.remote).values_list("name", flat=True)) == {
        free.name,
        free.manager.name,  # type: ignore[union-attr]
    }
    assert_same_on_remote(free)
    ChangeLog.objects.pending().update(next_attempt_at=None)
    sync()
    assert_in_step(Employee)
    assert report_of.manager == boss


def test_many_values_that_are_taken_split_nothing(pair: Pair) -> None:
    """REMOTE's own rows in the way are found with a few questions, however many they are."""
    for number in range(20):
        factories.slot(label=f"taken {number}", reserve=None, using=pair.remote)
    with transaction.atomic(using=pair.local):
        for number in range(100):
            factories.slot(label=f"taken {number}")

    with mock.patch.object(batch, "write", wraps=batch.write) as write:
        report = engine.sync_pending()

    assert (report.synced, len(report.failures)) == (80, 20)
    assert write.call_count <= 5


def test_what_depends_on_a_bad_object_waits_and_says_for_what(pair: Pair) -> None:
    """The reason is told once, however long the chain."""

    def refuse(instance: Employee, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.name == "bad":
            raise ValueError

    boss = factories.employee(name="bad")
    chain = [boss]
    for number in range(40):
        chain.append(factories.employee(name=f"{number}", manager=chain[-1]))
    free = factories.employee(name="free")
    pre_save.connect(refuse, sender=Employee)
    try:
        report = engine.sync_pending()
    finally:
        pre_save.disconnect(refuse, sender=Employee)

    assert report.synced == 1
    assert_same_on_remote(free)
    reasons = {failure.object_id: failure.error for failure in report.failures}
    assert len(reasons) == 41
    assert reasons[str(boss.pk)] == "ValueError was raised."
    assert reasons[str(chain[1].pk)] == f"Waits for shop.Employee {boss.pk}: ValueError was raised."
    assert max(map(len, reasons.values())) < 120
    sync()
    assert_in_step(Employee)


# Attempts


def make_bad(pair: Pair) -> Product:
    """Save a product whose key REMOTE gave to two rows that are not ours to change."""
    sku = factories.unique("sku")
    product = factories.product(sku=factories.unique("sku"))
    sync()
    factories.product(sku=sku, using=pair.remote)
    product.sku = sku
    product.save()
    return product


def entry_of(obj: Model) -> ChangeLog:
    return ChangeLog.objects.of_objects(type(obj), [str(obj.pk)]).latest("pk")


def test_pauses_grow(pair: Pair) -> None:
    """An attempt a run, and each pause twice the one before, at most an hour."""
    product = make_bad(pair)
    pauses = []
    for number in range(1, 10):
        if number > 1:
            assert engine.sync_due().is_empty, "the pause is not over"
        ChangeLog.objects.pending().update(next_attempt_at=None)
        factories.article()  # something else that arrives
        engine.sync_due()
        entry = entry_of(product)
        assert entry.attempts == number
        assert entry.next_attempt_at is not None
        pauses.append(round((entry.next_attempt_at - Attempt.objects.latest("pk").date).total_seconds()))

    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 2560]
    assert Attempt.objects.count() == 9


@pytest.mark.parametrize("run", [engine.sync_pending, lambda: engine.sync_object("shop.Product", "1")])
@override_settings(SYNCHRO_MAX_ATTEMPTS=3)
def test_an_entry_is_given_up_after_its_last_attempt(pair: Pair, run: Callable[[], engine.Report]) -> None:
    product = make_bad(pair)
    assert product.pk == 1
    for _ in range(2):
        assert len(run().failures) == 1
        ChangeLog.objects.pending().update(next_attempt_at=timezone.now())
    assert entry_of(product).state == ChangeLog.State.PENDING

    run()

    entry = entry_of(product)
    assert (entry.state, entry.attempts, entry.next_attempt_at) == (ChangeLog.State.FAILED, 3, None)
    assert "unique" in entry.reason.lower()
    assert run().is_empty, "nobody tries it any more"
    assert Attempt.objects.count() == 3


@override_settings(SYNCHRO_MAX_ATTEMPTS=2)
def test_a_new_change_of_a_given_up_object_starts_afresh(pair: Pair) -> None:
    product = make_bad(pair)
    for _ in range(2):
        engine.sync_pending()
    given_up = entry_of(product)
    assert given_up.state == ChangeLog.State.FAILED
    product.save()
    assert len(engine.sync_pending().failures) == 1
    entry = entry_of(product)
    assert (entry.state, entry.attempts) == (ChangeLog.State.PENDING, 1)
    product.sku = factories.unique("free")
    product.save()

    sync()

    assert_same_on_remote(product)
    assert_nothing_pending()
    given_up.refresh_from_db()
    assert (given_up.state, given_up.reason) == (ChangeLog.State.SYNCED, ""), "the newest state covers it"


@override_settings(SYNCHRO_MAX_ATTEMPTS=3)
def test_a_new_change_of_an_object_that_waits_starts_afresh(pair: Pair) -> None:
    """Nor is anybody told that the object is given up because of what came before."""
    announced: list[bool] = []

    def hear(given_up: bool, **kwargs: Any) -> None:
        announced.append(given_up)

    product = make_bad(pair)
    for _ in range(2):
        engine.sync_pending()
    product.save()
    object_failed.connect(hear)
    engine.sync_pending()
    object_failed.disconnect(hear)

    entries = ChangeLog.objects.pending().filter(object_id=str(product.pk))
    assert [entry.attempts for entry in entries] == [1, 1]
    assert not entries.filter(next_attempt_at__gt=timezone.now() + timedelta(seconds=10)).exists()
    assert announced == [False]


def test_a_change_during_a_failing_attempt_has_not_failed(pair: Pair) -> None:
    """Its own task is on the way, and finds it due."""
    article = factories.article()

    def change_and_fail(using: str, **kwargs: Any) -> None:
        if using == pair.remote:
            Article.objects.get().save()
            raise ValueError

    pre_save.connect(change_and_fail, sender=Article)
    assert len(engine.sync_pending().failures) == 1
    pre_save.disconnect(change_and_fail, sender=Article)

    tried, new = ChangeLog.objects.order_by("pk")
    assert (tried.attempts, tried.next_attempt_at is None) == (1, False)
    assert (new.attempts, new.next_attempt_at) == (0, None)
    assert engine.sync_object("shop.Article", str(article.pk)).synced == 1
    assert_nothing_pending()


def test_a_failure_that_another_object_cures_in_the_same_run_is_no_failure(pair: Pair) -> None:
    """The second one takes the unique value over from the first, which comes later in the batch."""
    second, first = factories.product(sku="second"), factories.product(sku="first")
    sync()
    second.save()
    first.sku = "free"
    first.save()
    second.sku = "first"
    second.save()

    report = sync()

    assert report.synced == 2
    assert Attempt.objects.count() == 0
    assert_in_step(Product)


# REMOTE goes away


@pytest.fixture
def killed(each_vendor: Pair) -> Iterator[None]:
    """REMOTE's server ends the connection in the middle of a batch."""
    connection = connections[each_vendor.remote]
    write = batch.write

    def write_late(*args: Any) -> Any:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_backend_pid()")
                kill = "SELECT pg_terminate_backend(%s)"
            else:
                cursor.execute("SELECT connection_id()")
                kill = "KILL %s"
            (number,) = cursor.fetchone()
        with connection._nodb_cursor() as cursor:
            cursor.execute(kill, [number])
        return write(*args)

    with mock.patch.object(batch, "write", write_late):
        yield


@only_on("postgres", "mariadb")
def test_remote_ends_the_connection(each_vendor: Pair, killed: None) -> None:
    articles = [factories.article() for _ in range(3)]

    with pytest.raises(TransientError, match="Everything that has not arrived stays pending") as caught:
        call_synchronize()

    assert str(connections[each_vendor.remote].settings_dict["NAME"]) not in str(caught.value)
    _nothing_happened(3)
    connections[each_vendor.remote].close()
    mock.patch.stopall()
    assert len(articles) == 3


def _nothing_happened(pending: int) -> None:
    """Nothing is lost, and no attempt is burnt."""
    entries = ChangeLog.objects.pending()
    assert [(each.attempts, each.next_attempt_at) for each in entries] == [(0, None)] * pending
    assert Attempt.objects.count() == 0


def test_remote_refuses_connections(each_vendor: Pair) -> None:
    article = factories.article()
    connection = connections[each_vendor.remote]
    connection.close()
    away = {"NAME": "/no/such/place"} if connection.vendor == "sqlite" else {"HOST": "127.0.0.1", "PORT": "1"}
    with mock.patch.dict(connection.settings_dict, PASSWORD="s3cr3t", **away):
        with pytest.raises(TransientError, match="Everything that has not arrived stays pending") as caught:
            call_synchronize()
        with pytest.raises(TransientError):
            engine.sync_object("shop.Article", str(article.pk))
    assert "s3cr3t" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    _nothing_happened(1)

    sync()

    assert_in_step(Article)


def test_remote_goes_away_after_the_first_batch(pair: Pair) -> None:
    """What has arrived stays arrived."""
    for _ in range(5):
        factories.article()
    calls = []

    def fail_later(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionLost
        return replicate(*args)

    replicate = batch.replicate
    with (
        override_settings(SYNCHRO_BATCH_SIZE=2),
        mock.patch.object(run, "replicate", fail_later),
        pytest.raises(TransientError),
    ):
        engine.sync_pending()

    assert ChangeLog.objects.pending().count() == 1
    _nothing_happened(1)
    sync()
    assert_in_step(Article)


class ConnectionLost(TransientError):
    """The connection was lost."""


# Models with a will of their own


def test_a_default_manager_that_hides_rows(each_vendor: Pair) -> None:
    hidden = factories.make(Hidden, name="a", visible=False)
    sync()
    assert_same_on_remote(hidden)
    hidden.name = "b"
    hidden.save()
    sync()
    assert_in_step(Hidden)
    assert Hidden.everything.using(each_vendor.remote).count() == 1
    hidden.delete()
    sync()
    assert Hidden.everything.using(each_vendor.remote).count() == 0


def test_a_delete_method_that_refuses(pair: Pair) -> None:
    stubborn = factories.make(Stubborn, name="a")
    sync()
    Stubborn.objects.filter(pk=stubborn.pk).delete()

    sync()

    assert_in_step(Stubborn)


def test_objects_that_cannot_be_printed(each_vendor: Pair) -> None:
    """Neither a copy nor a failure needs their name."""
    good = factories.make(Haunted, name="good")
    factories.make(Haunted, name="bad", using=each_vendor.remote)
    bad = factories.make(Haunted, name="bad")

    (failure,) = engine.sync_pending().failures

    assert failure.object_id == str(bad.pk)
    assert "name" in failure.error
    assert_same_on_remote(good)
    bad.delete()
    good.delete()
    sync()
    assert Haunted.objects.using(each_vendor.remote).count() == 1


def test_a_unique_value_without_a_natural_key_is_no_adoption(each_vendor: Pair) -> None:
    """That two rows have one unique value does not mean that they are one object."""
    theirs = factories.slot(label="a", position=1, using=each_vendor.remote)
    ours = factories.slot(label="a", position=2)

    (failure,) = engine.sync_pending().failures

    assert failure.object_id == str(ours.pk)
    assert "label" in failure.error
    theirs.refresh_from_db(using=each_vendor.remote)
    assert theirs.position == 1
    assert Slot.objects.using(each_vendor.remote).count() == 1
    theirs.delete(using=each_vendor.remote)
    sync()
    assert counterpart(ours).position == 2


def test_an_entry_whose_object_id_is_nonsense(pair: Pair) -> None:
    article = factories.article()
    entry = ChangeLog.objects.get()
    entry.pk, entry.object_id = None, "nonsense"
    entry.save()

    (failure,) = engine.sync_pending().failures

    assert failure.error == "'nonsense' is no primary key of shop.Article. Discard the log entry."
    assert_same_on_remote(article)


def test_an_object_that_is_gone_without_an_entry(pair: Pair) -> None:
    """Deleted behind the log's back after it was saved: there is nothing to copy, and nothing to delete by itself."""
    country = factories.country()
    person = factories.person()
    Country.objects.all()._raw_delete(pair.local)
    Person.objects.all()._raw_delete(pair.local)

    sync()

    assert_nothing_pending()
    assert Country.objects.using(pair.remote).count() == Person.objects.using(pair.remote).count() == 0
    assert country.pk
    assert person.pk
