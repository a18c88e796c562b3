"""Conditions that hold for large sets of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CompositePrimaryKey, F, Model, Q, QuerySet
from django.db.models.lookups import In

#: From so many values on, composing an array as one text pays.
_MANY = 10


class Among(In):
    """``filter(among('pk', values))`` is ``filter(pk__in=values)``, on PostgreSQL with one array for all parameters.

    Composing and sending a statement with a parameter for each of a thousand values costs the client more than running
    it costs the server.
    """

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Compare with an array of the column's own type: PostgreSQL compares with arrays of other types one by one."""
        sql, params = self.process_lhs(compiler, connection)
        field = self.lhs.output_field
        while field.remote_field is not None:
            field = field.target_field
        column_type = field.db_type(connection).partition("(")[0]
        values = [field.get_db_prep_value(value, connection, prepared=True) for value in self.rhs]
        return f"{sql} = ANY(%s::{column_type}[])", [*params, _array(values)]


def pk_among(model: type[Model], pks: Iterable[Any]) -> Q | Among:
    """Return the condition that the primary key, also a composite one, is one of the values."""
    if isinstance(model._meta.pk, CompositePrimaryKey):
        return Q(pk__in=list(pks))
    return among("pk", pks)


def among(name: str, values: Iterable[Any]) -> Among:
    """Return the condition that the column of a field has one of the values."""
    return Among(F(name), list(values))


def _array(values: list[Any]) -> Any:
    """Return an array for PostgreSQL: many texts or numbers, the usual keys, as a literal, which costs drivers less."""
    if len(values) < _MANY:
        return values
    kinds = set(map(type, values))
    if kinds == {int}:
        return f"{{{','.join(map(str, values))}}}"
    if kinds == {str}:
        quoted = '","'.join(each.replace("\\", "\\\\").replace('"', '\\"') for each in values)
        return f'{{"{quoted}"}}'
    return values


def distinct_values(rows: QuerySet[Any], name: str) -> Iterator[Any]:
    """Yield the different values of a column, in order.

    Each costs one lookup in an index that begins with the columns that the rows are filtered by, however many rows
    there are; DISTINCT would read them all.
    """
    values = rows.order_by(name).values_list(name, flat=True)
    found = values.first()
    while found is not None:
        yield found
        found = values.filter(**{f"{name}__gt": found}).first()
