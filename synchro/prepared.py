"""Questions about one object, which every task asks: composed once for each connection.

Composing a query costs its client several times what asking it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.db.models.sql.compiler import SQLCompiler

#: Stands for the object while its query is composed; no object's id holds this character.
_MARK = "\0"


def ask(
    object_ids: Collection[str], compose: Callable[[Collection[str]], QuerySet[Any, Any]], *, using: str, key: Hashable
) -> Iterable[Any]:
    """Return the rows of a query about objects; for a single one its text is ready from the second time on.

    Args:
        object_ids: the objects' ids, as the query compares them with a text column.
        compose: makes the query from them; it must select plain columns (``values_list``).
        using: the alias of the database.
        key: names the query and everything else that it depends on.
    """
    if len(object_ids) != 1:
        return compose(object_ids)
    connection: Any = connections[using]
    if not hasattr(connection, "_synchro_prepared"):
        connection._synchro_prepared = {}
    statements: dict[Hashable, _Statement] = connection._synchro_prepared
    if key not in statements:
        statements[key] = _prepare(compose([_MARK]).query.get_compiler(connection=connection))
    return statements[key].ask(*object_ids)


@dataclass(frozen=True, slots=True)
class _Statement:
    sql: str
    params: tuple[Any, ...]
    compiler: SQLCompiler

    def ask(self, object_id: str) -> Iterable[Any]:
        # A list is PostgreSQL's array of all values, see lookups.Among.
        filled = {_MARK: object_id}
        params = [
            [filled.get(value, value) for value in each] if isinstance(each, list) else filled.get(each, each)
            for each in self.params
        ]
        with self.compiler.connection.cursor() as cursor:
            cursor.execute(self.sql, params)
            found = cursor.fetchall()
        # What to convert depends on settings, too.
        converters = self.compiler.get_converters([each[0] for each in self.compiler.select])
        return self.compiler.apply_converters(found, converters) if converters else found


def _prepare(compiler: SQLCompiler) -> _Statement:
    sql, params = compiler.as_sql()
    return _Statement(sql, tuple(params), compiler)
