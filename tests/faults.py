"""Things that go wrong: a database that does not answer, an object that cannot be copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

from django.conf import settings
from django.db import connections
from django.db.models import Model
from django.utils import timezone

from synchro.models import Hold
from tests import factories
from tests.databases import Pair
from tests.shop.models import Twin


class Crash(BaseException):
    """The process died here."""


@contextmanager
def unreachable(alias: str) -> Iterator[None]:
    """Let an SQLite database be a file that cannot be opened, in a folder whose name nobody should read."""
    connection = connections[alias]
    connection.close()
    with mock.patch.dict(connection.settings_dict, NAME="/no/such/secret/place.sqlite3"):
        yield
    connection.close()


@contextmanager
def locked(pair: Pair, table: str) -> Iterator[None]:
    """Let a table of a PostgreSQL REMOTE be locked by somebody else, and nobody wait long for it."""
    connection = connections[pair.remote]
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table}")
    yield
    other.rollback()
    other.close()
    connection.close()


@contextmanager
def row_locked(pair: Pair, row: Model) -> Iterator[None]:
    """Let a row of REMOTE be locked by somebody else, and nobody wait long for it."""
    connection = connections[pair.remote]
    with connection.cursor() as cursor:
        cursor.execute(
            "SET lock_timeout = '50ms'" if connection.vendor == "postgresql" else "SET innodb_lock_wait_timeout = 1"
        )
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {row._meta.db_table} WHERE id = %s FOR UPDATE", [row.pk])
    yield
    other.rollback()
    other.close()
    connection.close()


@contextmanager
def without_permission(alias: str, table: str) -> Iterator[None]:
    """Let a database be used by somebody who may do everything but touch one table."""
    connection = connections[alias]
    name = f"synchro_clerk_{settings.RUN}"
    kept = dict(connection.settings_dict)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE USER {name} {_PASSWORDS[connection.vendor]} 'secret'")
        for each in connection.introspection.table_names(cursor):
            if each != table:
                cursor.execute(f"GRANT ALL ON {connection.ops.quote_name(each)} TO {name}")
        if connection.vendor == "postgresql":
            cursor.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
    connection.close()
    connection.settings_dict.update(USER=name, PASSWORD="secret")
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(kept)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP OWNED BY {name}")
            cursor.execute(f"DROP USER {name}")


_PASSWORDS = {"postgresql": "PASSWORD", "mysql": "IDENTIFIED BY"}


@contextmanager
def without_column(alias: str, table: str, column: str) -> Iterator[None]:
    """Let a table lack a column."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    rename = f"ALTER TABLE {quote(table)} RENAME COLUMN {{}} TO {{}}"
    with connection.cursor() as cursor:
        cursor.execute(rename.format(quote(column), quote("gone")))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format(quote("gone"), quote(column)))


def let_probe() -> None:
    """Let what is held back be tried again at once, as if a second had passed."""
    Hold.objects.update(next_try_at=timezone.now() - timedelta(hours=1))


def ambiguous_twin(pair: Pair) -> Twin:
    """Save a LOCAL object that cannot be copied, because two REMOTE rows have its natural key."""
    name = factories.unique("twin")
    for _ in range(2):
        factories.make(Twin, using=pair.remote, name=name)
    return factories.make(Twin, name=name)
