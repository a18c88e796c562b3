"""Which models are watched, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import override_settings

from synchro.exceptions import SettingError
from synchro.registry import (
    all_many_to_many,
    has_auto_pk,
    is_watched,
    many_to_many_of,
    own_fields,
    proxies_of,
    skipped_fields,
    watched_models,
)
from tests.shop.models import (
    Account,
    Article,
    CheapProduct,
    City,
    Country,
    Employee,
    Fair,
    Invoice,
    Locker,
    Membership,
    Parcel,
    Passport,
    Person,
    Pizzeria,
    Place,
    Playlist,
    Product,
    Restaurant,
    Seat,
    Song,
    Square,
    Tag,
    Team,
)
from tests.unwatched.models import Genre, Supplier


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ([], []),
        (["handlers"], ["Agent", "Express", "Shipment"]),
        (("handlers",), ["Agent", "Express", "Shipment"]),
        ([("handlers",)], ["Agent", "Express", "Shipment"]),
        (["tests.handlers"], ["Agent", "Express", "Shipment"]),
        ([("shop", "article", "CITY", "Product")], ["Article", "City", "Product"]),
        ([["shop", "article"]], ["Article"]),
        ([("tests.shop", "Article")], ["Article"]),
        (["django.contrib.sessions"], ["Session"]),
        ([("django.contrib.auth", "group"), ("auth", "GROUP")], ["Group"]),
        ([("shop", "article"), ("handlers", "agent")], ["Agent", "Article"]),
    ],
)
def test_forms_of_the_setting(setting: Any, expected: list[str]) -> None:
    with override_settings(SYNCHRO_MODELS=setting):
        assert sorted(model.__name__ for model in watched_models()) == expected


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("nowhere", "names the app 'nowhere', which is not installed. Installed are: "),
        (("nowhere", "article"), "names the app 'nowhere', which is not installed"),
        ("shop.article", "names the app 'shop.article', which is not installed"),
        (("shop", "artikel"), "names the model 'artikel', which the app 'shop' does not have. It has: Account, "),
        (("shop", ""), "names the model '', which the app 'shop' does not have"),
        (5, "contains 5; each item is an app such as 'shop'"),
        (None, "contains None; each item is"),
        ((), r"contains \(\); each item is"),
        (("shop", 5), r"contains \('shop', 5\); each item is"),
        (Article, "contains <class 'tests.shop.models.plain.Article'>; each item is"),
    ],
)
def test_rubbish_in_an_item(item: Any, message: str) -> None:
    with override_settings(SYNCHRO_MODELS=[item]), pytest.raises(SettingError, match=f"SYNCHRO_MODELS {message}"):
        watched_models()


def test_is_watched() -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "article"), ("auth", "group")]):
        assert is_watched(Article)
        assert is_watched(Group)
        assert not is_watched(City)
        assert not is_watched(User)
        assert not is_watched(Supplier)


def test_a_proxy_stands_for_its_concrete_model() -> None:
    assert proxies_of(Product) == [CheapProduct]
    for name in ("product", "cheapproduct"):
        with override_settings(SYNCHRO_MODELS=[("shop", name)]):
            assert watched_models() == [Product]
            assert is_watched(Product)
            assert is_watched(CheapProduct)


def test_parents_are_watched_with_their_child() -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "pizzeria")]):
        assert watched_models() == [Place, Restaurant, Pizzeria]


def test_an_explicit_through_model_is_watched_with_the_relation() -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "team")]):
        assert watched_models() == [Team, Membership]
        assert not is_watched(Person)


def test_what_a_model_points_to_comes_first() -> None:
    order = watched_models()
    position = {model: number for number, model in enumerate(order)}

    assert position[Country] < position[City]
    assert position[Employee] < position[Passport]
    assert position[Place] < position[Restaurant] < position[Pizzeria]
    assert position[Team] < position[Membership] > position[Person]
    assert len(order) == len(set(order))


def test_cycles_do_not_hide_a_model() -> None:
    expected = {
        model._meta.concrete_model
        for label in ("shop", "values", "handlers")
        for model in apps.get_app_config(label).get_models()
    }

    assert set(watched_models()) == expected


def test_skipped_fields() -> None:
    assert skipped_fields(Invoice) == {"balance", "note"}
    assert skipped_fields(Article) == frozenset()


def test_generated_columns_are_not_written() -> None:
    assert [field.name for field in own_fields(Square)] == ["id", "side", "colour", "drawn"]
    assert [field.name for field in own_fields(Restaurant)] == ["place_ptr", "stars"]
    assert [field.name for field in own_fields(Seat)] == ["row", "number", "guest"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Article, True),
        (Place, True),
        (Locker, False),
        (Tag, False),
        (Parcel, False),
        (Seat, False),
        (Passport, False),
        (Restaurant, False),
        (Fair, False),
    ],
)
def test_has_auto_pk(model: Any, expected: bool) -> None:
    assert has_auto_pk(model) is expected


def test_a_relation_belongs_to_the_model_that_declares_it() -> None:
    songs, genres = many_to_many_of(Playlist)

    assert (songs.owner, songs.member, songs.symmetrical) == (Playlist, Song, False)
    assert (genres.owner, genres.member, genres.symmetrical) == (Playlist, Genre, False)
    assert many_to_many_of(Song) == []
    assert [relation.symmetrical for relation in many_to_many_of(Person)] == [True]
    assert [relation.symmetrical for relation in many_to_many_of(Account)] == [False]


def test_a_relation_belongs_to_the_only_watched_side() -> None:
    with override_settings(SYNCHRO_MODELS=[("shop", "song")]):
        owners = {relation.through._meta.object_name: relation.owner for relation in all_many_to_many()}

    assert owners == {"Playlist_songs": Song, "Pizzeria_music": Song}


def test_explicit_throughs_are_no_automatic_relation() -> None:
    assert many_to_many_of(Team) == []
