"""Things that go wrong: a database that does not answer, an object that cannot be copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from django.db import connections

from tests import factories
from tests.databases import Pair
from tests.shop.models import Twin


@contextmanager
def unreachable(alias: str) -> Iterator[None]:
    """Let an SQLite database be a file that cannot be opened, in a folder whose name nobody should read."""
    connection = connections[alias]
    connection.close()
    with mock.patch.dict(connection.settings_dict, NAME="/no/such/secret/place.sqlite3"):
        yield
    connection.close()


def ambiguous_twin(pair: Pair) -> Twin:
    """Save a LOCAL object that cannot be copied, because two REMOTE rows have its natural key."""
    name = factories.unique("twin")
    for _ in range(2):
        factories.make(Twin, using=pair.remote, name=name)
    return factories.make(Twin, name=name)
