"""How one object differs between the two databases, as an operator is told."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import override_settings

from synchro import engine
from synchro.engine import HIDDEN, Comparison, FieldDifference, compare_object
from synchro.exceptions import AmbiguousNaturalKey
from tests import factories
from tests.assertions import counterpart
from tests.databases import Pair
from tests.faults import ambiguous_twin
from tests.integration.test_values_copy import save_all_values
from tests.queries import queries
from tests.roads import sync
from tests.shop.models import Account, Article, City, Comment, Flight, Invoice, Person, Pizzeria, Seat, Twin
from tests.values.models import Everything, Filled


def compare(instance: Model) -> Comparison:
    return compare_object(type(instance), str(instance.pk))


def differing(instance: Model) -> list[str]:
    """Return the names of the fields that differ, of an object that is on both sides."""
    found = compare(instance)
    assert found.on_local
    assert found.remote_pk is not None
    return [each.field for each in found.differences]


def change_copy(instance: Model, **values: Any) -> None:
    """Change REMOTE's copy behind everybody's back."""
    copy = counterpart(instance)
    assert type(copy)._base_manager.using(copy._state.db).filter(pk=copy.pk).update(**values) == 1


def test_nothing_differs(every_pair: Pair) -> None:
    """Every value of every column, between all vendors."""
    save_all_values()
    factories.make(Everything)
    factories.make(Filled)
    sync()

    for model in (Everything, Filled):
        for each in model.objects.all():
            assert differing(each) == []


def test_relations_of_all_kinds_are_the_same(pair: Pair) -> None:
    city = factories.city()
    objects: list[Model] = [
        city,
        factories.flight(),
        factories.playlist(factories.song(), factories.song()),
        factories.pizzeria(),
        factories.seat(),
        factories.make(
            Comment, content_type=ContentType.objects.get_for_model(City), object_id=str(city.pk), text="Nice."
        ),
    ]
    first, second = factories.person(), factories.person()
    first.friends.add(second)
    sync()

    for each in (*objects, first, second):
        found = compare_object(type(each), _object_id(each))
        assert (found.on_local, found.differences) == (True, ()), each
        assert found.remote_pk is not None, each


def _object_id(instance: Model) -> str:
    return f'["{instance.row}", "{instance.number}"]' if isinstance(instance, Seat) else str(instance.pk)


def test_each_field_that_differs_is_named(pair: Pair) -> None:
    article = factories.article()
    pizzeria = factories.pizzeria()
    sync()
    change_copy(article, title="other", words=7)
    copy = counterpart(pizzeria)
    type(pizzeria)._base_manager.using(pair.remote).filter(pk=copy.pk).update(name="other")

    assert differing(article) == ["title", "words"]
    assert differing(pizzeria) == ["name"]


def test_a_relation_to_another_object(pair: Pair) -> None:
    city, other = factories.city(), factories.country()
    flight, airport = factories.flight(), factories.flight().origin
    sync()

    City.objects.filter(pk=city.pk).update(country=other)
    Flight.objects.filter(pk=flight.pk).update(origin=airport)

    assert differing(city) == ["country"]
    assert differing(flight) == ["origin"]


def test_a_relation_to_an_object_that_remote_lacks_names_it(pair: Pair) -> None:
    city = factories.city()
    sync()
    country = factories.country()
    City.objects.filter(pk=city.pk).update(country=country)

    (found,) = compare(city).differences

    assert found == FieldDifference("country", f"shop.Country {country.pk}", HIDDEN)


def test_members_of_a_relation(pair: Pair) -> None:
    song, other = factories.song(), factories.song()
    playlist = factories.playlist(song)
    account, followed = factories.make(Account, name="a"), factories.make(Account, name="b")
    sync()
    assert differing(playlist) == []

    counterpart(playlist).songs.add(counterpart(other))
    account.follows.add(followed)

    assert differing(playlist) == ["songs"]
    assert differing(account) == ["follows"]


def test_what_remote_keeps_for_itself_does_not_count(pair: Pair) -> None:
    invoice = factories.make(Invoice, number="1")
    sync()
    change_copy(invoice, balance=99, note="theirs")

    assert differing(invoice) == []


def test_an_object_that_one_side_lacks(pair: Pair) -> None:
    new, gone, removed = factories.article(), factories.article(), factories.article()
    assert compare(new) == Comparison(on_local=True)
    sync()
    remote_pk = str(counterpart(gone).pk)
    Article.objects.filter(pk=gone.pk)._raw_delete(pair.local)
    Article.objects.using(pair.remote).filter(pk=counterpart(removed).pk).delete()

    assert compare(gone) == Comparison(on_local=False, remote_pk=remote_pk)
    assert compare(removed) == Comparison(on_local=True)
    assert compare_object(Article, "9999") == Comparison(on_local=False)


def test_a_counterpart_by_natural_key_without_a_reference(pair: Pair) -> None:
    here = factories.make(Person, name="Ada")
    there = factories.make(Person, name="Ada", using=pair.remote)

    assert compare(here) == Comparison(on_local=True, remote_pk=str(there.pk))


def test_an_ambiguous_counterpart(pair: Pair) -> None:
    twin = ambiguous_twin(pair)

    with pytest.raises(AmbiguousNaturalKey):
        compare_object(Twin, str(twin.pk))


def test_remote_without_tables(bare_pair: Pair) -> None:
    article = factories.article()
    sync()
    change_copy(article, title="other")

    assert differing(article) == ["title"]


def test_nothing_is_written(pair: Pair) -> None:
    playlist = factories.playlist(factories.song())
    sync()

    for alias in (pair.local, pair.remote):
        with queries(alias) as asked:
            compare(playlist)
        assert [each for each in asked if not each.startswith("SELECT")] == []


# Values


def test_values_are_hidden(pair: Pair) -> None:
    article = factories.article()
    sync()
    change_copy(article, title="personal")

    assert compare(article).differences == (FieldDifference("title", HIDDEN, HIDDEN),)


@override_settings(SYNCHRO_LOG_VALUES=True)
def test_values_are_shown_where_they_are_wanted(pair: Pair) -> None:
    article = factories.article(text="here")
    sync()
    change_copy(article, text="x" * 1000)

    (found,) = compare(article).differences

    assert found.local == "'here'"
    assert len(found.remote) == 200
    assert found.remote.startswith("'xxx")


@override_settings(SYNCHRO_LOG_VALUES=True, SYNCHRO_MODELS=["auth"])
def test_a_password_is_never_shown(pair: Pair) -> None:
    user = factories.user()
    engine.sync_pending()
    User.objects.using(pair.remote).update(password="s3cr3t", first_name="Eve")

    found = {each.field: each.remote for each in compare(user).differences}

    assert found == {"password": HIDDEN, "first_name": "'Eve'"}


def test_a_model_with_a_parent(pair: Pair) -> None:
    pizzeria = factories.pizzeria()
    sync()

    assert compare(pizzeria).remote_pk == str(Pizzeria.objects.using(pair.remote).get().pk)
