"""Things that go wrong: a database that does not answer, an object that cannot be copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

from django.db import connections
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


def let_probe() -> None:
    """Let what is held back be tried again at once, as if a second had passed."""
    Hold.objects.update(next_try_at=timezone.now() - timedelta(hours=1))


def ambiguous_twin(pair: Pair) -> Twin:
    """Save a LOCAL object that cannot be copied, because two REMOTE rows have its natural key."""
    name = factories.unique("twin")
    for _ in range(2):
        factories.make(Twin, using=pair.remote, name=name)
    return factories.make(Twin, name=name)
