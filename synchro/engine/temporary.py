"""Values that stand in until a transaction's end."""

from __future__ import annotations

import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from random import choices, getrandbits, random, randrange
from typing import Any

from django.conf import settings
from django.db import connections, models
from django.db.models import Field, Model

from synchro.exceptions import UniqueValueTaken

_LETTERS = string.ascii_lowercase + string.digits
#: How often values are drawn until enough of them are free.
_ROUNDS = 20


def can_be_temporary(field: Field[Any, Any]) -> bool:
    """Tell whether there are temporary values of a field."""
    return isinstance(_target(field), tuple(_TEMPORARY))


def temporary(using: str, field: Field[Any, Any]) -> Any:
    """Return a value that hardly any other row has in the field: it stands there until the transaction's end."""
    target = _target(field)
    return next(make(using, target) for kind, make in _TEMPORARY.items() if isinstance(target, kind))


def free(using: str, model: type[Model], field: Field[Any, Any], count: int) -> list[Any]:
    """Return so many different values that no row of the database has in the field.

    Raises:
        UniqueValueTaken: there are hardly that many.
    """
    rows = model._base_manager.using(using)
    found: set[Any] = set()
    for _ in range(_ROUNDS):
        drawn = {temporary(using, field) for _ in range(count)} - found
        taken = rows.filter(**{f"{field.attname}__in": drawn}).values_list(field.attname, flat=True)
        found |= drawn - {_folded(each) for each in taken}
        if len(found) >= count:
            return list(found)[:count]
    raise UniqueValueTaken


def _folded(value: Any) -> Any:
    """Return the value as it was drawn, whatever the database's collation takes for the same."""
    return value.lower() if isinstance(value, str) else value


def _target(field: Any) -> Field[Any, Any]:
    while field.remote_field is not None:
        field = field.target_field
    return field


def _integer(using: str, field: Any) -> int:
    least, most = connections[using].ops.integer_field_range(field.get_internal_type())
    bounds = -(2**31) if least is None else least, 2**31 - 1 if most is None else most
    return randrange(bounds[0], bounds[1])


def _decimal(using: str, field: Any) -> Decimal:
    digits = min(field.max_digits, 15)  # more are not exact on SQLite
    return Decimal(randrange(10**digits)).scaleb(-field.decimal_places)


def _text(using: str, field: Any) -> str:
    return "".join(choices(_LETTERS, k=min(field.max_length or 32, 32)))


def _address(using: str, field: Any) -> str:
    return str(IPv4Address(getrandbits(32)) if field.protocol.lower() == "ipv4" else IPv6Address(getrandbits(128)))


def _moment(using: str, field: Any) -> datetime:
    """Return a moment from year 1000, MariaDB's first one, to 9000."""
    moment = datetime(1000, 1, 1) + timedelta(microseconds=randrange(8000 * 365 * 86_400_000_000))
    return moment.replace(tzinfo=UTC) if settings.USE_TZ else moment


#: How to make a value of a field that hardly any other row has.
_TEMPORARY: dict[type[Field[Any, Any]], Callable[[str, Any], Any]] = {
    models.IntegerField: _integer,
    models.DecimalField: _decimal,
    models.FloatField: lambda using, field: random() * 1e15,
    models.UUIDField: lambda using, field: uuid.uuid4(),
    models.CharField: _text,
    models.TextField: _text,
    models.GenericIPAddressField: _address,
    models.DateTimeField: _moment,
    models.DateField: lambda using, field: _moment(using, field).date(),
    models.TimeField: lambda using, field: _moment(using, field).time(),
    models.DurationField: lambda using, field: timedelta(microseconds=randrange(10**15)),
    models.BinaryField: lambda using, field: uuid.uuid4().bytes,
}
