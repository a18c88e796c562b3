"""Values on their way from one vendor to another, and those that an instance alone does not tell.

Each vendor keeps most values of Django's fields exactly, refuses some, and silently changes a few: those are found here
before anything is written, and the object fails. Nothing is looked at that both vendors keep alike, so between two
PostgreSQLs a copy costs nothing more.

What each vendor makes of a value is in its manual, and what Django makes of it in its ``db/backends/*/operations.py``:

- PostgreSQL cuts spaces at the end of text that is too long, and keeps no NUL:
  https://www.postgresql.org/docs/current/datatype-character.html. Its ``jsonb`` refuses NUL and half surrogates, and
  keeps numbers without an exponent: https://www.postgresql.org/docs/current/datatype-json.html
- SQLite keeps any value in any column: https://www.sqlite.org/datatype3.html. Django keeps decimals there as floating
  point numbers, of which it trusts 15 digits: ``get_decimalfield_converter()``. NaN becomes NULL.
- MariaDB and MySQL refuse what does not fit only where ``sql_mode`` is strict: https://mariadb.com/kb/en/sql_mode/.
  They keep neither NaN nor infinity, and columns from before Django 1.8 no fractions of seconds.

``tests/integration/test_values_*.py`` try all of it between all vendors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connections, models
from django.db.models import Field, GenericIPAddressField, JSONField, Model, QuerySet, Value
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from django.utils.translation import gettext as _

from synchro.engine.link import Link
from synchro.exceptions import ValueDoesNotCross
from synchro.keys import pk_from_text
from synchro.lookups import pk_among
from synchro.moments import in_utc
from synchro.registry import ModelClass, own_fields, skipped_fields

#: Returns why a value does not arrive as it is; None if it does.
Check = Callable[[Any], str | None]
Checks = list[tuple["Field[Any, Any]", list[Check]]]

#: SQLite keeps decimals as floating point numbers, of which Django trusts this many digits.
_SQLITE_DIGITS = 15
_MICROSECONDS = 6
_INT64 = 2**63
_TEXT = (models.CharField, models.TextField, models.FileField, models.FilePathField)
#: What the preparation of a value may raise, and databases that refuse one.
_REFUSALS = (DatabaseError, ValueError, TypeError, ArithmeticError, AttributeError, ValidationError)
#: What making Python's value of a database's may raise.
_MISREADINGS = (ValueError, TypeError, ArithmeticError)


def checked(link: Link, model: ModelClass) -> Checks:
    """Return the model's fields whose values may change between the two vendors, with what finds that out."""
    local = connections[link.local].vendor
    return [(field, checks) for field in _fields(model) if (checks := list(_checks(field, local, link.remote)))]


def refusal(checks: Checks, instance: Model) -> ValueDoesNotCross | None:
    """Return the error of the first value that would not arrive as it is; None where all do."""
    for field, of_field in checks:
        value = getattr(instance, field.attname)
        if value is None and _only_on_postgresql not in of_field:
            continue
        if not hasattr(value, "as_sql") and (reason := _complaint(of_field, value)):
            return _error(field, reason)
    return None


def named(link: Link, model: ModelClass, object_id: str, error: Exception) -> Exception:
    """Return an error that names the field whose value was refused, or the error itself where none stands out."""
    if isinstance(error, IntegrityError) or not isinstance(error, _REFUSALS):
        return error
    rows = model._base_manager.using(link.local).filter(pk=pk_from_text(model, object_id))
    try:
        instance = rows.get()
    except _MISREADINGS:
        return _unreadable(rows, model) or error
    except Exception:
        return error
    remote = connections[link.remote]
    for field in _fields(model):
        value = getattr(instance, field.attname)
        if value is None:
            continue
        if reason := _complaint(list(_checks(field, "", link.remote)), value):
            return _error(field, reason)
        try:
            field.get_db_prep_save(value, remote)
        except _REFUSALS as refused:
            return _error(field, _("%(error)s is raised when it is prepared.") % {"error": type(refused).__name__})
    return error


def _unreadable(rows: QuerySet[Any], model: ModelClass) -> Exception | None:
    """Return an error that names the field for which Django cannot read LOCAL's row: SQLite keeps what it is given."""
    for field in _fields(model):
        try:
            list(rows.values_list(field.attname))
        except _MISREADINGS as refused:
            return _error(field, _("%(error)s is raised when it is read.") % {"error": type(refused).__name__})
    return None


def _fields(model: ModelClass) -> list[Field[Any, Any]]:
    """Return the fields whose values LOCAL's objects bring along: no keys of others, nothing that REMOTE chooses."""
    generic = {each.fk_field for each in model._meta.private_fields if isinstance(each, GenericForeignKey)}
    others = {*skipped_fields(model), *generic}
    auto = model._meta.auto_field
    return [
        field
        for field in own_fields(model)
        if field.remote_field is None and field.name not in others and field is not auto
    ]


def _complaint(checks: Collection[Check], value: Any) -> str | None:
    return next((reason for check in checks if (reason := check(value))), None)


def _error(field: Field[Any, Any], reason: str) -> ValueDoesNotCross:
    return ValueDoesNotCross(f"{field.name}: {reason}")


# Which checks a field needs


def _checks(field: Field[Any, Any], local: str, using: str) -> Iterator[Check]:
    """Yield what must be looked at in a field's values that come from a LOCAL of one vendor ('' for any)."""
    remote = connections[using].vendor
    if remote != "postgresql" and _is_of_postgresql(field):
        yield _only_on_postgresql
        return
    wrap = _as_is if _is_django_s_own(field) and not isinstance(field, models.FileField) else _prepared(field)
    for check in _checks_of_kind(field, local, remote, using):
        yield wrap(check)


def _checks_of_kind(field: Any, local: str, remote: str, using: str) -> Iterator[Check]:
    lax, other = local in ("sqlite", ""), local != remote
    if isinstance(field, models.IntegerField):
        if lax:
            yield _is_a(int)
        if lax or other:
            yield from _ranges(field, using)
    elif isinstance(field, models.FloatField):
        if lax:
            yield _is_a(float, int)
        if remote != "postgresql" and other:
            yield _is_number if remote == "sqlite" else _is_finite
    elif isinstance(field, models.DecimalField):
        if lax or other:
            yield _fits(field.max_digits, field.decimal_places)
        if remote == "sqlite":
            yield _few_digits
    elif isinstance(field, models.BooleanField):
        if lax:
            yield _is_a(bool)
    elif isinstance(field, models.DurationField):
        if remote != "postgresql" and other:
            yield _short
    elif isinstance(field, models.DateTimeField):
        yield from _moments(field, remote, using)
    elif isinstance(field, models.TimeField):
        yield from _precision(field, remote, using)
    elif isinstance(field, _TEXT):
        if lax:
            yield _is_a(str)
        if lax and field.max_length and remote != "sqlite":
            yield _not_longer(field.max_length)
        if remote == "postgresql" and other:
            yield _no_nul
    elif isinstance(field, JSONField) and remote == "postgresql" and other:
        yield _jsonb(field)


def _is_of_postgresql(field: Field[Any, Any]) -> bool:
    return any(each.__module__.startswith("django.contrib.postgres.") for each in type(field).__mro__)


def _is_django_s_own(field: Field[Any, Any]) -> bool:
    return type(field).__module__.startswith("django.")


def _as_is(check: Check) -> Check:
    return check


def _prepared(field: Field[Any, Any]) -> Callable[[Check], Check]:
    """Look at what the field makes of a value for the database: the value itself may be anything."""

    def wrap(check: Check) -> Check:
        def on_prepared(value: Any) -> str | None:
            prepared = field.get_prep_value(value)
            return None if prepared is None else check(prepared)

        return on_prepared

    return wrap


# Checks


def _only_on_postgresql(value: Any) -> str:
    """Refuse NULL, too: Django writes it with a cast that other vendors cannot read."""
    return _("only PostgreSQL has fields of this kind.")


def _is_a(*types: type) -> Check:
    """SQLite keeps what it is given in any column; other vendors, and Django itself, make something else of it."""

    def check(value: Any) -> str | None:
        fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        return None if fits else _("the value is of another type than the field.")

    return check


def _ranges(field: Field[Any, Any], using: str) -> Iterator[Check]:
    operations = connections[using].ops
    if (kind := field.get_internal_type()) in operations.integer_field_ranges:
        yield _in_range(*operations.integer_field_range(kind))


def _in_range(least: int | None, most: int | None) -> Check:
    least, most = -_INT64 if least is None else least, _INT64 - 1 if most is None else most

    def check(value: Any) -> str | None:
        return None if least <= value <= most else _("the number is out of the range of REMOTE's column.")

    return check


def _is_number(value: float) -> str | None:
    return _("SQLite does not keep NaN.") if math.isnan(value) else None


def _is_finite(value: float) -> str | None:
    return None if math.isfinite(value) else _("MariaDB and MySQL keep neither NaN nor infinity.")


def _fits(digits: int, places: int) -> Check:
    def check(value: Decimal) -> str | None:
        if not value.is_finite():
            return _("REMOTE keeps neither NaN nor infinity in a decimal.")
        own = value.normalize().as_tuple()
        if -int(own.exponent) > places or len(own.digits) + int(own.exponent) > digits - places:
            return _("the number has more digits than the field.")
        return None

    return check


def _few_digits(value: Decimal) -> str | None:
    if len(value.normalize().as_tuple().digits) <= _SQLITE_DIGITS:
        return None
    return _("SQLite keeps %(count)d digits of a decimal.") % {"count": _SQLITE_DIGITS}


def _short(value: timedelta) -> str | None:
    in_microseconds = value // timedelta(microseconds=1)
    return None if -_INT64 <= in_microseconds < _INT64 else _("REMOTE keeps no duration of that many years.")


def _not_longer(length: int) -> Check:
    """PostgreSQL and MariaDB cut spaces at the end without a word, and refuse other text that is too long."""

    def check(value: str) -> str | None:
        return (
            None if len(value) <= length else _("the text is longer than %(length)d characters.") % {"length": length}
        )

    return check


def _no_nul(value: str) -> str | None:
    return _("PostgreSQL keeps no NUL characters.") if "\0" in value else None


def _moments(field: Field[Any, Any], remote: str, using: str) -> Iterator[Check]:
    """Find moments that REMOTE's zone does not have, or has twice: of an hour that is left out, or repeated."""
    connection = connections[using]
    converts = settings.USE_TZ if remote != "postgresql" else not settings.USE_TZ
    if converts and connection.timezone_name != "UTC":
        zone = ZoneInfo(connection.timezone_name)

        def check(value: datetime) -> str | None:
            try:
                if settings.USE_TZ:
                    there = timezone.make_naive(value, zone)
                    # Python calls moments of a repeated hour equal to nothing in another zone.
                    back = timezone.make_aware(there.replace(fold=0), zone).astimezone(UTC)
                else:
                    there = value.replace(tzinfo=zone).astimezone(UTC)
                    back = there.astimezone(zone).replace(tzinfo=None)
            except OverflowError:
                back = None
            return None if back == value else _("REMOTE's time zone does not have this moment, or has it twice.")

        yield check
    yield from _precision(field, remote, using)


def _precision(field: Field[Any, Any], remote: str, using: str) -> Iterator[Check]:
    """Find fractions of seconds that columns of MariaDB and MySQL from before Django 1.8 cut off."""
    if remote != "mysql":
        return
    precision = _precisions(using, field.model._meta.db_table).get(str(field.column), _MICROSECONDS)
    if precision < _MICROSECONDS:
        finest = 10 ** (_MICROSECONDS - precision)

        def check(value: Any) -> str | None:
            if value.microsecond % finest == 0:
                return None
            return _("REMOTE's column keeps %(count)d digits of a second.") % {"count": precision}

        yield check


@cache
def _precisions(using: str, table: str) -> dict[str, int]:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT column_name, datetime_precision FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = %s AND datetime_precision IS NOT NULL",
            [table],
        )
        return {name: int(precision) for name, precision in cursor.fetchall()}


def _jsonb(field: Any) -> Check:
    def check(value: Any) -> str | None:
        if field.encoder is not None:
            value = json.loads(json.dumps(value, cls=field.encoder))
        return next((reason for each in _leaves(value) if (reason := _jsonb_leaf(each))), None)

    return check


def _leaves(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
        else:
            yield each


def _jsonb_leaf(value: Any) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return _("PostgreSQL keeps no NUL characters.")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            return _("PostgreSQL keeps no half of a pair of surrogates.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            return _("JSON has neither NaN nor infinity.")
        # PostgreSQL writes a large number without its exponent, and then it is read as a whole number.
        if abs(value) >= 1e16 and int(Decimal(repr(value))) != value:
            return _("PostgreSQL makes a whole number of this floating point number in JSON.")
    return None


# JSON's null, parents


def differing_fields(
    link: Link, model: ModelClass, instances: Mapping[str, Model], remote_pks: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return the names of the fields in which instances, with REMOTE's foreign keys, differ from REMOTE's rows."""
    pks = {each: remote_pks[each] for each in instances if each in remote_pks}
    if not pks:
        return {}
    theirs = {row.pk: row for row in model._base_manager.using(link.remote).filter(pk_among(model, pks.values()))}
    restore_json_null(link.remote, model, theirs.values())
    fields = [each for each in own_fields(model) if not each.primary_key and each.name not in skipped_fields(model)]
    return {
        each: [str(field.name) for field in fields if differs(field, instances[each], theirs[pk])]
        for each, pk in pks.items()
        if pk in theirs
    }


def differs(field: Field[Any, Any], ours: Model, theirs: Model) -> bool:
    """Tell whether two objects, of whichever vendors, have different values of a field as a person would say."""
    return not same(field, getattr(ours, field.attname), getattr(theirs, field.attname))


def same(field: Field[Any, Any], one: Any, other: Any) -> bool:
    """Tell whether two values of a field are the same, however two vendors write it down."""
    if one is None or other is None:
        return one is other
    if isinstance(field, JSONField):
        return _same_json(one, other)
    if isinstance(field, GenericIPAddressField) and one != other:
        # PostgreSQL writes the last half of an address as ::1.2.3.4 where Django writes ::102:304.
        one, other = map(field.to_python, (one, other))
    return _equal(one, other)


def _same_json(one: Any, other: Any) -> bool:
    """Compare JSON by value: 1 is 1.0, however a vendor writes a number down, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        return _equal(*map(_as_float, (one, other)))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_json, one, other))
    return _equal(one, other)


def _as_float(value: Any) -> Any:
    """Return a number as those vendors have it that keep JSON's numbers as floats."""
    try:
        return float(value) if isinstance(value, int) else value
    except OverflowError:
        return value


def _equal(one: Any, other: Any) -> bool:
    one, other = in_utc(one), in_utc(other)
    return bool(one == other or (one != one and other != other))  # NaN is the same value as NaN


def plain(field: Field[Any, Any], value: Any) -> Any:
    """Return a value as it is shown to people."""
    if isinstance(value, Value):
        return "JSON null"
    if isinstance(field, JSONField) and value is not None:
        return json.dumps(value, sort_keys=True, default=str)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value.name if isinstance(value, FieldFile) else in_utc(value)


def restore_json_null(using: str, model: ModelClass, instances: Collection[Any]) -> None:
    """Tell JSON's null from SQL's NULL in objects that were read from a database: Django reads both as None."""
    for field in model._meta.local_concrete_fields:
        if not isinstance(field, JSONField):
            continue
        empty = {each.pk: each for each in instances if getattr(each, field.attname) is None}
        for pk in _with_json_null(using, model, field, empty):
            setattr(empty[pk], field.attname, Value(None, JSONField()))


def point_parents(instance: Model) -> None:
    """Give the primary keys that a multi-table child inherits the values of its links to its parents."""
    for link in instance._meta.parents.values():
        if link is not None:
            setattr(instance, link.target_field.attname, getattr(instance, link.attname))  # type: ignore[attr-defined]


def _with_json_null(using: str, model: ModelClass, field: Any, pks: Collection[Any]) -> Collection[Any]:
    if not field.null or not pks:
        return pks
    rows = model._base_manager.using(using).filter(pk_among(model, pks), **{f"{field.name}__isnull": False})
    return rows.values_list("pk", flat=True)
