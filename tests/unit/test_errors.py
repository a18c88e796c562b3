"""Policy about errors, as tables: what passes by itself, how long to wait, and what may be told."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from synchro.engine.errors import (
    Kind,
    account,
    describe,
    is_contention,
    is_outage,
    is_refusal,
    is_transient,
    kind,
    pause,
)
from synchro.exceptions import (
    AmbiguousNaturalKey,
    BadObjectId,
    CounterpartTaken,
    HeldByRemoteRows,
    PermanentError,
    SynchroError,
    TransientError,
    WaitsForOther,
)


class ServerError(Exception):
    """What a driver raises: Django's exception has it as its cause."""

    def __init__(self, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def postgresql(sqlstate: str | None, kind: type[Exception] = OperationalError) -> Exception:
    return caused_by(kind("server closed s3cr3t"), ServerError(sqlstate))


def mysql(number: int, kind: type[Exception] = OperationalError, sqlstate: str | None = None) -> Exception:
    return caused_by(kind(number, "s3cr3t"), ServerError(sqlstate))


PASSES = [
    TransientError(),
    InterfaceError("connection already closed"),
    postgresql(None),  # no connection
    postgresql("08006"),
    postgresql("53300"),  # too many connections
    postgresql("53100"),  # disk full
    postgresql("57P01"),  # shutdown
    postgresql("57014"),  # statement timeout
    postgresql("55P03"),  # lock not available
    postgresql("40001"),
    postgresql("40P01"),
    postgresql("25006", InternalError),  # read only
    mysql(2002),
    mysql(2006),
    mysql(2013),
    mysql(1205, sqlstate="HY000"),
    mysql(1213, sqlstate="40001"),
    mysql(1040),
    mysql(1045),  # wrong password: it concerns all objects, and none of them is to blame
    mysql(1290),
    mysql(3024),
    OperationalError("anything that a driver says about its connection"),
]

STAYS = [
    SynchroError(),
    PermanentError(),
    AmbiguousNaturalKey(),
    BadObjectId(),
    CounterpartTaken(),
    HeldByRemoteRows(),
    WaitsForOther(),
    postgresql("23505", IntegrityError),
    postgresql("22001", DataError),
    postgresql("42P01", ProgrammingError),
    postgresql("42703", ProgrammingError),
    postgresql("54000"),  # an index row that is too large
    mysql(1062, IntegrityError),
    mysql(1406, DataError),
    mysql(1366),
    mysql(1054),
    mysql(1153, sqlstate="08S01"),  # a packet that is too large, which the SQLSTATE takes for a lost connection
    mysql(3819),
    IntegrityError("UNIQUE constraint failed: shop_product.sku"),
    DataError("value"),
    ProgrammingError("no"),
    NotSupportedError("no"),
    DatabaseError("malformed"),
    ValidationError("no"),
    ValueError("no"),
    OverflowError("int too large"),
    UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"),
    KeyError("x"),
    RecursionError(),
]


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)
    assert is_outage(error)


@pytest.mark.parametrize("error", STAYS, ids=repr)
def test_what_somebody_has_to_correct(error: Exception) -> None:
    assert not is_transient(error)
    assert not is_outage(error)


def sqlite(message: str, raised: type[Exception] = OperationalError) -> Exception:
    return caused_by(raised(message), sqlite3.OperationalError(message))


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_what_passes_is_transient(error: Exception) -> None:
    assert kind(error) is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WaitsForOther(), Kind.WAITING),
        (postgresql("42P01", ProgrammingError), Kind.SCHEMA),
        (postgresql("42703", ProgrammingError), Kind.SCHEMA),
        (mysql(1054), Kind.SCHEMA),
        (mysql(1146, ProgrammingError), Kind.SCHEMA),
        (sqlite("no such table: shop_article"), Kind.SCHEMA),
        (sqlite("no such column: title"), Kind.SCHEMA),
        (sqlite("table shop_article has no column named title"), Kind.SCHEMA),
        (postgresql("42601", ProgrammingError), Kind.PERMANENT),
        (postgresql("23505", IntegrityError), Kind.PERMANENT),
        (mysql(1062, IntegrityError), Kind.PERMANENT),
        (sqlite("near x: syntax error"), Kind.PERMANENT),
        (CounterpartTaken(), Kind.PERMANENT),
        (ValueError("no such table"), Kind.PERMANENT),
    ],
    ids=repr,
)
def test_kinds(error: Exception, expected: Kind) -> None:
    assert kind(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (postgresql("53100"), True),
        (postgresql("25006", InternalError), True),
        (mysql(1290), True),
        (sqlite("attempt to write a readonly database"), True),
        (postgresql(None), False),
        (postgresql("57P01"), False),
        (postgresql("40P01"), False),
        (mysql(2006), False),
        (sqlite("unable to open database file"), False),
        (TransientError(), False),
    ],
    ids=repr,
)
def test_who_answers_and_takes_nothing(error: Exception, expected: bool) -> None:
    assert is_refusal(error) is expected


@pytest.mark.parametrize("error", [ConnectionRefusedError(), ConnectionResetError(), TimeoutError()], ids=repr)
def test_somebody_else_s_connection(error: Exception) -> None:
    """A handler's mail server may come back, but only the object waits for it."""
    assert is_transient(error)
    assert not is_outage(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (postgresql("40001"), True),
        (postgresql("40P01"), True),
        (postgresql("55P03"), False),
        (postgresql(None), False),
        (mysql(1213), True),
        (mysql(1205), False),
        (IntegrityError(1213, "no"), False),
        (ValueError(), False),
    ],
    ids=repr,
)
def test_what_to_try_again_at_once(error: Exception, expected: bool) -> None:
    assert is_contention(error) is expected


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(0, 10), (1, 10), (2, 20), (3, 40), (6, 320), (9, 2560), (10, 3600), (50, 3600), (10**6, 3600)],
)
def test_pauses(attempts: int, seconds: int) -> None:
    assert pause(attempts) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (HeldByRemoteRows("2 rows."), "2 rows."),
        (ValueError("s3cr3t"), "ValueError was raised."),
        (KeyError("s3cr3t"), "KeyError was raised."),
        (ValidationError({"email": "s3cr3t"}), "The value of a field is not valid for REMOTE."),
        (OperationalError("host=s3cr3t user=s3cr3t"), "OperationalError: the database could not be used."),
        (InterfaceError("s3cr3t"), "InterfaceError: the database could not be used."),
        (DataError("s3cr3t"), "DataError: the database does not take a value."),
        (mysql(2003), "(2003) the database could not be used."),
        (mysql(1045), "(1045) the database could not be used."),
        (mysql(1644), "(1644) A trigger or a function of the database refused it."),
    ],
    ids=repr,
)
def test_what_is_told(error: Exception, sentence: str) -> None:
    assert describe(error) == sentence


@pytest.mark.parametrize(
    ("number", "text", "sentence"),
    [
        (1062, "Duplicate entry 'a@b.c' for key 'email'", "Duplicate entry for key 'email'"),
        (1062, "Duplicate entry 'it's' for key 'name'", "Duplicate entry for key 'name'"),
        (1062, "Duplicate entry '' for key 'x' for key 'a' for key 'shop.name'", "Duplicate entry for key 'shop.name'"),
        (1062, "Duplicate entry '1-\n'2' for key 'PRIMARY'", "Duplicate entry for key 'PRIMARY'"),
        (
            1366,
            "Incorrect string value: '\\xF0\\x9F' for column `db`.`shop_tag`.`title` at row 1",
            "Incorrect string value for column `title`",
        ),
        (1292, "Incorrect date value: 's3cr3t' for column 'day' at row 1", "Incorrect date value for column 'day'"),
        (1292, "Truncated incorrect DOUBLE value: 's3cr3t'", "Truncated incorrect DOUBLE value"),
        (1406, "Data too long for column 'name' at row 1", "Data too long for column 'name' at row 1"),
        (1048, "Column 'name' cannot be null", "Column 'name' cannot be null"),
        (1146, "Table 'db.shop_tag' doesn't exist", "Table 'shop_tag' doesn't exist"),
        (
            1142,
            "SELECT command denied to user 'a'@'10.0.0.1' for table `db`.`t`",
            "SELECT command denied for table `t`",
        ),
        (1142, "INSERT command denied to user ''@'::1' for table 't'", "INSERT command denied for table 't'"),
        (
            1143,
            "SELECT command denied to user 'a'@'h' for column 'c' in table 't'",
            "SELECT command denied for column 'c' in table 't'",
        ),
        (4025, "CONSTRAINT `c` failed for `db`.`shop_tag`", "CONSTRAINT `c` failed for `shop_tag`"),
        (1064, "You have an error near 's3cr3t', 's3cr3t') ' at line 1", "You have an error near"),
        (1690, "BIGINT value is out of range in '(1 + s3cr3t)'", "BIGINT value is out of range in"),
        (9999, "Something new", "Something new"),
    ],
)
def test_what_is_told_of_mysql(number: int, text: str, sentence: str) -> None:
    assert describe(OperationalError(number, text)) == f"({number}) {sentence}"


def test_an_account_keeps_text_only() -> None:
    def fail(password: str) -> None:
        raise ValueError(password)

    try:
        fail("s3cr3t")
    except ValueError as error:
        kept = account(error)

    assert kept.error == "ValueError"
    assert kept.message == "ValueError was raised."
    assert "in fail" in kept.traceback
    assert "raise ValueError(password)" in kept.traceback
    assert "s3cr3t" not in kept.message
