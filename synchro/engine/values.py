"""Values that an instance alone does not tell as the database holds them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import JSONField, Model, Value

from synchro.lookups import pk_among
from synchro.registry import ModelClass


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
