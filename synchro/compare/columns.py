"""The columns of a model that are compared, how rows of them are read, and when two values are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import (
    BooleanField,
    CompositePrimaryKey,
    DateTimeField,
    ExpressionWrapper,
    F,
    JSONField,
    Q,
    QuerySet,
    TextField,
)
from django.db.models.functions import Cast

from synchro.registry import ModelClass, own_fields, skipped_fields

_IS_NULL = "synchro_{}_is_null"
_AS_TEXT = "synchro_{}_as_text"


class Columns:
    """What is compared of a model's own table: no primary key, no generated column, nothing that REMOTE keeps."""

    def __init__(self, model: ModelClass) -> None:
        pk: Any = model._meta.pk
        key = set(pk.fields) if isinstance(pk, CompositePrimaryKey) else {pk}
        skipped = skipped_fields(model)
        self.fields = [each for each in own_fields(model) if each not in key and each.name not in skipped]
        self.names = [each.attname for each in self.fields]
        self.json = [number for number, each in enumerate(self.fields) if isinstance(each, JSONField)]
        #: Django reads JSON's null and SQL's NULL as None both: the database has to say which one it is.
        self.nullable_json = [self.fields[number].attname for number in self.json if self.fields[number].null]

    def read(self, queryset: QuerySet[Any], *, as_text: bool = False) -> dict[Any, tuple[Any, ...]]:
        """Return the values of the rows by primary key, in the queryset's order.

        Args:
            as_text: read moments as text, which takes the driver of PostgreSQL a fraction of the time.
        """
        flags = {
            _IS_NULL.format(name): ExpressionWrapper(Q(**{f"{name}__isnull": True}), BooleanField())
            for name in self.nullable_json
        }
        names = self.names
        if as_text:
            moments = [each.attname for each in self.fields if isinstance(each, DateTimeField)]
            queryset = queryset.annotate(**{_AS_TEXT.format(name): Cast(F(name), TextField()) for name in moments})
            names = [_AS_TEXT.format(name) if name in moments else name for name in names]
        rows = queryset.annotate(**flags).values_list("pk", *names, *flags)
        return {row[0]: row[1:] for row in rows}

    def differing(self, ours: Sequence[Any], theirs: Sequence[Any]) -> list[int]:
        """Return the numbers of the columns in which two rows differ."""
        if not self.json and ours == theirs:
            return []
        count = len(self.fields)
        found = [
            number
            for number, (one, other) in enumerate(zip(ours[:count], theirs[:count], strict=True))
            if not (_same_json(one, other) if number in self.json else _same(one, other))
        ]
        flags = zip(self.nullable_json, ours[count:], theirs[count:], strict=True)
        return sorted({*found, *(self.names.index(name) for name, one, other in flags if one != other)})

    def named(self, row: Iterable[Any]) -> dict[str, Any]:
        """Return a row's values by attribute name."""
        return dict(zip(self.names, row, strict=False))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # NaN is the same value as NaN


def _same_json(one: Any, other: Any) -> bool:
    """Compare JSON by value: 1 is 1.0, however a vendor writes a number down, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        return _same(*map(_as_float, (one, other)))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_json, one, other))
    return _same(one, other)


def _as_float(value: Any) -> Any:
    """Return a number as those vendors have it that keep JSON's numbers as floats."""
    try:
        return float(value) if isinstance(value, int) else value
    except OverflowError:
        return value
