"""Many rows into PostgreSQL: COPY to a temporary table, and one statement from there.

For a batch this takes a third of the time of an INSERT with values, most of which goes into composing the statement.
The temporary table goes with the transaction, so that it is safe behind a pooler, too. COPY fills a table of the same
transaction from its beginning to its end, without the map of free space, so it is read in the order of the objects:
https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/commands/copyfrom.c (TABLE_INSERT_SKIP_FSM)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from django.db import connections, models
from django.db.models import Field, Model
from django.db.models.constants import OnConflict

from synchro.refusals import Insertion, Refusals, execute_sparing

#: From how many rows on the detour is worth its statements.
_STAGED_FROM = 10

#: Fields whose values, as they come from a database, PostgreSQL's driver takes as they are. Subclasses may differ.
_PLAIN_FIELDS = frozenset([
    *(models.AutoField, models.BigAutoField, models.SmallAutoField, models.BooleanField),
    *(models.CharField, models.TextField, models.SlugField, models.EmailField, models.URLField),
    *(models.UUIDField, models.FloatField, models.DecimalField),
    *(models.IntegerField, models.SmallIntegerField, models.BigIntegerField, models.PositiveIntegerField),
    *(models.PositiveSmallIntegerField, models.PositiveBigIntegerField),
    *(models.DateField, models.DateTimeField, models.TimeField, models.DurationField),
])  # fmt: skip


def can_stage(using: str, objects: Sequence[Any], fields: Sequence[Field[Any, Any]]) -> bool:
    """Tell whether the rows can be written this way, and should be: many rows, inside a transaction, plain values."""
    connection = connections[using]
    if len(objects) < _STAGED_FROM or connection.vendor != "postgresql" or not connection.in_atomic_block:
        return False
    with_expressions = [field for field in fields if field.has_db_default()]
    if any(hasattr(getattr(each, field.attname), "as_sql") for field in with_expressions for each in objects):
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return is_psycopg3 and _may_stage(connection)


def _may_stage(connection: Any) -> bool:
    """Tell whether the role may make temporary tables, as everybody may until it is revoked.

    It is asked once, and remembered as long as the connection lasts.
    """
    session, may = getattr(connection, "_synchro_may_stage", (None, False))
    if session is not connection.connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT has_database_privilege(current_database(), 'TEMP')")
            (may,) = cursor.fetchone()
        connection._synchro_may_stage = connection.connection, may
    return bool(may)


def insert(
    model: type[Model],
    objects: Sequence[Any],
    *,
    using: str,
    fields: Sequence[Field[Any, Any]],
    on_conflict: OnConflict | None = None,
    unique: Sequence[Field[Any, Any]] = (),
    update: Sequence[Field[Any, Any]] = (),
    returning: Sequence[Field[Any, Any]] = (),
    refusals: Refusals | None = None,
) -> list[tuple[Any, ...]]:
    """Insert the objects and return the ``returning`` columns of what was inserted, in the order of the objects.

    Rows that the table refuses are an error, unless there are ``refusals`` to put them into.
    """
    connection: Any = connections[using]
    conflict = connection.ops.on_conflict_suffix_sql(
        fields, on_conflict, [field.column for field in update], [field.column for field in unique]
    )
    with connection.cursor() as cursor:
        stage = _stage(cursor, connection, model, objects, fields)
        insertion = Insertion(
            stage=stage,
            table=connection.ops.quote_name(model._meta.db_table),
            columns=_names(fields, connection),
            conflict=conflict,
            returning=_names(returning, connection),
        )
        if refusals is None:
            cursor.execute(insertion.sql())
        else:
            execute_sparing(cursor, connection, insertion, refusals)
        return cursor.fetchall() if returning else []


def _stage(
    cursor: Any, connection: Any, model: type[Model], objects: Sequence[Any], fields: Sequence[Field[Any, Any]]
) -> str:
    """Copy the values into a temporary table and return its name.

    The columns have the types of the table's without their limits (a function's result has none): a value that is too
    long for the table is found where it is inserted, as one that breaks a constraint.
    """
    connection._synchro_stages = number = getattr(connection, "_synchro_stages", 0) + 1
    stage = f"synchro_stage_{number}"
    qn = connection.ops.quote_name
    unlimited = ", ".join(f"lag({qn(field.column)}) OVER () AS {qn(field.column)}" for field in fields)
    cursor.execute(
        f"CREATE TEMPORARY TABLE {stage} ON COMMIT DROP AS "
        f"SELECT {unlimited} FROM {qn(model._meta.db_table)} WITH NO DATA"
    )
    getters = [_getter(field, connection) for field in fields]
    with connection.wrap_database_errors, cursor.copy(f"COPY {stage} FROM STDIN") as copy:
        for each in objects:
            copy.write_row([get(each) for get in getters])
    return stage


def _names(fields: Sequence[Field[Any, Any]], connection: Any) -> str:
    return ", ".join(connection.ops.quote_name(field.column) for field in fields)


def _getter(field: Any, connection: Any) -> Callable[[Any], Any]:
    """Return what gives an object's value of the field in the form that the driver takes."""
    attname = field.attname
    target = field
    while target.remote_field is not None:
        target = target.target_field
    if type(target) in _PLAIN_FIELDS:
        return attrgetter(attname)
    return lambda each: field.get_db_prep_save(getattr(each, attname), connection)
