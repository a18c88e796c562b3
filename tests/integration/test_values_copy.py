"""Values arrive exactly between all pairs of vendors: not restamped, rounded, cut or taken for something else."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import connections
from django.db.models import F, JSONField, Value
from django.db.models.signals import post_delete, post_save
from django.test import override_settings

from synchro import engine, touch
from tests import factories
from tests.assertions import assert_in_step, assert_same_on_remote, comparable, counterpart
from tests.databases import Pair
from tests.roads import Road, by_tasks, in_one_run, sync
from tests.shop.models import Legacy, Loud, Square, Stamped, Unmanaged, Worded
from tests.unwatched.models import Computed
from tests.values.models import BigAuto, Custom, Everything, Filled, SmallAuto
from tests.vendors import only_on

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
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 1, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "decimal": [Decimal("0"), Decimal("-0.000001"), Decimal("123456.789012"), Decimal("-999999999.999999")],
    "duration": [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(days=-1, microseconds=5),
        timedelta(days=30, hours=5),
        timedelta(microseconds=-(2**63)),
        timedelta(microseconds=2**63 - 1),
    ],
    "email": ["a@example.com", f"{'ü' * 242}@example.com"],
    "file": ["files/a b.txt", "../x", "f" * 100],
    "file_path": ["./a", "p" * 100],
    "float": [0.0, -0.0, -0.5, 1.1, 0.1 + 0.2, 1.79e308, -sys.float_info.max, sys.float_info.min, 5e-324],
    "generic_ip": ["192.0.2.1", "2001:db8::1", "::", "::ffff:1.2.3.4", f"{'ffff:' * 7}ffff", "0.0.0.0"],
    "integer": [0, -(2**31), 2**31 - 1],
    "ipv4": ["0.0.0.0", "255.255.255.255"],
    "ipv4_unpacked": ["::ffff:1.2.3.4", "::"],
    "ipv6": ["::", "::1", "::ffff:1.2.3.4"],
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
        10**30,
        5e-324,
        "null",
    ],
    "json_encoded": [{"day": "2024-02-29"}],
    "long_file": ["f" * 255],
    "positive_big_integer": [0, 2**63 - 1],
    "positive_integer": [0, 2**31 - 1],
    "positive_small_integer": [0, 32767],
    "slug": ["a-b_c", "s" * 50],
    "small_integer": [-32768, 32767],
    "text": [*TEXTS, "long " * 20_000],
    "time": [time(0), time(23, 59, 59, 999999), time(12, 0, 0, 1)],
    "url": ["https://example.com/?a=b&c=%20", f"https://example.com/{'u' * 180}"],
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


@pytest.mark.parametrize("bring", [in_one_run, by_tasks])
def test_every_value_of_every_column(every_pair: Pair, bring: Road) -> None:
    """New copies, changed copies, and copies whose values become NULL.

    PostgreSQL gets the many rows of one run by COPY, and the one of a task by INSERT.
    """
    saved = save_all_values()
    factories.make(Everything)
    assert len(saved) > 10

    bring()

    for pk, values in saved.items():
        copy = counterpart(Everything(pk=pk))
        for name, value in values.items():
            assert comparable(getattr(copy, name)) == comparable(_as_read(name, value)), name
    assert_in_step(Everything)
    for each in Everything.objects.all():
        for name, choices in VALUES.items():
            setattr(each, name, None if each.pk in saved else choices[-1])
        each.save()
    bring()
    assert_in_step(Everything)


def _as_read(name: str, value: Any) -> Any:
    """Return a saved value as the database gives it back."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Decimal):
        return value.quantize(Decimal("0.000001"))
    if isinstance(value, float) and name == "float":
        return value + 0.0  # what is sent to a database is written as a number of SQL, in which -0.0 is 0.0
    if name == "ipv4_unpacked":
        return value.removeprefix("::ffff:")
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


@pytest.mark.parametrize(("number", "bring"), [(6, in_one_run), (1, by_tasks)], ids=["many", "tasks"])
def test_columns_that_the_database_fills(every_pair: Pair, number: int, bring: Road) -> None:
    squares = [factories.make(Square, side=3) for _ in range(number)]
    others = [factories.make(Square, side=4, colour="red", drawn=factories.moment()) for _ in range(number)]
    bring()
    assert_in_step(Square)
    for each, expected in ((squares[-1], (9, "grey")), (others[-1], (16, "red"))):
        assert (counterpart(each).area, counterpart(each).colour) == expected
    for each in (*squares, *others):
        each.refresh_from_db()
        each.side += 2
        each.save()

    bring()

    assert_in_step(Square)
    assert set(Square.objects.using(every_pair.remote).values_list("area", flat=True)) == {25, 36}


@only_on("sqlite", "mariadb")
@override_settings(SYNCHRO_MODELS=[("unwatched", "Computed")])
@pytest.mark.parametrize("bring", [in_one_run, by_tasks])
def test_a_column_that_is_computed_when_it_is_read(each_vendor: Pair, bring: Road) -> None:
    made = [factories.make(Computed, side=side) for side in range(12)]
    bring()
    assert_in_step(Computed)
    for each in made:
        each.side += 1
        each.save()

    bring()

    assert_in_step(Computed)
    assert counterpart(made[-1]).area == 144


@pytest.mark.parametrize(("number", "bring"), [(10, in_one_run), (1, by_tasks)], ids=["many", "tasks"])
def test_tables_and_columns_with_odd_names(every_pair: Pair, number: int, bring: Road) -> None:
    made: list[Any] = []
    for _ in range(number):
        made += [
            factories.make(Legacy, name="a"),
            factories.make(Worded, select="a", order=1, group="b"),
            factories.make(Unmanaged, name="c"),
            factories.make(SmallAuto, name="d"),
            factories.make(BigAuto, name="e"),
        ]
    bring()
    assert_in_step(Legacy, Worded, Unmanaged, SmallAuto, BigAuto)
    for each in made:
        setattr(each, "select" if isinstance(each, Worded) else "name", "changed")
        each.save()

    bring()

    assert_in_step(Legacy, Worded, Unmanaged, SmallAuto, BigAuto)


@pytest.mark.parametrize("listened", [False, True])
def test_files_stay_where_they_are(sqlite_pair: Pair, tmp_path: Path, listened: bool) -> None:
    """What is copied of a file is its path: nothing is written to the storage, read from it, or deleted."""

    def listen(**kwargs: Any) -> None:
        """Have objects written one by one."""

    with override_settings(MEDIA_ROOT=tmp_path):
        made = [factories.make(Everything, file=ContentFile(b"contents", name=f"{number}.txt")) for number in range(12)]
        custom = factories.make(Custom, picture=ContentFile(b"picture", name="picture.png"))
        paths = [Path(each.file.path) for each in made] + [Path(custom.picture.path)]
        before = _files_below(tmp_path)
        assert set(before) == set(paths)
        if listened:
            post_save.connect(listen, sender=Everything)
            post_delete.connect(listen, sender=Everything)
        try:
            with _no_access():
                sync()
                assert_in_step(Everything, Custom)
                assert counterpart(made[0]).file.name == "files/0.txt"
                made[0].file = "files/another.txt"
                made[1].file = None
                made[2].text = "changed"
                for each in made[:3]:
                    each.save()
                made[3].delete()
                custom.delete()
                sync()
                assert_in_step(Everything, Custom)
        finally:
            post_save.disconnect(listen, sender=Everything)
            post_delete.disconnect(listen, sender=Everything)
        assert _files_below(tmp_path) == before


def _files_below(directory: Path) -> dict[Path, tuple[bytes, int]]:
    return {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in directory.rglob("*") if each.is_file()}


@contextmanager
def _no_access() -> Iterator[None]:
    """Let the storage refuse everything that touches files."""
    refused = dict.fromkeys(
        ("_open", "_save", "delete", "exists", "size", "listdir"), mock.Mock(side_effect=AssertionError)
    )
    with mock.patch.multiple(FileSystemStorage, **refused):
        yield


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
