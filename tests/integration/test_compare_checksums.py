"""Checksums and row by row: two ways to the same result."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections

from synchro.compare import digests
from synchro.compare.request import chosen_models
from synchro.engine.link import open_link
from synchro.models import Reference
from synchro.registry import model_label
from tests import factories
from tests.comparing import assert_agree, full, numbers
from tests.databases import Pair
from tests.integration.test_compare_objects import DAMAGES, fill
from tests.roads import sync
from tests.shop.models import Article, City, Locker, Product

pytestmark = pytest.mark.postgres


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


@pytest.mark.parametrize("side", ["local", "remote"])
def test_the_same_result(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
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
    diverge(getattr(postgres_pair, side))
    Reference.objects.filter(pk__in=Reference.objects.order_by("pk")[:7].values("pk")).delete()

    by_checksums, by_rows = both_ways(monkeypatch)

    assert by_checksums == by_rows
    kinds = {name for tally in by_rows[0].values() for name in tally}
    assert kinds >= {"equal", "missing", "different", "skipped"}


def test_which_models_have_checksums(postgres_pair: Pair) -> None:
    """What the documentation says: whole numbers as keys, relations to such, plain values."""
    link = open_link()
    without = {model_label(model) for model in chosen_models(("shop", "values")) if digests.plan(link, model) is None}
    assert without == {
        "shop.Comment", "shop.Currency", "shop.Flight", "shop.Grant", "shop.Parcel", "shop.Pile",
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


def test_ranges_of_any_size(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that lie in several ranges, and ranges without any row."""
    monkeypatch.setattr(digests, "_FIRST_SPAN", 3)
    monkeypatch.setattr(digests, "_SECONDS", 0)
    for number in [*range(0, 200, 3), 10**4, -(10**3)]:
        factories.make(Locker, number=number)
        factories.article()
    sync()
    assert_agree()
    Locker.objects.filter(number=99).update(note="x")
    Locker.objects.filter(number=-1000)._raw_delete(postgres_pair.local)

    _, notes = full(dry_run=True)

    assert notes.kinds == [("Locker", "deleted", "-1000"), ("Locker", "different", "99")]


def test_an_error_in_a_thread_fails_the_model(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.article()
    sync()
    monkeypatch.setattr(digests, "_DIGEST", digests._DIGEST.replace("bit_xor", "bit_nothing"))

    tallies, _ = full(dry_run=True, models=("shop.Article",))

    assert "bit_nothing" in tallies["Article"].error
    assert threading.active_count() < 10


def test_a_missing_column_fails_its_model(postgres_pair: Pair) -> None:
    factories.city()
    sync()
    with connections[postgres_pair.remote].cursor() as cursor:
        cursor.execute("ALTER TABLE shop_city RENAME population TO people")
    try:
        tallies, _ = full(models=("shop.City", "shop.Country"))
    finally:
        with connections[postgres_pair.remote].cursor() as cursor:
            cursor.execute("ALTER TABLE shop_city RENAME people TO population")
    assert "population does not exist" in tallies["City"].error
    assert tallies["Country"].equal == 1


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
