"""Primary keys as text, natural keys as JSON."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Model

from synchro.exceptions import BadObjectId
from synchro.keys import natural_key_to_json, pk_from_text, pk_to_text
from tests.shop.models import Article, Currency, Locker, Parcel, Passport, Pizzeria, Seat, Tag

ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("model", "pk", "text"),
    [
        (Article, 5, "5"),
        (Article, 2**63 - 1, "9223372036854775807"),
        (Locker, -3, "-3"),
        (Tag, "a b/c'\"%|é\U0001f600", "a b/c'\"%|é\U0001f600"),
        (Tag, "", ""),
        (Tag, "None", "None"),
        (Currency, "EUR", "EUR"),
        (Parcel, ID, "12345678-1234-5678-1234-567812345678"),
        (Seat, ("A", 5), '["A", "5"]'),
        (Seat, ('",[', -1), '["\\",[", "-1"]'),
        (Pizzeria, 7, "7"),
        (Passport, 8, "8"),
    ],
)
def test_there_and_back(model: type[Model], pk: Any, text: str) -> None:
    assert pk_to_text(model, pk) == text
    assert pk_from_text(model, text) == pk
    assert type(pk_from_text(model, text)) is type(pk)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Article, ""),
        (Article, "x"),
        (Article, "1.5"),
        (Article, "None"),
        (Article, "[1]"),
        (Parcel, "5"),
        (Parcel, ""),
        (Pizzeria, "x"),
        (Seat, "A"),
        (Seat, "5"),
        (Seat, "null"),
        (Seat, "{}"),
        (Seat, '["A"]'),
        (Seat, '["A", "5", "6"]'),
        (Seat, '["A", "x"]'),
        (Seat, '["A", null]'),
    ],
)
def test_text_that_is_no_pk(model: type[Model], text: str) -> None:
    with pytest.raises(BadObjectId, match=f"is no primary key of {model._meta.label}"):
        pk_from_text(model, text)


def test_a_natural_key_becomes_json() -> None:
    values = (
        "text",
        5,
        1.5,
        True,
        None,
        Decimal("1.50"),
        ID,
        date(2024, 2, 29),
        time(1, 2, 3, 4),
        datetime(2024, 2, 29, 1, 2, 3, 123456, tzinfo=UTC),
        timedelta(days=1, microseconds=7),
        ("nested", (ID,)),
    )

    assert json.loads(json.dumps(natural_key_to_json(values))) == [
        "text",
        5,
        1.5,
        True,
        None,
        "1.50",
        str(ID),
        "2024-02-29",
        "01:02:03.000004",
        "2024-02-29T01:02:03.123456+00:00",
        "P1DT00H00M00.000007S",
        ["nested", [str(ID)]],
    ]


def test_a_wrong_text_of_any_length_is_told_in_a_short_sentence() -> None:
    with pytest.raises(BadObjectId) as caught:
        pk_from_text(Article, "9" * 100_000)

    assert len(str(caught.value)) < 200
