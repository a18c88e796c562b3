"""Values arrive exactly between all pairs of vendors: not restamped, rounded, cut or taken for something else."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.db.models import F, JSONField, Value

from synchro import engine, touch
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote, comparable, counterpart
from tests.databases import Pair
from tests.roads import sync
from tests.shop.models import Legacy, Loud, Square, Stamped, Unmanaged, Worded
from tests.values.models import BigAuto, Everything, Filled, SmallAuto

TEXTS = [
    "",
    " ",
    " padded ",
    "tab\tnew\nline\r\n",
    "ü ß é 漢字 🐘",
    "'\"`\\%s%%{}",
    "<b>&amp;</b>",
    "NULL",
    "a\u0301",
    "\x01\x7f",
]

#: Values of each column, the extreme ones that all vendors can hold among them.
VALUES: dict[str, list[Any]] = {
    "big_integer": [0, -(2**63), 2**63 - 1],
    "binary": [b"", b"\x00", bytes(range(256)), b"'\\%s"],
    "boolean": [True, False],
    "char": [*TEXTS, "x" * 200],
    "date": [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)],
    "datetime": [
        datetime(2024, 2, 29, 23, 59, 59, 1, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "decimal": [Decimal("0"), Decimal("-0.000001"), Decimal("123456.789012"), Decimal("99999999.999999")],
    "duration": [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(days=-1, microseconds=5),
        timedelta(days=30, hours=5),
    ],
    "email": ["a@example.com"],
    "file": ["files/a b.txt", "../x"],
    "file_path": ["./a"],
    "float": [0.0, -0.5, 1.1, 1e300, 5e-300, 0.1 + 0.2],
    "generic_ip": ["192.0.2.1", "2001:db8::1"],
    "integer": [0, -(2**31), 2**31 - 1],
    "json": [
        {},
        [],
        0,
        "",
        False,
        "text",
        {"b": [1, 2.5, None, True, {"ü": "🐘"}], "a": "'\"\\"},
        [[], {}],
        2**53,
        "null",
    ],
    "json_encoded": [{"day": "2024-02-29"}],
    "long_file": ["f" * 255],
    "positive_big_integer": [0, 2**63 - 1],
    "positive_integer": [0, 2**31 - 1],
    "positive_small_integer": [0, 32767],
    "slug": ["a-b_c"],
    "small_integer": [-32768, 32767],
    "text": [*TEXTS, "long " * 20_000],
    "time": [time(0), time(23, 59, 59, 999999), time(12, 0, 0, 1)],
    "url": ["https://example.com/?a=b&c=%20"],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("9d2c2f1a-0000-4000-8000-00000000cafe")],
}


def save_all_values() -> dict[int, dict[str, Any]]:
    """Save an object for the first value of each column, for the second, and so on; return what was saved by pk."""
    saved = {}
    for index in range(max(map(len, VALUES.values()))):
        values = {name: choices[index] for name, choices in VALUES.items() if index < len(choices)}
        saved[factories.make(Everything, **values).pk] = values
    return saved


def test_all_columns_are_tried() -> None:
    assert set(VALUES) == {field.name for field in Everything._meta.concrete_fields} - {"id"}


def test_every_value_of_every_column(every_pair: Pair) -> None:
    """New copies, changed copies, and copies whose values become NULL."""
    saved = save_all_values()
    factories.make(Everything)

    sync()

    for pk, values in saved.items():
        copy = counterpart(Everything(pk=pk))
        for name, value in values.items():
            assert comparable(getattr(copy, name)) == comparable(_as_read(name, value)), name
    assert_in_step(Everything)
    for each in Everything.objects.all():
        for name, choices in VALUES.items():
            setattr(each, name, None if each.pk in saved else choices[-1])
        each.save()
    sync()
    assert_in_step(Everything)


def _as_read(name: str, value: Any) -> Any:
    """Return a saved value as the database gives it back."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Decimal):
        return value.quantize(Decimal("0.000001"))
    return Everything(**{name: value}).__getattribute__(name)


def test_empty_values_and_defaults(every_pair: Pair) -> None:
    factories.make(Filled)
    factories.make(Filled, json=[], binary=b"\x00", char=" ", duration=timedelta(days=-1))

    sync()

    assert_in_step(Filled)


@pytest.mark.parametrize("number", [1, 10], ids=["one", "many"])
def test_null_json_is_not_a_missing_value(every_pair: Pair, number: int) -> None:
    """JSON's null and SQL's NULL are both None in Python; queries tell them apart."""
    json_null = Value(None, JSONField())
    for _ in range(number):
        factories.make(Everything, json=None, integer=1)
        factories.make(Everything, json=json_null, integer=2)
        factories.make(Filled, json=json_null)
    sync()
    missing = Everything.objects.using(every_pair.remote).filter(json__isnull=True)
    assert list(missing.values_list("integer", flat=True)) == [1] * number
    assert Filled.objects.using(every_pair.remote).filter(json__isnull=True).count() == 0
    Everything.objects.filter(integer=1).update(json=json_null)
    Everything.objects.filter(integer=2).update(json=None)
    touch(Everything.objects.all())

    sync()

    assert list(missing.values_list("integer", flat=True)) == [2] * number
    assert_in_step(Everything, Filled)


def test_moments_are_not_restamped(every_pair: Pair) -> None:
    stamped = factories.make(Stamped, name="a")
    past = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    Stamped.objects.update(made=past, changed=past, made_on=past.date(), changed_at=past.time())
    sync()
    assert_same_on_remote(stamped)
    copy = counterpart(stamped)
    assert (copy.made, copy.changed, copy.made_on, copy.changed_at) == (past, past, past.date(), past.time())
    stamped.refresh_from_db()
    stamped.name = "b"
    stamped.save()

    sync()

    assert_same_on_remote(stamped)
    assert counterpart(stamped).made == past


def test_columns_that_the_database_fills(every_pair: Pair) -> None:
    square = factories.make(Square, side=3)
    other = factories.make(Square, side=4, colour="red", drawn=factories.moment())
    sync()
    for each, area, colour in ((square, 9, "grey"), (other, 16, "red")):
        assert_same_on_remote(each)
        assert (counterpart(each).area, counterpart(each).colour) == (area, colour)
    square.refresh_from_db()
    square.side = 5
    square.save()

    sync()

    assert_same_on_remote(square)
    assert counterpart(square).area == 25


def test_tables_and_columns_with_odd_names(every_pair: Pair) -> None:
    made = [
        factories.make(Legacy, name="a"),
        factories.make(Worded, select="a", order=1, group="b"),
        factories.make(Unmanaged, name="c"),
        factories.make(SmallAuto, name="d"),
        factories.make(BigAuto, name="e"),
    ]
    sync()
    for each in made:
        each.save()

    sync()

    for each in made:
        assert_same_on_remote(each)
    assert_in_step(Legacy, Worded, Unmanaged, SmallAuto, BigAuto)


def test_save_is_not_called_on_remote(pair: Pair) -> None:
    loud = factories.make(Loud, text="Hello")

    sync()

    assert_same_on_remote(loud)
    assert counterpart(loud).text == "Hello!"


def test_a_value_that_python_never_saw(pair: Pair) -> None:
    """The copy is of the row, not of what a process believed to save."""
    everything = factories.make(Everything, integer=1)
    Everything.objects.filter(pk=everything.pk).update(integer=F("integer") + 1)
    everything.save(update_fields=["text"])

    sync()

    assert counterpart(everything).integer == 2


def test_a_value_that_does_not_fit_fails_alone(postgres_pair: Pair) -> None:
    """SQLite keeps text that is too long; PostgreSQL refuses it."""
    good = factories.make(Everything, char="good")
    with connections[postgres_pair.local].cursor() as cursor:
        cursor.execute("ALTER TABLE values_everything ALTER COLUMN char TYPE varchar(300)")
    try:
        bad = factories.make(Everything, char="x" * 201)
        (failure,) = engine.sync_pending().failures
        bad.delete()
    finally:
        with connections[postgres_pair.local].cursor() as cursor:
            cursor.execute("ALTER TABLE values_everything ALTER COLUMN char TYPE varchar(200)")

    assert failure.error == "char: the text is longer than 200 characters."
    assert_same_on_remote(good)
