"""SYNCHRO_SKIP: a new copy gets default values, an existing one keeps REMOTE's own, and LOCAL stays untouched."""

from __future__ import annotations

import pytest

from synchro import engine
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote, counterpart
from tests.databases import Pair
from tests.roads import ROADS, Road, sync
from tests.shop.models import Invoice, Lease, Product, Stamped, Tag


@pytest.fixture
def skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fields of models of every kind of primary key, of a natural key, and of moments that Django sets."""
    monkeypatch.setattr(Product, "SYNCHRO_SKIP", ("stock", "price"), raising=False)
    monkeypatch.setattr(Tag, "SYNCHRO_SKIP", ["title"], raising=False)
    monkeypatch.setattr(Stamped, "SYNCHRO_SKIP", ("changed",), raising=False)


@pytest.mark.parametrize("bring", ROADS)
def test_a_new_copy_gets_defaults(each_vendor: Pair, bring: Road) -> None:
    invoice = factories.make(Invoice, number="1", balance=100, note="ours")

    bring()

    copy = Invoice.objects.using(each_vendor.remote).get()
    assert (copy.number, copy.balance, copy.note) == ("1", 7, "new")
    invoice.refresh_from_db()
    assert (invoice.balance, invoice.note) == (100, "ours")


def test_an_existing_copy_keeps_its_own(each_vendor: Pair) -> None:
    invoice = factories.make(Invoice, number="1", balance=100)
    other = factories.make(Invoice, number="2", balance=200)
    sync()
    for each, balance in ((invoice, 41), (other, 42)):
        Invoice.objects.using(each_vendor.remote).filter(pk=counterpart(each).pk).update(balance=balance, note="theirs")
    for each in (invoice, other):
        each.number += "a"
        each.balance = 300
        each.save()

    sync()

    assert set(Invoice.objects.using(each_vendor.remote).values_list("number", "balance", "note")) == {
        ("1a", 41, "theirs"),
        ("2a", 42, "theirs"),
    }
    assert set(Invoice.objects.values_list("number", "balance")) == {("1a", 300), ("2a", 300)}


def test_an_adopted_row_keeps_its_own(pair: Pair, skip: None) -> None:
    factories.product(sku="chair", name="theirs", stock=41, price=1, using=pair.remote)
    factories.tag(slug="a", title="theirs", using=pair.remote)
    factories.product(sku="chair", name="ours", stock=5, price=2)
    factories.tag(slug="a", title="ours")

    sync()

    product = Product.objects.using(pair.remote).get()
    assert (product.name, product.stock, product.price) == ("ours", 41, 1)
    assert Tag.objects.using(pair.remote).get().title == "theirs", "a model whose every other field is its key"
    assert_in_step(Product, Tag)


def test_a_copy_that_is_made_again_gets_defaults(pair: Pair) -> None:
    invoice = factories.make(Invoice, number="1", balance=100)
    sync()
    Invoice.objects.using(pair.remote).update(balance=41)
    Invoice.objects.using(pair.remote).all().delete()
    invoice.save()

    sync()

    assert Invoice.objects.using(pair.remote).get().balance == 7


def test_a_moment_that_django_sets(pair: Pair, skip: None) -> None:
    """A skipped moment without a default is set as in any new row, and then left alone."""
    stamped = factories.make(Stamped, name="a")

    report = engine.sync_pending()

    assert report.failures == ()
    first = Stamped.objects.using(pair.remote).get().changed
    stamped.name = "b"
    stamped.save()
    sync()
    copy = Stamped.objects.using(pair.remote).get()
    assert (copy.name, copy.changed) == ("b", first)


def test_a_foreign_key_to_nowhere_is_no_obstacle(pair: Pair) -> None:
    """The target of a skipped foreign key is not needed on REMOTE, and so not copied."""
    lease = factories.make(Lease, name="flat", landlord=factories.country())

    engine.sync_object("shop.Lease", str(lease.pk))

    assert_same_on_remote(lease)
    assert Lease.objects.using(pair.remote).get().landlord_id is None


def test_members_of_a_skipped_relation_stay_remotes(pair: Pair) -> None:
    lease = factories.make(Lease, name="flat")
    lease.tenants.add(factories.person())
    sync()
    copy = Lease.objects.using(pair.remote).get()
    own = factories.person(using=pair.remote)
    copy.tenants.add(own)
    lease.tenants.clear()
    lease.save()

    sync()

    assert list(copy.tenants.all()) == [own]
