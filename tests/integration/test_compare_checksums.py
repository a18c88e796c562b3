"""Checksums and row by row: two ways to the same result."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.db.models import JSONField, Value
from django.test import override_settings

from synchro import engine
from synchro.compare import Request, Watcher, digests, run
from synchro.compare.dialects import PostgreSQL
from synchro.compare.request import chosen_models
from synchro.engine import resolve
from synchro.engine.link import open_link
from synchro.models import Reference
from synchro.registry import model_label
from synchro.rows import batched
from tests import factories
from tests.assertions import assert_in_step
from tests.comparing import Notes, assert_agree, full, numbers
from tests.databases import Pair
from tests.integration.test_compare_objects import DAMAGES, fill
from tests.roads import sync
from tests.shop.models import Article, City, Locker, Product
from tests.values.models import Everything
from tests.vendors import only_on

both_vendors = only_on("postgres", "mariadb")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were compared one by one, batch by batch."""
    from synchro.compare import objects

    found: list[int] = []
    real = objects.Comparer.compare

    def compare(self: Any, rows: Any, **options: Any) -> Any:
        found.append(len(rows))
        return real(self, rows, **options)

    monkeypatch.setattr(objects.Comparer, "compare", compare)
    return found


def both_ways(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Compare with checksums and without; return what was found each time."""
    results = []
    for plan in (digests.plan, lambda link, model: None):
        with monkeypatch.context() as patch:
            patch.setattr(digests, "plan", plan)
            tallies, notes = full(dry_run=True)
        values = sorted((each.model, each.key, each.kind, each.values) for each in notes.found)
        results.append(({name: numbers(tally) for name, tally in tallies.items()}, values))
    return results[0], results[1]


def diverge(using: str) -> None:
    """Let one side differ in every way, and objects come and go there."""
    for damage in DAMAGES.values():
        damage(using)
    for model in (Article, Locker):
        rows = model._base_manager.using(using)
        rows.filter(pk__in=[each.pk for each in rows.order_by("-pk")[:2]])._raw_delete(using)
    Article.objects.using(using).bulk_create([Article(title="New"), Article(title="Newer")])
    Locker.objects.using(using).bulk_create([Locker(number=-5), Locker(number=10**6)])


@both_vendors
@pytest.mark.parametrize("side", ["local", "remote"])
def test_the_same_result(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    fill()
    for number in range(40):
        factories.article()
        factories.make(Locker, number=number * 7 - 100)
    sync()
    assert_agree()
    for each in Article.objects.all()[5:8]:
        each.save()  # pending, and equal
    pending = Article.objects.all()[9]
    pending.title = "Pending"
    pending.save()
    diverge(getattr(each_vendor, side))
    Reference.objects.filter(pk__in=list(Reference.objects.order_by("pk").values_list("pk", flat=True)[:7])).delete()

    by_checksums, by_rows = both_ways(monkeypatch)

    assert by_checksums == by_rows
    kinds = {name for tally in by_rows[0].values() for name in tally}
    assert kinds >= {"equal", "missing", "different", "skipped"}


@both_vendors
def test_which_models_have_checksums(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documentation says: whole numbers as keys, relations to such, plain values."""
    monkeypatch.setattr(digests, "_is_empty", lambda using, model: False)
    link = open_link()
    without = {model_label(model) for model in chosen_models(("shop", "values")) if digests.plan(link, model) is None}
    assert without == {
        "shop.Comment", "shop.Currency", "shop.Flight", "shop.Grant", "shop.Page", "shop.Parcel", "shop.Pile",
        "shop.Rate", "shop.Seat", "shop.Tag",
    }  # fmt: skip


def test_equal_rows_are_not_read(postgres_pair: Pair, counted: list[int]) -> None:
    fill()
    for _ in range(50):
        factories.article()
    sync()
    models = ("shop.Article", "shop.City", "shop.Product", "shop.Playlist", "shop.Employee", "shop.Locker")

    tallies, _ = full(models=models)

    assert counted == []
    assert tallies["Article"].compared == tallies["Article"].equal == 50
    Article.objects.filter(pk=Article.objects.latest("pk").pk).update(title="New")
    full(models=models)
    assert len(counted) == 2
    assert counted[0] <= 2**digests.SHIFT


@both_vendors
def test_ranges_of_any_size(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that lie in several ranges, and ranges without any row."""
    monkeypatch.setattr(digests, "_FIRST_SPAN", 3)
    monkeypatch.setattr(digests, "_LEAST_SPAN", 1)
    monkeypatch.setattr(digests, "_SECONDS", 0)
    for number in [*range(0, 200, 3), 10**4, -(10**3)]:
        factories.make(Locker, number=number)
        factories.article()
    sync()
    assert_agree()
    Locker.objects.filter(number=99).update(note="x")
    Locker.objects.filter(number=-1000)._raw_delete(each_vendor.local)

    _, notes = full(dry_run=True)

    assert notes.kinds == [("Locker", "deleted", "-1000"), ("Locker", "different", "99")]


@both_vendors
@pytest.mark.parametrize("gap", [1, 1000], ids=["a cluster", "scattered"])
def test_no_query_is_about_many_rows_at_once(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, gap: int) -> None:
    """However far it is to the next row, and however little time it takes to find none."""
    monkeypatch.setattr(digests, "_FIRST_SPAN", 100)
    monkeypatch.setattr(digests, "_LEAST_SPAN", 10)
    monkeypatch.setattr(digests, "_MOST_GROUPS", 100)
    numbers = [-1, 0, *range(10**9, 10**9 + 3000 * gap, gap)]
    for using in (each_vendor.local, each_vendor.remote):
        Locker.objects.using(using).bulk_create([Locker(number=each, note="x") for each in numbers])
    Locker.objects.filter(number=numbers[-7]).update(note="y")
    link = open_link()
    plan, scan = digests.plan(link, Locker), digests.Scan()
    assert plan is not None
    answers: list[digests.Answer] = []
    real = digests.Scan.add

    def add(self: Any, answer: digests.Answer) -> int:
        answers.append(answer)
        return real(self, answer)

    monkeypatch.setattr(digests.Scan, "add", add)

    assert sum(digests.read(plan, scan, sleep=0)) == scan.total == len(numbers)

    assert list(scan.balance) == [numbers[-7] >> digests.SHIFT]
    # Four times as many rows as the one before, where that was fast and its rows had few groups.
    for each, before in zip(answers[2:], answers, strict=False):
        assert each.rows <= 4 * max(100, before.rows)
    assert max(len(each.groups) for each in answers) <= 400
    assert max(each.rows for each in answers) > 200 or gap > 1
    assert len(answers) < 100


def test_an_error_in_a_thread_fails_the_model(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.article()
    sync()
    monkeypatch.setattr(PostgreSQL, "digest", PostgreSQL.digest.replace("bit_xor", "bit_nothing"))

    tallies, _ = full(dry_run=True, models=("shop.Article",))

    assert "bit_nothing" in tallies["Article"].error
    assert threading.active_count() < 10


def test_everything_differs(postgres_pair: Pair) -> None:
    """An empty REMOTE, or one that shares nothing: row by row from the beginning."""
    for _ in range(30):
        factories.city()
    sync()
    City.objects.update(population=7)
    Product.objects.using(postgres_pair.remote).create(sku="extra")

    tallies, _ = full(batch_size=7)

    assert tallies["City"].different == tallies["City"].repaired == 30
    assert_no_surplus = full(dry_run=True, delete_extra=True)[1].kinds
    assert [kind for _, kind, _ in assert_no_surplus] == ["extra"]


@both_vendors
def test_an_empty_remote_has_no_checksums(each_vendor: Pair) -> None:
    """There is nothing to find out before the objects are loaded."""
    with override_settings(SYNCHRO_MODELS=[]):
        factories.make(Locker, number=1)
    assert digests.plan(open_link(), Locker) is None

    full()

    assert digests.plan(open_link(), Locker) is not None
    assert_agree()


@both_vendors
def test_keys_in_another_order(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, counted: list[int]) -> None:
    """No group is complete before almost everything is read; then neighbours are taken together."""
    monkeypatch.setattr(digests, "_MOST_OPEN", 10)
    articles = [factories.article() for _ in range(600)]
    random.Random(1).shuffle(articles)
    with override_settings(SYNCHRO_BATCH_SIZE=1000):
        for batch in batched(articles, 100):
            engine.sync_objects(Article, [str(each.pk) for each in batch])
    rows = Article.objects.using(each_vendor.remote)
    rows.filter(pk=rows.order_by("pk")[300].pk).update(title="Damaged")
    rows.filter(pk=rows.latest("pk").pk)._raw_delete(each_vendor.remote)
    link = open_link()
    plan, scan = digests.plan(link, Article), digests.Scan()
    assert plan is not None

    for _ in digests.read(plan, scan, sleep=0):
        assert len(scan.balance) <= 10

    assert scan.shift > digests.SHIFT
    assert len(scan.balance) == 2
    (tally,) = full(models=("shop.Article",), batch_size=50)[0].values()
    assert numbers(tally) == {
        "compared": 600, "equal": 598, "missing": 1, "different": 1, "logged": 2, "repaired": 2
    }  # fmt: skip
    assert_in_step(Article)


class Stop(Exception):
    """What interrupts a comparison."""


class Deadly(Watcher):
    """Kills the process after so many objects."""

    def __init__(self, left: int) -> None:
        self.left = left

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run_and_be_killed(request: Request, *, after: int) -> None:
    """Run a comparison in a process that is killed after so many objects."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            run(request, watcher=Deadly(after))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def in_small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """One locker in each range, and it is kept after each of them how far the checksums are."""
    monkeypatch.setattr(digests, "_FIRST_SPAN", 1)
    monkeypatch.setattr(digests, "_LEAST_SPAN", 1)
    monkeypatch.setattr(digests, "_SECONDS", 0)
    monkeypatch.setattr(sys.modules[run.__module__], "_SECONDS_BETWEEN_SCANS", 0)
    for number in range(60):
        factories.make(Locker, number=number * 1000)
    sync()


@pytest.mark.usefixtures("postgres_pair", "in_small_ranges")
@pytest.mark.parametrize("dry_run", [True, False])
def test_checksums_go_on_after_a_kill(monkeypatch: pytest.MonkeyPatch, dry_run: bool) -> None:
    Locker.objects.filter(number__in=[3000, 33000, 58000]).update(note="x")
    request = Request(dry_run=dry_run, models=("shop.Locker",))
    run_and_be_killed(request, after=30)
    asked: list[int] = []
    real = digests._Table.digest

    def digest(self: Any, cursor: Any, low: int, high: int) -> Any:
        if self.using == "postgres_a":
            asked.append(low)
        return real(self, cursor, low, high)

    monkeypatch.setattr(digests._Table, "digest", digest)
    notes = Notes()

    (tally,) = run(request, watcher=notes)

    assert min(asked) == 29_000
    assert [each.key for each in notes.found] == ["3000", "33000", "58000"]
    repaired = {} if dry_run else {"logged": 3, "repaired": 3}
    assert numbers(tally) == {"compared": 60, "equal": 57, "different": 3, **repaired}


@pytest.mark.usefixtures("postgres_pair", "in_small_ranges")
@pytest.mark.parametrize("dry_run", [True, False])
def test_suspected_rows_go_on(counted: list[int], dry_run: bool) -> None:
    """What differs is compared one by one, and not again after an interruption, nor are its ranges."""
    lockers = Locker.objects.filter(number__lt=30_000)
    lockers.update(note="x")
    Reference.objects.filter(local_object_id__in=["1000", "2000", "3000", "4000"]).delete()
    request = Request(dry_run=dry_run, models=("shop.Locker",))

    class Hasty(Notes):
        def differ(self, difference: Any) -> None:
            if len(self.found) == 15:
                raise Stop
            super().differ(difference)

    first, second = Hasty(), Notes()
    with pytest.raises(Stop):
        run(request, watcher=first, batch_size=2 << digests.SHIFT)
    rows = sum(counted)

    (tally,) = run(request, watcher=second, batch_size=2 << digests.SHIFT)

    keys = [each.key for each in (*first.found, *second.found)]
    assert sorted(set(keys), key=int) == [str(each.pk) for each in lockers.order_by("pk")]
    assert len(keys) <= 32
    assert sum(counted) - rows < rows + 8
    expected = {} if dry_run else {"logged": 30, "repaired": 30}
    assert numbers(tally) == {"compared": 60, "equal": 30, "different": 30, **expected}


def test_a_scan_survives_json() -> None:
    scan = digests.Scan(places=[(1, None), (0, -(2**63))], total=7, bounds=(-5, 9), unreferenced=[(1, 2)])
    scan.balance, scan.shift = {-3: (-1, 2**63 - 1), 2**58: (0, -(2**63))}, 7
    assert digests.Scan.from_plain(json.loads(json.dumps(scan.as_plain()))) == scan


#: Values of a kind that are hard to tell apart, and fields that hold them.
NEIGHBOURS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"char": "a"}, {"char": "A"}),
    ({"char": "a"}, {"char": "a "}),
    ({"char": "e"}, {"char": "é"}),
    ({"char": ""}, {"char": None}),
    ({"char": "N"}, {"char": None}),
    ({"char": "a|", "text": "b"}, {"char": "a", "text": "|b"}),
    ({"char": "a", "text": "b"}, {"char": "b", "text": "a"}),
    ({"char": "a", "text": None}, {"char": None, "text": "a"}),
    ({"text": "\N{PILE OF POO}"}, {"text": "?"}),
    ({"binary": b"\x00"}, {"binary": b""}),
    ({"binary": b"a"}, {"binary": b"A"}),
    ({"binary": b""}, {"binary": None}),
    ({"float": 0.1 + 0.2}, {"float": 0.3}),
    ({"float": 5e-324}, {"float": 0.0}),
    ({"float": 1e308}, {"float": 1.0000000000000002e308}),
    ({"decimal": Decimal("12345678901234.567891")}, {"decimal": Decimal("12345678901234.567892")}),
    ({"boolean": False}, {"boolean": None}),
    ({"integer": 0}, {"integer": None}),
    ({"big_integer": 2**62 + 1}, {"big_integer": 2**62}),
    ({"datetime": datetime(2020, 1, 1, 0, 0, 0, 1, UTC)}, {"datetime": datetime(2020, 1, 1, tzinfo=UTC)}),
    ({"time": time(1, 2, 3, 4)}, {"time": time(1, 2, 3)}),
    ({"duration": timedelta(microseconds=1)}, {"duration": timedelta()}),
    ({"date": date(2020, 2, 3)}, {"date": date(2020, 3, 2)}),
    ({"uuid": UUID(int=1)}, {"uuid": UUID(int=2)}),
    ({"json": Value(None, JSONField())}, {"json": None}),
    ({"json": 1}, {"json": "1"}),
    ({"json": [True]}, {"json": [1]}),
]


@both_vendors
def test_neighbouring_values_are_told_apart(each_vendor: Pair) -> None:
    """A row and its copy have the same hash; with the other value they do not."""
    objects = [Everything.objects.create(**ours) for ours, _ in NEIGHBOURS]
    sync()
    link = open_link()
    plan = digests.plan(link, Everything)
    assert plan is not None
    copies = Everything.objects.using(each_vendor.remote)
    references = resolve.references(link, Everything, [str(each.pk) for each in objects])
    keys = [(each.pk, int(references[str(each.pk)])) for each in objects]

    def hashes() -> list[tuple[Any, Any]]:
        pairs = []
        for pks in keys:
            sides = []
            for (table, *_), pk in zip((plan.local, plan.remote), pks, strict=True):
                with connections[table.using].cursor() as cursor:
                    sides.append(list(table.digest(cursor, pk, pk + 1)))
            pairs.append((sides[0], sides[1]))
        return pairs

    assert [values for (values, _), (ours, theirs) in zip(NEIGHBOURS, hashes(), strict=True) if ours != theirs] == []
    for (_, pk), (_, theirs) in zip(keys, NEIGHBOURS, strict=True):
        copies.filter(pk=pk).update(**theirs)
    assert [values for values, (ours, theirs) in zip(NEIGHBOURS, hashes(), strict=True) if ours == theirs] == []
