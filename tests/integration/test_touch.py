"""touch(): log what was changed behind the signals' back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from synchro import touch
from synchro.exceptions import SynchroError
from tests import factories
from tests.assertions import logged
from tests.databases import Pair
from tests.integration.test_capture import forget
from tests.queries import kinds, queries
from tests.shop.models import Article, CheapProduct, Hidden, Pizzeria
from tests.unwatched.models import Continent


def test_a_queryset(each_vendor: Pair) -> None:
    Article.objects.bulk_create([Article(title=f"{number}") for number in range(5)])
    articles = Article.objects.order_by("-title")[1:4]

    assert touch(articles) == 3

    assert sorted(logged()) == sorted(("article", str(each.pk), "CHANGE") for each in articles)


def test_an_object(pair: Pair) -> None:
    article = factories.article()
    forget()

    assert touch(article) == 1

    assert logged() == [("article", str(article.pk), "CHANGE")]


def test_objects_of_several_models(pair: Pair) -> None:
    article, seat, product = factories.article(), factories.seat(row="A", number=1), factories.product()
    forget()

    assert touch([article, seat, CheapProduct.objects.get()]) == 3

    assert sorted(logged()) == sorted(
        [
            ("article", str(article.pk), "CHANGE"),
            ("product", str(product.pk), "CHANGE"),
            ("seat", '["A", "1"]', "CHANGE"),
        ]
    )


def test_a_generator(pair: Pair) -> None:
    articles = [factories.article() for _ in range(3)]
    forget()

    assert touch(each for each in articles) == 3

    assert logged() == [("article", str(each.pk), "CHANGE") for each in articles]


def test_every_level_of_a_child(pair: Pair) -> None:
    pk = str(factories.pizzeria().pk)
    forget()

    assert touch(Pizzeria.objects.all()) == 1

    assert sorted(logged()) == [("pizzeria", pk, "CHANGE"), ("place", pk, "CHANGE"), ("restaurant", pk, "CHANGE")]


def test_a_proxy(pair: Pair) -> None:
    product = factories.product()
    forget()

    touch(CheapProduct.objects.all())

    assert logged() == [("product", str(product.pk), "CHANGE")]


def test_hidden_rows_can_be_touched(pair: Pair) -> None:
    hidden = factories.make(Hidden, name="h", visible=False)
    forget()

    touch(Hidden.everything.all())

    assert logged() == [("hidden", str(hidden.pk), "CHANGE")]


def test_nothing(pair: Pair) -> None:
    assert touch(Article.objects.none()) == 0
    assert touch([]) == 0
    assert touch(Article.objects.all()) == 0

    assert logged() == []


def test_2500_objects_cost_a_few_inserts(pair: Pair) -> None:
    Article.objects.bulk_create([Article(title=f"{number}") for number in range(2500)])

    with queries(pair.local) as sent:
        assert touch(Article.objects.all()) == 2500

    statements = [each for each in kinds(sent) if each == "INSERT synchro_changelog"]
    assert len(statements) == 3
    assert len(sent) <= 5
    assert len({pk for _, pk, _ in logged()}) == 2500


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            lambda: factories.make(Continent, name="c"),
            r"unwatched\.Continent is not watched\. Add it to SYNCHRO_MODELS",
        ),
        (lambda: Continent.objects.all(), r"unwatched\.Continent is not watched"),
        (lambda: Article(title="never saved"), r"touch\(\) logs objects of LOCAL .*; this shop\.Article is of None"),
    ],
)
def test_what_cannot_be_touched(sqlite_pair: Pair, objects: Callable[[], Any], message: str) -> None:
    factories.make(Continent, name="there is one")
    with pytest.raises(SynchroError, match=message):
        touch(objects())

    assert logged() == []


def test_objects_of_remote_cannot_be_touched(pair: Pair) -> None:
    article = factories.article(using=pair.remote)

    with pytest.raises(SynchroError, match=f"this shop.Article is of '{pair.remote}'"):
        touch(article)
    with pytest.raises(SynchroError, match=f"this queryset reads '{pair.remote}'"):
        touch(Article.objects.using(pair.remote))

    assert logged() == []


def test_an_unwatched_model_is_refused_also_where_there_is_none(sqlite_pair: Pair) -> None:
    with pytest.raises(SynchroError, match="is not watched"):
        touch(Continent.objects.none())


def test_a_queryset_of_values_is_refused(sqlite_pair: Pair) -> None:
    factories.article()
    forget()

    touch(Article.objects.values("title"))

    assert [model for model, _, _ in logged()] == ["article"]
