"""The assertions that other tests trust."""

from __future__ import annotations

import pytest

from synchro.models import ChangeLog
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, comparable, counterpart
from tests.databases import Pair
from tests.shop.models import City, Country, Product, Twin


def _copy_by_hand(pair: Pair) -> Product:
    product = factories.product(sku="chair-1")
    factories.product(sku="chair-1", using=pair.remote)
    ChangeLog.objects.using(pair.local).update(state=ChangeLog.State.SYNCED)
    return product


def test_equal_objects_pass(pair: Pair) -> None:
    product = _copy_by_hand(pair)

    assert_same_on_remote(product)
    assert_in_step(Product)
    assert counterpart(product).pk != product.pk


def test_a_different_value_fails(pair: Pair) -> None:
    product = _copy_by_hand(pair)
    Product.objects.using(pair.remote).update(stock=4)

    with pytest.raises(AssertionError, match="stock"):
        assert_same_on_remote(product)
    with pytest.raises(AssertionError, match=r"shop\.Product differs"):
        assert_in_step(Product)


def test_a_missing_and_a_doubled_copy_fail(pair: Pair) -> None:
    twin = factories.make(Twin, name="Castor")

    with pytest.raises(AssertionError, match="0 copies"):
        assert_same_on_remote(twin)

    for _ in range(2):
        factories.make(Twin, name="Castor", using=pair.remote)

    with pytest.raises(AssertionError, match="2 copies"):
        assert_same_on_remote(twin)


def test_a_foreign_key_to_another_object_fails(pair: Pair) -> None:
    for using, code in ((pair.local, "DE"), (pair.remote, "FR")):
        factories.city(name="Kehl", country=factories.make(Country, code=code, using=using), using=using)
    ChangeLog.objects.using(pair.local).update(state=ChangeLog.State.SYNCED)

    with pytest.raises(AssertionError, match=r"shop\.City differs"):
        assert_in_step(City)


def test_a_pending_entry_fails(pair: Pair) -> None:
    factories.article()

    with pytest.raises(AssertionError, match="added, pending"):
        assert_nothing_pending()


def test_values_of_different_types_are_different() -> None:
    assert len({repr(comparable(value)) for value in (1, 1.0, True, "1", b"1", [1], [1.0], [True])}) == 8
    assert comparable(float("nan")) == comparable(float("nan"))
    assert comparable(memoryview(b"x")) == comparable(b"x")
