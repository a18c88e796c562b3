"""Natural keys in the database: the manager finds what natural_key() describes."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from tests import factories
from tests.databases import Pair
from tests.shop.models import Country, Currency, Holiday, Namesake, Product, Rate, Reading, Street, Town, Twin


def find(obj: Any, using: str) -> Any:
    """Look an object up by its own natural key."""
    return type(obj)._default_manager.db_manager(using).get_by_natural_key(*obj.natural_key())


def by_key(model: Any, using: str | None = None) -> Any:
    """Return the get_by_natural_key of the model's manager."""
    return model.objects.db_manager(using).get_by_natural_key


def test_each_kind_of_key(each_vendor: Pair) -> None:
    using = each_vendor.remote
    country = factories.country(using=using)
    currency = factories.make(Currency, code="EUR", using=using)
    town = factories.make(Town, name="Kehl", using=using)
    for obj in (
        country,
        currency,
        factories.product(using=using),
        factories.make(Holiday, country=country, day=factories.day(), using=using),
        factories.make(Rate, currency=currency, day=factories.day(), using=using),
        factories.make(Street, name="Main St", town=town, using=using),
        factories.make(Reading, depth=Decimal("1.500"), sensor=uuid.uuid4(), taken=factories.moment(), using=using),
    ):
        found = find(obj, using)
        assert found == obj
        assert found._state.db == using


def test_a_foreign_key_is_looked_up_in_the_same_database(pair: Pair) -> None:
    here = factories.country(code="DE")
    there = factories.country(code="DE", using=pair.remote)
    factories.make(Holiday, country=here, day=factories.day())
    holiday = factories.make(Holiday, country=there, day=factories.day(), using=pair.remote)

    found = by_key(Holiday, pair.remote)(("DE",), factories.day())

    assert found.pk == holiday.pk
    assert found.country_id == there.pk != here.pk


def test_none_has_the_key(pair: Pair) -> None:
    with pytest.raises(Product.DoesNotExist):
        by_key(Product)("nothing")
    with pytest.raises(Namesake.DoesNotExist):
        by_key(Namesake)("nobody")
    with pytest.raises(Country.DoesNotExist):
        by_key(Holiday)(("XX",), factories.day())


def test_more_than_one_has_the_key(pair: Pair) -> None:
    for age in (1, 2):
        factories.make(Twin, name="Castor", age=age)
        factories.make(Namesake, name="Castor", age=age)

    with pytest.raises(Twin.MultipleObjectsReturned):
        by_key(Twin)("Castor")
    assert by_key(Namesake)("Castor").age == 1


@pytest.mark.parametrize("values", [(), ("DE",), ("DE", "2024-01-01", "x")])
def test_the_wrong_number_of_values(sqlite_pair: Pair, values: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=r"natural key of Holiday has 2 values \(country, day\)"):
        by_key(Holiday)(*values)
