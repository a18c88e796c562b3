"""Primary keys as text and natural keys as JSON: the two forms in which the log names objects."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import CompositePrimaryKey, Field

from synchro.exceptions import BadObjectId
from synchro.registry import ModelClass, model_label

MAX_LENGTH = 255
#: So much of a wrong text is told: a message in the queue may be of any length.
_QUOTED = 100


def pk_to_text(model: ModelClass, pk: Any) -> str:
    """Return the text of a primary key; a composite one is a JSON list of the texts of its parts."""
    field = model._meta.pk
    if isinstance(field, CompositePrimaryKey):
        return json.dumps([_to_text(part, value) for part, value in zip(field.fields, pk, strict=True)])
    return _to_text(field, pk)


def pk_from_text(model: ModelClass, text: str) -> Any:
    """Return the primary key that the text stands for.

    Raises:
        BadObjectId: the text is no primary key of this model.
    """
    field = model._meta.pk
    try:
        if not isinstance(field, CompositePrimaryKey):
            return _from_text(field, text)
        return tuple(_from_text(part, item) for part, item in zip(field.fields, json.loads(text), strict=True))
    except (ValidationError, ValueError, TypeError):
        raise BadObjectId(
            f"{text[:_QUOTED]!r} is no primary key of {model_label(model)}. Discard the log entry."
        ) from None


def natural_key_to_json(values: Any) -> list[Any]:
    """Return a natural key in a form that JSON keeps; dates, decimals and UUIDs become text that fields read back."""
    return [_to_json(value) for value in values]


def _target(field: Any) -> Field[Any, Any]:
    while field.remote_field is not None:
        field = field.target_field
    return field


def _to_text(field: Any, value: Any) -> str:
    target = _target(field)
    python = target.to_python(value)
    return python.isoformat() if hasattr(python, "isoformat") else str(python)


def _from_text(field: Any, text: str) -> Any:
    value = _target(field).to_python(text)
    if value is None:
        raise ValueError
    return value


def _to_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return natural_key_to_json(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    try:
        return DjangoJSONEncoder().default(value)
    except TypeError:
        return str(value)
