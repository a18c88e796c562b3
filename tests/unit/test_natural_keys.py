"""NaturalManager and NaturalKeyModel as 0.x documents them, as far as no database is needed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Manager, Model

import synchro
from synchro import NaturalManager, natural_manager
from synchro.exceptions import SynchroError
from synchro.natural_keys import has_natural_key, natural_fields
from tests.shop.models import Article, Country, Currency, Holiday, Namesake, Product, Rate, Street


class Louder(Manager[Any]):
    """A manager of a project's own."""

    volume = 11


def test_invoking_it_makes_a_subclass() -> None:
    manager = NaturalManager("code", "day")

    assert isinstance(manager, NaturalManager)
    assert type(manager) is not NaturalManager
    assert manager.natural_fields == ("code", "day")
    assert manager.allow_many is False


def test_it_extends_another_manager() -> None:
    manager: Any = NaturalManager("code", manager=Louder)

    assert isinstance(manager, Louder)
    assert manager.volume == 11


def test_two_managers_do_not_share_their_fields() -> None:
    first, second = NaturalManager("code"), NaturalManager("day", allow_many=True)

    assert (first.natural_fields, first.allow_many) == (("code",), False)
    assert (second.natural_fields, second.allow_many) == (("day",), True)


@pytest.mark.parametrize("manager", [int, Louder(), "Louder", None])
def test_it_extends_managers_only(manager: Any) -> None:
    with pytest.raises(SynchroError, match=r"must be a subclass of django\.db\.models\.Manager"):
        NaturalManager("code", manager=manager)


def test_it_needs_fields() -> None:
    with pytest.raises(SynchroError, match="needs the names of the fields"):
        NaturalManager()


def test_natural_manager_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="use NaturalManager"):
        manager = natural_manager("code", allow_many=True)

    assert isinstance(manager, NaturalManager)
    assert (manager.natural_fields, manager.allow_many) == (("code",), True)


def test_natural_key_model() -> None:
    assert Product(sku="chair-1").natural_key() == ("chair-1",)
    assert isinstance(Product.objects, NaturalManager)
    assert Product._default_manager is Product.objects
    manager: Any = Namesake.objects
    assert manager.allow_many


def test_a_foreign_key_is_given_as_the_natural_key_of_its_target() -> None:
    assert Holiday(country=Country(code="DE"), day="2024-10-03").natural_key() == (("DE",), "2024-10-03")


def test_a_key_reaches_through_a_foreign_key() -> None:
    assert Rate(currency=Currency(code="EUR"), day="2024-10-03").natural_key() == ("EUR", "2024-10-03")


@pytest.mark.parametrize(
    ("model", "expected"),
    [(Product, True), (Country, True), (Currency, True), (Street, True), (Article, False)],
)
def test_has_natural_key(model: type[Model], expected: bool) -> None:
    assert has_natural_key(model) is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Product, ("sku",)),
        (Holiday, ("country", "day")),
        (Rate, ("currency__code", "day")),
        (Currency, ()),
        (Article, ()),
    ],
)
def test_natural_fields_are_known_where_the_manager_names_them(model: type[Model], expected: tuple[str, ...]) -> None:
    assert natural_fields(model) == expected


@pytest.mark.parametrize("name", synchro.__all__)
def test_public_names(name: str) -> None:
    assert callable(getattr(synchro, name))


def test_an_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="module 'synchro' has no attribute 'nothing'"):
        _ = synchro.nothing
