"""The columns of a model that are compared, how rows of them are read, and when two values are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import connections
from django.db.models import (
    BooleanField,
    CompositePrimaryKey,
    ExpressionWrapper,
    Func,
    JSONField,
    Q,
    QuerySet,
    TextField,
)

from synchro.engine.values import same
from synchro.moments import are_in_utc
from synchro.registry import ModelClass, own_fields, skipped_fields

_IS_NULL = "synchro_{}_is_null"
_PLAIN = "synchro_plain"
#: Shows how a session writes those values down for which PostgreSQL has settings.
_WRITTEN = """
    SELECT ROW(timestamptz '2020-02-03 12:00:00.5+00', date '2020-02-03', interval '-1 day 2 hours', '\\x00ff'::bytea,
        1::float8 / 3)::text
"""


class Columns:
    """What is compared of a model's own table: no primary key, no generated column, nothing that REMOTE keeps.

    Those columns come first whose values say little by themselves: keys of other objects, which are different numbers
    on each side, and fields that are not Django's own.
    """

    def __init__(self, model: ModelClass, *aliases: str) -> None:
        pk: Any = model._meta.pk
        key = set(pk.fields) if isinstance(pk, CompositePrimaryKey) else {pk}
        skipped = skipped_fields(model)
        fields = [each for each in own_fields(model) if each not in key and each.name not in skipped]
        #: The attributes that hold keys of other objects: those of foreign keys, and those of generic ones.
        self.keys = [each.attname for each in fields if each.remote_field is not None]
        generic = {each.fk_field for each in model._meta.private_fields if isinstance(each, GenericForeignKey)}
        self.generic_keys = [each.attname for each in fields if each.name in generic]
        special = {*self.keys, *self.generic_keys, *(each.attname for each in fields if not _is_django_s_own(each))}
        self.fields = sorted(fields, key=lambda each: each.attname not in special)
        self.names = [each.attname for each in self.fields]
        #: The names of the first columns.
        self.special = self.names[: len(special)]
        self.json = [number for number, each in enumerate(self.fields) if isinstance(each, JSONField)]
        #: Whether Python's word for it will do that two rows are the same.
        self._are_plain = not self.json and are_in_utc(*aliases)
        #: Django reads JSON's null and SQL's NULL as None both: the database has to say which one it is.
        self.nullable_json = [self.fields[number].attname for number in self.json if self.fields[number].null]

    def read(self, queryset: QuerySet[Any]) -> dict[Any, tuple[Any, ...]]:
        """Return the values of the rows by primary key, in the queryset's order."""
        flags = {
            _IS_NULL.format(name): ExpressionWrapper(Q(**{f"{name}__isnull": True}), BooleanField())
            for name in self.nullable_json
        }
        rows = queryset.annotate(**flags).values_list("pk", *self.names, *flags)
        return {row[0]: row[1:] for row in rows}

    def glance(self, queryset: QuerySet[Any]) -> dict[Any, tuple[Any, ...]]:
        """Return the same with one text for all columns but the first: a fraction of the work for the client.

        Rows with the same text are the same, provided that both databases write alike.
        """
        plain = _RowAsText(*self.names[len(self.special) :])
        rows = queryset.annotate(**{_PLAIN: plain}).values_list("pk", *self.special, _PLAIN)
        return {row[0]: row[1:] for row in rows}

    def differing(self, ours: Sequence[Any], theirs: Sequence[Any]) -> list[int]:
        """Return the numbers of the columns in which two rows differ."""
        if self._are_plain and ours == theirs:
            return []
        count = len(self.fields)
        found = [
            number
            for number, (one, other) in enumerate(zip(ours[:count], theirs[:count], strict=True))
            if not same(self.fields[number], one, other)
        ]
        flags = zip(self.nullable_json, ours[count:], theirs[count:], strict=True)
        return sorted({*found, *(self.names.index(name) for name, one, other in flags if one != other)})

    def first(self, row: Iterable[Any]) -> dict[str, Any]:
        """Return the values of the first columns by attribute name."""
        return dict(zip(self.special, row, strict=False))


class _RowAsText(Func):
    """All columns in PostgreSQL's notation, in which different rows never look the same."""

    template = "ROW(%(expressions)s)::text"
    output_field = TextField()


def write_alike(*aliases: str) -> bool:
    """Tell whether all databases write the same row with the same text, and nothing beside it needs a closer look."""
    if not are_in_utc(*aliases):
        return False
    written = set()
    for alias in aliases:
        connection = connections[alias]
        if connection.vendor != "postgresql":
            return False
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN)
            written.add(cursor.fetchone())
    return len(written) == 1


def _is_django_s_own(field: Any) -> bool:
    return type(field).__module__.startswith("django.")
