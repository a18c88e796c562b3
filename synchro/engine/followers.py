"""Rows that point to another column than the primary key (``to_field``): where its value changes, they follow.

On LOCAL such rows change in the transaction of what they point to, or the database would refuse it. On REMOTE they
come later, or were there before: so all of them follow at once, also those that only REMOTE has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, Field, Model, Value, When

from synchro.engine.link import Link, foreign_keys_unchecked
from synchro.engine.relations import Target, keys_there
from synchro.keys import pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.registry import ModelClass, is_watched, keys_to


@dataclass(slots=True)
class Moves:
    """The values that change and that rows may point to: by object id the field, its old and its new value."""

    of: dict[str, list[tuple[Field[Any, Any], Any, Any]]] = field(default_factory=dict)

    def by_field(self) -> dict[Field[Any, Any], dict[Any, Any]]:
        """Return the new values by field and old value."""
        found: dict[Field[Any, Any], dict[Any, Any]] = {}
        for moves in self.of.values():
            for each, old, new in moves:
                found.setdefault(each, {})[old] = new
        return found


def is_pointed_to(target: Field[Any, Any]) -> bool:
    """Tell whether a foreign key of any model points to this field, which is not the primary key."""
    return not target.primary_key and any(key.target_field is target for key in keys_to(target.model))


def moves(link: Link, model: ModelClass, instances: Mapping[str, Model]) -> Moves:
    """Return what changes when these instances, which have REMOTE's primary keys, are written over their rows."""
    found = Moves()
    fields = [each for each in model._meta.local_concrete_fields if is_pointed_to(each)]
    if not (fields and instances):
        return found
    pks = [instance.pk for instance in instances.values()]
    rows = model._base_manager.using(link.remote).filter(pk_among(model, pks))
    present = {pk: values for pk, *values in rows.values_list("pk", *(each.attname for each in fields))}
    for object_id, instance in instances.items():
        for each, old in zip(fields, present.get(instance.pk, ()), strict=False):
            new = getattr(instance, each.attname)
            if None not in (old, new) and old != new:
                found.of.setdefault(object_id, []).append((each, old, new))
    return found


def follow(link: Link, model: ModelClass, moves: Moves) -> set[Target]:
    """Give REMOTE's rows the new values of what they point to, which gets them in the same transaction.

    Returns:
        LOCAL's objects that have an old value still, which is another object's now: they are logged, to be brought.
    """
    by_field = moves.by_field()
    staying: set[Target] = set()
    for key in keys_there(link, model) if by_field else ():
        values = by_field.get(key.target_field)
        if values is None:
            continue
        name, manager = key.attname, key.model._base_manager
        changes = [When(**{name: old}, then=Value(new, key.target_field)) for old, new in values.items()]
        with foreign_keys_unchecked(link.remote):
            rows = manager.using(link.remote).filter(**{f"{name}__in": list(values)})
            rows.update(**{name: Case(*changes, output_field=key.target_field)})
        if is_watched(key.model):
            holder = key.model._meta.concrete_model
            pks = manager.using(link.local).filter(**{f"{name}__in": list(values)}).values_list("pk", flat=True)
            object_ids = [pk_to_text(holder, pk) for pk in pks]
            ChangeLog.objects.using(link.local).append_changes(holder, object_ids)
            staying |= {(holder, each) for each in object_ids}
    return staying
