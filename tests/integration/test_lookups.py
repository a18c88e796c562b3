"""Conditions for large sets of values."""

from __future__ import annotations

import pytest

from synchro.lookups import pk_among
from tests import factories
from tests.databases import Pair
from tests.shop.models import Article, Tag

WORDS = ["plain", 'quo"te', "back\\slash", "com,ma", "{brace}", "NULL", "", " space ", "it's", "%s", "\\N", "ä"]


def test_any_text_is_found(pair: Pair) -> None:
    for word in [*WORDS, "other"]:
        factories.tag(slug=word)

    assert set(Tag.objects.filter(pk_among(Tag, WORDS)).values_list("pk", flat=True)) == set(WORDS)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_numbers(pair: Pair, count: int) -> None:
    pks = [factories.article().pk for _ in range(count)]
    factories.article()

    assert list(Article.objects.filter(pk_among(Article, pks)).order_by("pk").values_list("pk", flat=True)) == pks
