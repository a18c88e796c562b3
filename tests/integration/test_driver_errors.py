"""What the drivers really raise: whether it passes by itself, and a sentence about it that shows no data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connections, transaction
from django.db import Error as AnyDatabaseError
from django.test import override_settings

from synchro.engine.errors import account, describe, frames, is_contention, is_outage, is_transient
from tests import factories
from tests.databases import Pair, vendor_of
from tests.shop.models import Article, City, Employee, Haunted, Locker, Slot
from tests.threads import PATIENCE, in_thread
from tests.values.models import Everything
from tests.vendors import only_on

NUMBER = 99999999999
SECRET = 'it\'s "s3cr3t" `x` a@b.example'

on_servers = only_on("postgres", "mariadb")
on_mariadb = only_on("mariadb")


def caught(function: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as info:  # noqa: PT011  (which one is what the test asks)
        function()
    return info.value


def assert_tells_nothing(error: BaseException, alias: str) -> str:
    """Return the sentence: it has neither values nor connection data."""
    sentence = describe(error)
    config = connections[alias].settings_dict
    for text in (sentence, frames(error)):
        for secret in ("s3cr3t", "b.example", str(NUMBER), str(config["NAME"]), "127.0.0.1"):
            assert secret not in text
    assert sentence
    return sentence


def duplicate(using: str) -> None:
    for _ in range(2):
        factories.make(Haunted, name=SECRET, using=using)


def duplicate_of_two_columns(using: str) -> None:
    for number in range(2):
        factories.slot(row=77, column=9999, label=f"{SECRET}{number}", using=using)


def missing_target(using: str) -> None:
    with transaction.atomic(using=using):
        City(name=SECRET, country_id=NUMBER).save(using=using)


def deleted_target(using: str) -> None:
    city = factories.city(using=using)
    with transaction.atomic(using=using):
        type(city.country)._base_manager.using(using).filter(pk=city.country_id)._raw_delete(using)


def null(using: str) -> None:
    article = factories.article(text=SECRET, using=using)
    Article.objects.using(using).filter(pk=article.pk).update(title=None)


def too_long(using: str) -> None:
    Employee(name=SECRET * 20).save(using=using)


def out_of_range(using: str) -> None:
    Everything(small_integer=NUMBER).save(using=using)


def no_number(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT INTO shop_article (title, text, words) VALUES ('a', 'b', %s)", [SECRET])


def no_date(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE values_everything SET date = %s", [SECRET])
        cursor.execute("INSERT INTO values_everything (date) VALUES (%s)", [SECRET])


def nul_character(using: str) -> None:
    Article(title=f"{SECRET}\x00").save(using=using)


def surrogate(using: str) -> None:
    Article(title=f"{SECRET}\ud800").save(using=using)


def missing_table(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT INTO no_such_table (name) VALUES (%s)", [SECRET])


def missing_column(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT INTO shop_article (no_such_column) VALUES (%s)", [SECRET])


def bad_syntax(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT SOMETHING %s", [SECRET])


TRIGGERS = {
    "sqlite": ["CREATE TRIGGER no BEFORE INSERT ON shop_locker BEGIN SELECT RAISE(ABORT, 's3cr3t'); END"],
    "postgres": [
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 's3cr3t %', NEW.note; END$$",
        "CREATE TRIGGER no BEFORE INSERT ON shop_locker FOR EACH ROW EXECUTE FUNCTION no()",
    ],
    "mariadb": [
        "CREATE TRIGGER no BEFORE INSERT ON shop_locker FOR EACH ROW"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 's3cr3t'"
    ],
}


def refused_by_a_trigger(using: str) -> None:
    with connections[using].cursor() as cursor:
        for statement in TRIGGERS[vendor_of(using)]:
            cursor.execute(statement)
        try:
            factories.make(Locker, number=1, note=SECRET, using=using)
        finally:
            cursor.execute("DROP TRIGGER no" + (" ON shop_locker" if vendor_of(using) == "postgres" else ""))
            if vendor_of(using) == "postgres":
                cursor.execute("DROP FUNCTION no")


#: What fails on which vendors, and words that the sentence must have.
PERMANENT: list[tuple[Callable[[str], None], dict[str, str]]] = [
    (duplicate, {"sqlite": "shop_haunted.name", "postgres": "shop_haunted_name_key", "mariadb": "'name'"}),
    (
        duplicate_of_two_columns,
        {"sqlite": "shop_slot.column", "postgres": "shop_slot_place_unique", "mariadb": "'shop_slot_place_unique'"},
    ),
    (refused_by_a_trigger, dict.fromkeys(("sqlite", "postgres", "mariadb"), "refused")),
    (missing_target, {"sqlite": "FOREIGN KEY", "postgres": "foreign key constraint", "mariadb": "`country_id`"}),
    (deleted_target, {"sqlite": "FOREIGN KEY", "postgres": "foreign key constraint", "mariadb": "`shop_city`"}),
    (null, {"sqlite": "shop_article.title", "postgres": "column title", "mariadb": "'title'"}),
    (too_long, {"postgres": "character varying(50)", "mariadb": "'name'"}),
    (out_of_range, {"postgres": "smallint out of range", "mariadb": "'small_integer'"}),
    (no_number, {"postgres": "integer", "mariadb": "`words`"}),
    (no_date, {"postgres": "date", "mariadb": "`date`"}),
    (nul_character, {"postgres": "value"}),
    (surrogate, {"sqlite": "Unicode", "postgres": "Unicode", "mariadb": "Unicode"}),
    (missing_table, {"sqlite": "no_such_table", "postgres": "no_such_table", "mariadb": "no_such_table"}),
    (missing_column, {"sqlite": "no_such_column", "postgres": "no_such_column", "mariadb": "no_such_column"}),
    (bad_syntax, {"sqlite": "syntax error", "postgres": "syntax error", "mariadb": "SQL syntax"}),
]


@pytest.mark.parametrize(("fail", "words"), PERMANENT, ids=lambda value: getattr(value, "__name__", ""))
def test_what_somebody_has_to_correct(each_vendor: Pair, fail: Callable[[str], None], words: dict[str, str]) -> None:
    alias = each_vendor.remote
    expected = words.get(vendor_of(alias))
    if expected is None:
        fail(alias)  # this vendor takes it
        return

    error = caught(lambda: fail(alias))

    assert not is_transient(error)
    assert not is_outage(error)
    assert expected in assert_tells_nothing(error, alias)


# Values of rows, for those who want them


def not_null_beside_a_secret(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT INTO shop_article (title, text, words) VALUES (NULL, %s, 1)", [SECRET])


@on_servers
def test_a_key_that_is_taken_is_quoted_only_where_values_are_wanted(each_vendor: Pair) -> None:
    error = caught(lambda: duplicate(each_vendor.remote))

    assert "s3cr3t" not in str(account(error))
    with override_settings(SYNCHRO_LOG_VALUES=True):
        kept = account(error)
    assert SECRET.split()[0] in kept.values
    assert "s3cr3t" not in kept.message


@on_servers
@pytest.mark.parametrize("fail", [no_number, not_null_beside_a_secret, bad_syntax, refused_by_a_trigger])
def test_what_is_no_key_is_never_quoted(each_vendor: Pair, fail: Callable[[str], None]) -> None:
    """PostgreSQL would tell the whole row, with a password in it."""
    error = caught(lambda: fail(each_vendor.remote))

    with override_settings(SYNCHRO_LOG_VALUES=True):
        assert "s3cr3t" not in str(account(error))


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"HOST": "postgresql://me:s3cr3t@b.example/x y"},
        {"PORT": "s3cr3t"},
        {"PASSWORD": "s3cr3t", "OPTIONS": {"no_such_s3cr3t_option": "s3cr3t"}},
        {"OPTIONS": {"options": "-c s3cr3t=1 -c s3cr3t"}},
    ],
    ids=["address", "port", "option", "server option"],
)
def test_connection_data_that_cannot_be_read_is_never_quoted(
    postgres_pair: Pair, settings: dict[str, Any], values: bool
) -> None:
    alias = postgres_pair.remote
    with settings_of(alias, **settings):
        error = caught(lambda: ask(alias))
    with override_settings(SYNCHRO_LOG_VALUES=values):
        assert "s3cr3t" in str(error)
        assert "s3cr3t" not in str(account(error))


# What passes by itself


def assert_passes(error: BaseException, alias: str, *words: str) -> None:
    assert is_transient(error)
    assert is_outage(error)
    sentence = assert_tells_nothing(error, alias)
    for word in words:
        assert word in sentence


@contextmanager
def settings_of(alias: str, **changes: Any) -> Iterator[None]:
    connection = connections[alias]
    connection.close()
    try:
        with mock.patch.dict(connection.settings_dict, changes):
            yield
    finally:
        connection.close()


def ask(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize(
    "away",
    [
        {"HOST": "127.0.0.1", "PORT": "1"},
        {"HOST": "no-such-host.b.example"},
        {"NAME": "s3cr3t_database"},
        {"USER": "s3cr3t_user", "PASSWORD": "s3cr3t"},
    ],
    ids=["refused", "unknown host", "unknown database", "unknown user"],
)
@on_servers
def test_a_connection_that_cannot_be_made(each_vendor: Pair, away: dict[str, str]) -> None:
    """Also with a wrong name or password: nothing is wrong with the objects, and somebody will put it right."""
    with settings_of(each_vendor.remote, **away):
        assert_passes(caught(lambda: ask(each_vendor.remote)), each_vendor.remote)


def test_a_connection_that_is_cut(each_vendor: Pair) -> None:
    alias = each_vendor.remote
    if vendor_of(alias) == "sqlite":
        with settings_of(alias, NAME="/no/such/s3cr3t/place"):
            assert_passes(caught(lambda: ask(alias)), alias)
        return
    own, kill = {
        "postgres": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
        "mariadb": ("SELECT connection_id()", "KILL %s"),
    }[vendor_of(alias)]
    with connections[alias].cursor() as cursor:
        cursor.execute(own)
        (number,) = cursor.fetchone()
    with connections[alias]._nodb_cursor() as cursor:
        cursor.execute(kill, [number])

    assert_passes(caught(lambda: ask(alias)), alias)
    assert_passes(caught(lambda: ask(alias)), alias)
    connections[alias].close()


def test_a_lock_that_somebody_else_holds(each_vendor: Pair) -> None:
    alias = each_vendor.remote
    article = factories.article(using=alias)
    impatience = {
        "sqlite": "PRAGMA busy_timeout = 1",
        "postgres": "SET lock_timeout = 10",
        "mariadb": "SET innodb_lock_wait_timeout = 1",
    }[vendor_of(alias)]
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=alias):
            Article.objects.using(alias).update(title="held")
            locked.set()
            done.wait(PATIENCE)

    holder = in_thread(hold)
    assert locked.wait(PATIENCE)
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(impatience)
        error = caught(lambda: article.save(using=alias))
    finally:
        done.set()
        holder.result(PATIENCE)
        connections[alias].close()

    assert_passes(error, alias, "ock")
    assert not is_contention(error)


@on_servers
def test_a_deadlock(each_vendor: Pair) -> None:
    """Whoever loses may try again at once."""
    alias = each_vendor.remote
    first, second = factories.article(using=alias), factories.article(using=alias)
    barrier = threading.Barrier(2, timeout=PATIENCE)

    def lock(one: Article, other: Article) -> None:
        with transaction.atomic(using=alias):
            Article.objects.using(alias).filter(pk=one.pk).update(text=SECRET)
            barrier.wait()
            Article.objects.using(alias).filter(pk=other.pk).update(text=SECRET)

    futures = [in_thread(lock, first, second), in_thread(lock, second, first)]
    errors = [error for future in futures if (error := future.exception(PATIENCE)) is not None]

    (error,) = errors
    assert_passes(error, alias, "eadlock")
    assert is_contention(error)


@on_servers
def test_a_statement_that_takes_too_long(each_vendor: Pair) -> None:
    alias = each_vendor.remote
    limit, sleep = {
        "postgres": ("SET statement_timeout = 10", "SELECT pg_sleep(5)"),
        "mariadb": ("SET max_statement_time = 0.01", "SELECT count(*), sleep(5) FROM shop_article"),
    }[vendor_of(alias)]
    factories.article(using=alias)

    def run() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(limit)
            cursor.execute(sleep)

    assert_passes(caught(run), alias)
    connections[alias].close()


def test_a_database_that_may_only_be_read(each_vendor: Pair) -> None:
    """As after a failover, on the side that has become the standby."""
    alias = each_vendor.remote
    read_only = {
        "sqlite": "PRAGMA query_only = 1",
        "postgres": "SET default_transaction_read_only = on",
        "mariadb": "SET SESSION TRANSACTION READ ONLY",
    }[vendor_of(alias)]
    with connections[alias].cursor() as cursor:
        cursor.execute(read_only)

    error = caught(lambda: factories.article(title=SECRET, using=alias))

    connections[alias].close()
    assert_passes(error, alias)


@on_mariadb
def test_a_row_that_is_too_large(each_vendor: Pair) -> None:
    """It looks as if the connection was lost, and would be tried for ever."""
    alias = each_vendor.remote
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()

    error = caught(lambda: factories.article(text="x" * (limit + 1), using=alias))

    connections[alias].close()
    assert isinstance(error, DatabaseError | AnyDatabaseError)
    assert not is_transient(error)


def test_unique_values_that_are_similar(each_vendor: Pair) -> None:
    """On MariaDB 'qa' and 'QA' are one value."""
    alias = each_vendor.remote
    factories.slot(label="qa", using=alias)
    if vendor_of(alias) != "mariadb":
        factories.slot(label="QA", using=alias)
        assert Slot.objects.using(alias).count() == 2
        return

    error = caught(lambda: factories.slot(label="QA", using=alias))

    assert describe(error) == "(1062) Duplicate entry for key 'label'"
