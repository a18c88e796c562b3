"""Rows into tables: SQL INSERT with exactly the values that the objects hold.

``Model.save()`` and ``bulk_create()`` call ``pre_save()`` of the fields, which restamps ``auto_now``; the raw form of
Django's own INSERT, which loaddata relies on, does not. It is also the cheapest way to append a row to the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from django.db import connections
from django.db.models import Field, Model
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery

from synchro import staging
from synchro.refusals import Refusals

T = TypeVar("T")


def insert(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    fields: Sequence[Field[Any, Any]] | None = None,
    ignore_conflicts: bool = False,
    refusals: Refusals | None = None,
) -> None:
    """Insert the objects' values of the fields (default: all fields but an automatic primary key).

    Where a vendor can tell rows that it refuses from others, they go into the ``refusals``; else, nothing is inserted.
    """
    chosen = insertable(model) if fields is None else fields
    on_conflict = OnConflict.IGNORE if ignore_conflicts else None
    if staging.can_stage(using, objects, chosen):
        staging.insert(model, objects, using=using, fields=chosen, on_conflict=on_conflict, refusals=refusals)
        return
    for chunk in _statements(objects, chosen, using):
        _insert(model, chunk, using=using, fields=chosen, on_conflict=on_conflict)


def insert_missing(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    returning: Sequence[Field[Any, Any]],
) -> list[tuple[Any, ...]]:
    """Insert the objects that no unique index refuses.

    Returns:
        The ``returning`` columns of those that were inserted, in any order; none where the vendor does not tell.
    """
    fields = insertable(model)
    if staging.can_stage(using, objects, fields):
        ignore = OnConflict.IGNORE
        return staging.insert(model, objects, using=using, fields=fields, on_conflict=ignore, returning=returning)
    insert(model, objects, using=using, fields=fields, ignore_conflicts=True)
    return []


def insert_returning(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    fields: Sequence[Field[Any, Any]],
    returning: Field[Any, Any],
    refusals: Refusals | None = None,
) -> list[Any]:
    """Insert the objects and return the value that the database gave each one's ``returning`` field, in their order.

    What is refused goes into the ``refusals``, as with :func:`insert`, and has no value among them.
    """
    if staging.can_stage(using, objects, fields):
        returned = staging.insert(model, objects, using=using, fields=fields, returning=[returning], refusals=refusals)
        return [row[0] for row in returned]
    in_bulk = connections[using].features.can_return_rows_from_bulk_insert
    values: list[Any] = []
    for chunk in _statements(objects, fields, using) if in_bulk else batched(objects, 1):
        values.extend(row[0] for row in _insert(model, chunk, using=using, fields=fields, returning=[returning]))
    return values


def upsert(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    fields: Sequence[Field[Any, Any]],
    unique: Sequence[Field[Any, Any]],
    update: Sequence[Field[Any, Any]],
    refusals: Refusals | None = None,
) -> None:
    """Insert the objects; where ``unique`` (columns of a unique index) is taken, update the ``update`` columns.

    What is refused goes into the ``refusals``, as with :func:`insert`.
    """
    if staging.can_stage(using, objects, fields):
        staging.insert(
            model,
            objects,
            using=using,
            fields=fields,
            on_conflict=OnConflict.UPDATE,
            unique=unique,
            update=update,
            refusals=refusals,
        )
        return
    named = unique if connections[using].features.supports_update_conflicts_with_target else ()
    for chunk in _statements(objects, fields, using):
        _insert(
            model,
            chunk,
            using=using,
            fields=fields,
            on_conflict=OnConflict.UPDATE,
            unique_fields=named,
            update_fields=update,
        )


def insertable(model: type[Model]) -> list[Field[Any, Any]]:
    """Return the model's own writable fields without an automatic primary key."""
    auto = model._meta.auto_field
    return [field for field in model._meta.local_concrete_fields if field is not auto and not field.generated]


def batched(objects: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the objects in lists of at most ``size`` (itertools.batched is new in Python 3.12)."""
    iterator = iter(objects)
    while batch := list(islice(iterator, size)):
        yield batch


def _statements(objects: Sequence[Any], fields: Sequence[Field[Any, Any]], using: str) -> Iterator[list[Any]]:
    """Yield the objects in pieces that one statement of the vendor can hold."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        # Django assumes 999 parameters, the limit of SQLite before 3.32; the library knows its own.
        connection.ensure_connection()
        limit = connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        return batched(objects, max(limit // max(len(fields), 1), 1))
    return batched(objects, max(connection.ops.bulk_batch_size(fields, objects), 1))


def _insert(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    fields: Sequence[Field[Any, Any]],
    returning: Sequence[Field[Any, Any]] | None = None,
    **options: Any,
) -> list[Any]:
    query = InsertQuery(model, **options)
    query.insert_values(fields, objects, raw=True)  # type: ignore[arg-type]  # anything with the attributes does
    rows: list[Any] = query.get_compiler(using=using).execute_sql(returning)
    return rows
