"""What a vendor cannot keep, or would change without a word: one failed entry that names field and reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

import pytest
from django.db import connections
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange, NumericRange
from django.test import override_settings

from synchro import engine
from synchro.engine import compare_object, values
from synchro.models import Attempt, ChangeLog
from tests import factories
from tests.arrays.models import Mapped, PostgresOnly, Spanned
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote, counterpart
from tests.comparing import assert_agree, full
from tests.databases import Pair, prepare
from tests.roads import sync
from tests.values.models import Colour, Custom, Everything
from tests.vendors import marks, only_on

TYPE = "the value is of another type than the field."
RANGE = "the number is out of the range of REMOTE's column."
NUL = "PostgreSQL keeps no NUL characters."
DIGITS = "SQLite keeps 15 digits of a decimal."
YEARS = "REMOTE keeps no duration of that many years."
FINITE = "MariaDB and MySQL keep neither NaN nor infinity."
NAN = "REMOTE keeps neither NaN nor infinity in a decimal."
SURROGATE = "PostgreSQL keeps no half of a pair of surrogates."
WHOLE = "PostgreSQL makes a whole number of this floating point number in JSON."
LONG = "the text is longer than 200 characters."
ZONE = "REMOTE's time zone does not have this moment, or has it twice."

#: As many digits as the field takes. LOCAL cannot be SQLite here: Django itself does not read them there.
MOST = Decimal("99999999999999.999999")

#: From, to, field, value, reason; None where the value arrives.
REFUSED: list[tuple[str, str, str, Any, str | None]] = [
    ("sqlite", "postgres", "text", "a\0b", NUL),
    ("mariadb", "postgres", "text", "a\0b", NUL),
    ("sqlite", "postgres", "file", "a\0b", NUL),
    ("sqlite", "postgres", "char", "x" * 201, LONG),
    ("sqlite", "postgres", "char", "x" * 200 + " ", LONG),
    ("sqlite", "mariadb", "char", "x" * 200 + " ", LONG),
    ("sqlite", "postgres", "integer", 2**31, RANGE),
    ("sqlite", "mariadb", "small_integer", -(2**15) - 1, RANGE),
    ("mariadb", "postgres", "positive_integer", 2**32 - 1, RANGE),
    ("mariadb", "sqlite", "positive_big_integer", 2**64 - 1, RANGE),
    ("mariadb", "postgres", "positive_big_integer", 2**64 - 1, RANGE),
    ("postgres", "sqlite", "float", math.nan, "SQLite does not keep NaN."),
    ("postgres", "mariadb", "float", math.nan, FINITE),
    ("sqlite", "mariadb", "float", -math.inf, FINITE),
    ("postgres", "sqlite", "decimal", Decimal("1234567890.123456"), DIGITS),
    ("mariadb", "postgres", "decimal", MOST, None),
    ("postgres", "mariadb", "decimal", -MOST, None),
    ("postgres", "sqlite", "decimal", MOST, DIGITS),
    ("mariadb", "sqlite", "decimal", -MOST, DIGITS),
    ("mariadb", "sqlite", "decimal", Decimal("12345678901234.5"), None),
    ("mariadb", "sqlite", "decimal", Decimal("12345678901234.56"), DIGITS),
    ("postgres", "sqlite", "duration", timedelta.max, YEARS),
    ("postgres", "mariadb", "duration", timedelta.min, YEARS),
    ("sqlite", "postgres", "json", {"a": ["\ud800"]}, SURROGATE),
    ("sqlite", "postgres", "json_encoded", {"\ud800": 1}, SURROGATE),
    ("sqlite", "postgres", "json", ["\0"], NUL),
    ("sqlite", "postgres", "json", 1e23, WHOLE),
    ("mariadb", "postgres", "json", {"a": 1.79e308}, WHOLE),
]


def _pair(local: str, remote: str) -> Pair:
    pair = Pair(f"{local}_a", f"{remote}_b")
    prepare(pair.local)
    prepare(pair.remote)
    return pair


def refused() -> str:
    """Synchronize and return why the only object failed."""
    (failure,) = engine.sync_pending().failures
    attempt = Attempt.objects.latest("pk")
    assert (attempt.error, attempt.message) == ("ValueDoesNotCross", failure.error)
    assert ChangeLog.objects.pending().get().reason == failure.error
    return failure.error


@pytest.mark.parametrize(
    ("local", "remote", "name", "value", "reason"),
    [pytest.param(*each, marks=marks(*each[:2]), id="-".join(each[:3])) for each in REFUSED],
)
def test_what_does_not_cross(
    unblocked: None, local: str, remote: str, name: str, value: Any, reason: str | None
) -> None:
    with _pair(local, remote).active():
        everything = factories.make(Everything, **{name: value})
        good = factories.make(Everything, integer=1)
        if reason is None:
            sync()
            assert_same_on_remote(everything)
            assert getattr(counterpart(everything), name) == value
        else:
            assert refused() == f"{name}: {reason}"
            assert Everything.objects.using(f"{remote}_b").count() == 1
        assert_same_on_remote(good)


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("integer", "1.5"),
        ("integer", "'many'"),
        ("float", "'much'"),
        ("char", "x'00ff'"),
    ],
)
@pytest.mark.parametrize(
    "remote",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def test_what_sqlite_keeps_in_a_column_of_another_type(unblocked: None, remote: str, name: str, sql: str) -> None:
    """An integer column may hold 1.5: Django would make 1 of it on the way."""
    with _pair("sqlite", remote).active():
        everything = factories.make(Everything)
        with connections["sqlite_a"].cursor() as cursor:
            cursor.execute(f'UPDATE values_everything SET "{name}" = {sql} WHERE id = {everything.pk}')

        assert refused() == f"{name}: {TYPE}"


@pytest.mark.parametrize(
    ("name", "sql", "error"),
    [
        ("decimal", "99999999999999.999999", "InvalidOperation"),
        ("uuid", "'many'", "ValueError"),
        ("date", "'2024-13-32'", "ValueError"),
    ],
)
def test_what_django_does_not_read_from_sqlite(sqlite_pair: Pair, name: str, sql: str, error: str) -> None:
    """Who saves so many digits cannot load the object any more; others are not kept back by it."""
    bad = factories.make(Everything)
    with connections[sqlite_pair.local].cursor() as cursor:
        cursor.execute(f'UPDATE values_everything SET "{name}" = {sql} WHERE id = {bad.pk}')
    for number in range(12):
        factories.make(Everything, integer=number)

    assert refused() == f"{name}: {error} is raised when it is read."
    assert Everything.objects.using(sqlite_pair.remote).count() == 12


@pytest.mark.parametrize(
    ("local", "remote"),
    [pytest.param(*each, marks=marks(*each)) for each in (("sqlite", "postgres"), ("postgres", "mariadb"))],
)
def test_an_address_that_vendors_write_down_in_two_ways(unblocked: None, local: str, remote: str) -> None:
    """PostgreSQL gives ::1.2.3.4 back where others keep ::102:304."""
    with _pair(local, remote).active():
        everything = factories.make(Everything, generic_ip="::1.2.3.4", text="ours")

        sync()

        ours, theirs = (str(each.generic_ip) for each in (Everything.objects.get(), counterpart(everything)))
        assert ours != theirs
        assert ip_address(ours) == ip_address(theirs)
        assert engine.compare_object(Everything, str(everything.pk)).differences == ()
        with override_settings(SYNCHRO_MODELS=[("values", "Everything")]):
            assert_agree()


def test_a_value_that_only_remote_s_driver_refuses_is_named_too(
    sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no check foresees is found by preparing the fields one by one."""

    def refuse(self: Any, value: Any) -> Any:
        if value == 13:
            raise OverflowError
        return value

    with monkeypatch.context() as patched:
        factories.make(Everything, small_integer=13)
        patched.setattr(type(Everything._meta.get_field("small_integer")), "get_prep_value", refuse)

        assert refused() == "small_integer: OverflowError is raised when it is prepared."


# MariaDB and MySQL


@contextmanager
def lax(alias: str) -> Iterator[None]:
    """Let the server cut and bend what does not fit, as servers did by default for long."""
    connection = connections[alias]
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    kept = {name: connection.__dict__.pop(name, None) for name in ("mysql_server_data", "sql_mode")}
    options["init_command"] = "SET SESSION sql_mode = ''"
    try:
        yield
    finally:
        del options["init_command"]
        connection.close()
        connection.__dict__.pop("mysql_server_data", None)
        connection.__dict__.update({name: value for name, value in kept.items() if value is not None})


@pytest.mark.mariadb
def test_a_server_that_is_not_strict(unblocked: None) -> None:
    """It would cut the text to 200 characters: the engine's own session is strict."""
    with _pair("mariadb", "mariadb").active() as pair:
        for alias in (pair.local, pair.remote):
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    f"ALTER TABLE values_everything MODIFY `char` varchar({300 if alias == pair.local else 200})"
                )
        factories.make(Everything, char="x" * 201)
        try:
            with lax(pair.remote):
                assert "STRICT" not in connections[pair.remote].sql_mode  # type: ignore[attr-defined]
                (failure,) = engine.sync_pending().failures
        finally:
            with connections[pair.local].cursor() as cursor:
                cursor.execute("DELETE FROM values_everything")
                cursor.execute("ALTER TABLE values_everything MODIFY `char` varchar(200)")

        assert failure.error == "char: the text is longer than 200 characters."
        assert Everything.objects.using(pair.remote).count() == 0


@pytest.mark.mariadb
@pytest.mark.parametrize("digits", [0, 3])
def test_columns_without_microseconds(unblocked: None, digits: int) -> None:
    """Columns from before Django 1.8 cut the fraction without a word."""
    with _pair("sqlite", "mariadb").active() as pair:
        exact = factories.make(Everything, datetime=datetime(2024, 1, 1, tzinfo=UTC), time=time(1, 2, 3))
        sql = "ALTER TABLE values_everything MODIFY `datetime` datetime({0}), MODIFY `time` time({0})"
        with connections[pair.remote].cursor() as cursor:
            cursor.execute(sql.format(digits))
        values._precisions.cache_clear()
        try:
            sync()
            assert_same_on_remote(exact)
            factories.make(Everything, time=time(1, 2, 3, 4))
            assert refused() == f"time: REMOTE's column keeps {digits} digits of a second."
        finally:
            values._precisions.cache_clear()
            with connections[pair.remote].cursor() as cursor:
                cursor.execute(sql.format(6))


@pytest.mark.mariadb
def test_emoji_in_a_column_of_three_bytes(unblocked: None) -> None:
    with _pair("sqlite", "mariadb").active() as pair:
        with connections[pair.remote].cursor() as cursor:
            cursor.execute("ALTER TABLE values_everything MODIFY `text` longtext CHARACTER SET utf8mb3")
        factories.make(Everything, text="🐘")
        try:
            (failure,) = engine.sync_pending().failures
        finally:
            with connections[pair.remote].cursor() as cursor:
                cursor.execute("ALTER TABLE values_everything MODIFY `text` longtext CHARACTER SET utf8mb4")

        assert "`text`" in failure.error
        assert "🐘" not in failure.error


# Time zones


@contextmanager
def time_zone(alias: str, name: str | None, **settings: Any) -> Iterator[None]:
    """Let a database keep its moments in a zone of its own."""
    connection = connections[alias]
    kept = connection.settings_dict["TIME_ZONE"]

    def choose(zone: str | None) -> None:
        connection.close()
        connection.settings_dict["TIME_ZONE"] = zone
        for cached in ("timezone", "timezone_name"):
            connection.__dict__.pop(cached, None)

    with override_settings(**settings):
        choose(name)
        try:
            yield
        finally:
            choose(kept)


MOMENTS = [
    datetime(2024, 7, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    # The first of two hours that are told alike in New York, and on Lord Howe Island.
    datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
    datetime(2024, 4, 6, 14, 45, tzinfo=UTC),
]


@pytest.mark.parametrize(
    ("local", "remote"),
    [(None, "America/New_York"), (None, "Australia/Lord_Howe"), ("Asia/Kolkata", None), ("Asia/Kolkata", "Asia/Tokyo")],
)
def test_databases_that_keep_moments_in_a_zone_of_their_own(
    every_pair: Pair, local: str | None, remote: str | None
) -> None:
    """The project's own zone has no part in it."""
    with (
        time_zone(every_pair.local, local, TIME_ZONE="Pacific/Chatham"),
        time_zone(every_pair.remote, remote, TIME_ZONE="Pacific/Chatham"),
    ):
        made = [factories.make(Everything, datetime=each) for each in MOMENTS]

        sync()

        for each, moment in zip(made, MOMENTS, strict=True):
            assert_same_on_remote(each)
            assert counterpart(each).datetime.astimezone(UTC) == moment
            assert compare_object(Everything, str(each.pk)).differences == ()
        assert_agree()


@pytest.mark.postgres
@pytest.mark.parametrize("zones", [("Europe/Berlin", "Europe/Berlin"), ("Europe/Berlin", "America/New_York")])
def test_two_moments_of_a_repeated_hour_are_not_the_same(postgres_pair: Pair, zones: tuple[str, str]) -> None:
    """PostgreSQL keeps both, and Python does not tell them apart where it is half past two in Berlin at both."""
    with time_zone(postgres_pair.local, zones[0]), time_zone(postgres_pair.remote, zones[1]):
        first = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
        everything = factories.make(Everything, datetime=first)
        sync()
        assert_agree()
        Everything.objects.update(datetime=first + timedelta(hours=1))

        (difference,) = compare_object(Everything, str(everything.pk)).differences
        tallies, _ = full()

        assert difference.field == "datetime"
        assert tallies["Everything"].different == tallies["Everything"].repaired == 1
        assert_same_on_remote(everything)
        assert counterpart(everything).datetime.astimezone(UTC) == first + timedelta(hours=1)


@only_on("sqlite", "mariadb")
@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 10, 27, 1, 30, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 30, tzinfo=UTC),
    ],
    ids=["twice", "too late"],
)
def test_a_moment_that_a_zone_does_not_have_or_has_twice(each_vendor: Pair, moment: datetime) -> None:
    """02:30 in Berlin on that day is 00:30 and 01:30 in UTC; the column does not tell which."""
    with time_zone(each_vendor.remote, "Europe/Berlin"):
        factories.make(Everything, datetime=moment)
        first_of_two = factories.make(Everything, datetime=datetime(2024, 10, 27, 0, 30, tzinfo=UTC))

        assert refused() == f"datetime: {ZONE}"
        assert_same_on_remote(first_of_two)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
def test_without_time_zones(every_pair: Pair, zone: str) -> None:
    with (
        time_zone(every_pair.local, None, USE_TZ=False, TIME_ZONE=zone),
        time_zone(every_pair.remote, None, USE_TZ=False, TIME_ZONE=zone),
    ):
        moments = [datetime(2024, 7, 1, 12, 0, 0, 1), datetime(2024, 10, 27, 2, 30), datetime(1900, 1, 1)]
        made = [factories.make(Everything, datetime=each) for each in moments]

        sync()

        for each in made:
            assert_same_on_remote(each)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_without_time_zones_the_newest_wins(each_vendor: Pair, zone: str) -> None:
    """The logs say when in the project's own time, and both are read alike."""
    with (
        time_zone(each_vendor.local, None, USE_TZ=False, TIME_ZONE=zone),
        time_zone(each_vendor.remote, None, USE_TZ=False, TIME_ZONE=zone),
    ):
        ours, theirs = (factories.make(Everything, text="first") for _ in range(2))
        sync()
        copies = counterpart(ours), counterpart(theirs)
        _save_with_text(each_vendor, theirs, "older")
        for each in copies:
            _save_with_text(each_vendor.reversed, each, "newer there")
        _save_with_text(each_vendor, ours, "newest")

        report = sync()

        assert (report.synced, report.skipped) == (1, 1)
        assert (counterpart(ours).text, counterpart(theirs).text) == ("newest", "newer there")
        moment = ChangeLog.objects.using(each_vendor.remote).latest("pk").date
        lost = ChangeLog.objects.get(state=ChangeLog.State.SKIPPED)
        assert lost.reason == f"REMOTE changed the object later, at {moment.isoformat()}. Lost here: text."


def _save_with_text(pair: Pair, everything: Everything, text: str) -> None:
    """Save as the project does that has the pair's first database as its LOCAL."""
    with pair.active():
        everything.text = text
        everything.save(using=pair.local)


@pytest.mark.postgres
def test_without_time_zones_an_hour_that_is_left_out(unblocked: None) -> None:
    """02:30 did not exist on that day in Berlin; PostgreSQL would make 03:30 of it."""
    with (
        _pair("sqlite", "postgres").active() as pair,
        time_zone(pair.local, None, USE_TZ=False, TIME_ZONE="Europe/Berlin"),
        time_zone(pair.remote, None, USE_TZ=False, TIME_ZONE="Europe/Berlin"),
    ):
        factories.make(Everything, datetime=datetime(2024, 3, 31, 2, 30))

        assert refused() == f"datetime: {ZONE}"


# Fields that are not everybody's

POSTGRES_VALUES: list[dict[str, Any]] = [
    {"numbers": [], "words": [["a", "b"], ["'", '{},"']]},
    {
        "numbers": [1, -2, 2**31 - 1],
        "span": NumericRange(1, 5),
        "prices": NumericRange(Decimal("1.5"), None),
    },
    {"span": NumericRange(empty=True), "times": DateTimeTZRange(datetime(2024, 1, 1, tzinfo=UTC), None, "[)")},
    {},
]


@override_settings(SYNCHRO_MODELS=["arrays"])
@pytest.mark.parametrize("number", [1, 5], ids=["one", "many"])
def test_fields_of_postgresql_between_two_of_them(postgres_pair: Pair, number: int) -> None:
    made = [factories.make(PostgresOnly, **each) for each in POSTGRES_VALUES * number]
    sync()
    for each, expected in zip(made, POSTGRES_VALUES * number, strict=True):
        copy = counterpart(each)
        assert {name: getattr(copy, name) for name in expected} == expected
    assert_agree("arrays.PostgresOnly")
    for each in made:
        each.numbers = [7]
        each.save()

    sync()

    assert set(PostgresOnly.objects.using(postgres_pair.remote).values_list("numbers__0", flat=True)) == {7}
    assert_nothing_pending()


def skip_without_table(model: Any, using: str) -> None:
    """Skip a test of hstore on a server whose installation lacks the extension: it could be added by nobody."""
    if model._meta.db_table not in connections[using].introspection.table_names():
        pytest.skip("This PostgreSQL server was installed without the extension hstore (contrib modules).")


@override_settings(SYNCHRO_MODELS=["arrays"])
def test_hstore_between_two_postgresqls(postgres_pair: Pair) -> None:
    skip_without_table(Mapped, postgres_pair.remote)
    made = [factories.make(Mapped, pairs=pairs) for pairs in ({"a": "1", "b": None, "ü": ""}, {}, None)]

    sync()

    assert [counterpart(each).pairs for each in made] == [each.pairs for each in made]


@override_settings(SYNCHRO_MODELS=["arrays"])
@pytest.mark.postgres
@pytest.mark.parametrize("remote", ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        pytest.param(PostgresOnly, "numbers", [5], id="array"),
        pytest.param(Spanned, "span", NumericRange(1, 5), id="range"),
        pytest.param(Spanned, "span", None, id="no range"),
        pytest.param(Mapped, "pairs", {"a": "1"}, id="hstore"),
    ],
)
def test_fields_of_postgresql_elsewhere_are_a_clear_failure(
    unblocked: None, remote: str, model: Any, name: str, value: Any
) -> None:
    """Also an array of one number, which MariaDB's driver would write as that number."""
    with _pair("postgres", remote).active() as pair:
        skip_without_table(model, pair.local)
        connection = connections[pair.remote]
        columns = ", ".join(connection.ops.quote_name(str(field.column)) + " text" for field in model._meta.fields[1:])
        serial = "integer PRIMARY KEY" if remote == "sqlite" else "bigint AUTO_INCREMENT PRIMARY KEY"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {model._meta.db_table} (id {serial}, {columns})")
        try:
            factories.make(model, **{name: value})
            assert refused() == f"{name}: only PostgreSQL has fields of this kind."
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE {model._meta.db_table}")


@pytest.mark.parametrize("number", [1, 6], ids=["one", "many"])
def test_fields_of_third_parties(every_pair: Pair, number: int) -> None:
    made = []
    for _ in range(number):
        made += [
            factories.make(Custom, colour=Colour(255, 0, 1), word="abc é"),
            factories.make(Custom, colour=Colour(0, 0, 0), word=""),
            factories.make(Custom),
        ]

    sync()

    for each in made:
        assert_same_on_remote(each)
        assert counterpart(each).colour == each.colour
    assert_in_step(Custom)
