"""Unique values that wander between objects: REMOTE's rows make way for each other inside one transaction.

Two objects that have swapped a unique value cannot be written one after the other, nor by one statement: every vendor
checks unique values row by row (https://www.postgresql.org/docs/current/sql-createtable.html, "Non-Deferred Uniqueness
Constraints"; https://dev.mysql.com/doc/refman/8.4/en/ansi-diff-foreign-keys.html). So the rows that stand in the way
give their value up first, for a temporary one, and get their new value before REMOTE's transaction commits. Only rows
that are overwritten anyway make way, so that a temporary value is never committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, reduce
from itertools import chain
from operator import or_
from typing import Any

from django.db import IntegrityError, connections
from django.db.models import Field, Model, Q, UniqueConstraint

from synchro.engine.apply import Plan
from synchro.engine.errors import is_of_one_row
from synchro.engine.followers import is_pointed_to
from synchro.engine.link import Link, foreign_keys_unchecked
from synchro.engine.relations import translate
from synchro.engine.resolve import owners_by_key
from synchro.engine.steps import Step
from synchro.engine.temporary import can_be_temporary, free
from synchro.exceptions import UniqueValueTaken
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.registry import ModelClass, model_label
from synchro.rows import batched

#: Alternatives in one WHERE or CASE. SQLite parses an expression at most 1,000 levels deep:
#: https://www.sqlite.org/limits.html
_AT_ONCE, _AT_ONCE_ON_SQLITE = 1000, 400
#: An object is not brought together with more others than this.
_MAX_GROUP = 20_000
_NEVER = 3


@dataclass(frozen=True)
class UniqueSet:
    """Fields whose values together belong to one row only."""

    fields: tuple[Field[Any, Any], ...]
    #: Rows to which it applies.
    condition: Q | None = None
    nulls_distinct: bool = True

    @property
    def names(self) -> str:
        """The fields as a message names them."""
        return ", ".join(each.name for each in self.fields)

    @property
    def parked(self) -> Field[Any, Any] | None:
        """The field that a temporary value goes to; None where there is none for any of them."""
        field = min(self.fields, key=self._reluctance)
        return field if self._reluctance(field) < _NEVER else None

    def values(self, instance: Model) -> tuple[Any, ...] | None:
        """Return the values that an instance wants for itself; None where it wants none."""
        values = tuple(getattr(instance, each.attname) for each in self.fields)
        return None if self.nulls_distinct and None in values else values

    def shown(self, instance: Model) -> str:
        """Return the fields with an instance's values as a person reads them."""
        return ", ".join(f"{each.name}={getattr(instance, each.attname)!r}" for each in self.fields)

    def among(self, wanted: Iterable[tuple[Any, ...]]) -> Q:
        """Return the condition that a row has one of the wanted values."""
        return reduce(or_, (self._equal(values) for values in wanted)) & (self.condition or Q())

    def _equal(self, values: tuple[Any, ...]) -> Q:
        lookups: dict[str, Any] = {}
        for each, value in zip(self.fields, values, strict=True):
            lookups |= {f"{each.attname}__isnull": True} if value is None else {each.attname: value}
        return Q(**lookups)

    def _reluctance(self, field: Field[Any, Any]) -> int:
        if self.takes_null(field):
            return 0
        if not can_be_temporary(field):
            return _NEVER
        return 1 if field.remote_field is None else 2

    def takes_null(self, field: Field[Any, Any]) -> bool:
        """Tell whether NULL in the field keeps rows apart."""
        return field.null and self.nulls_distinct

    def applies_to(self, instance: Model, using: str) -> bool:
        """Tell whether the condition holds for an instance."""
        if self.condition is None:
            return True
        against = instance._get_field_expression_map(instance._meta)  # type: ignore[attr-defined]
        return self.condition.check(against, using=using)


#: The REMOTE rows, by primary key, that have what an object wants, and the unique set in which they have it.
InTheWay = dict[str, list[tuple[UniqueSet, Any]]]


def may_make_way(step: Step, error: Exception) -> bool:
    """Tell whether an error may be that unique values wander between objects."""
    is_possible = isinstance(error, IntegrityError) and not is_of_one_row(error)
    return is_possible and not step.makes_way and bool(unique_sets(step.model))


def make_way(link: Link, model: ModelClass, plan: Plan) -> tuple[set[str], dict[str, UniqueValueTaken]]:
    """Let the rows that a plan overwrites give up the values that other objects of the plan want.

    Returns:
        The objects whose rows have a temporary value now, and those that cannot be written because a row that the plan
        does not touch has what they want. These are taken out of the plan.
    """
    own = {each: instance.pk for each, instance in plan.updates.items()}
    instances = plan.inserts | plan.updates
    blocked = in_the_way(link, model, instances, own)
    taken: dict[str, UniqueValueTaken] = {}
    while True:
        moving = {*plan.deletes.values(), *(pk for each, pk in own.items() if each not in taken)}
        stuck = {
            each: UniqueValueTaken(_sentence(model, unique, pk), values=unique.shown(instances[each]))
            for each, rows in blocked.items()
            if each not in taken
            for unique, pk in rows
            if pk not in moving or unique.parked is None
        }
        if not stuck:
            break
        taken |= stuck
    for each in taken:
        plan.inserts.pop(each, None)
        plan.updates.pop(each, None)
    objects = {pk: each for each, pk in own.items() if each not in taken}
    parked: dict[UniqueSet, set[Any]] = {}
    for each, rows in blocked.items():
        for unique, pk in rows if each not in taken else ():
            if pk in objects:
                parked.setdefault(unique, set()).add(pk)
    for unique, pks in parked.items():
        _park(link, model, unique, list(pks))
    return {objects[pk] for pks in parked.values() for pk in pks}, taken


def together(link: Link, model: ModelClass, object_ids: Sequence[str]) -> list[str]:
    """Return the objects and, in turn, those of their model whose REMOTE rows have the unique values that they want.

    Only objects count that are about to give their value up: they have a pending entry, or LOCAL's object differs from
    its copy although nothing told so. Such a one gets an entry.
    """
    found = dict.fromkeys(object_ids)
    newest = list(found)
    while newest and len(found) < _MAX_GROUP:
        instances = _wanting(link, model, newest)
        rows: dict[Any, list[UniqueSet]] = {}
        for unique, pk in chain.from_iterable(in_the_way(link, model, instances, {}).values()):
            rows.setdefault(pk, []).append(unique)
        owners = owners_by_key(link, model, rows)
        holders = {owner: pk for pk, owner in owners.items() if owner not in found}
        newest = _giving_up(link, model, holders, rows)
        found |= dict.fromkeys(newest)
    return list(found)


def in_the_way(link: Link, model: ModelClass, instances: Mapping[str, Model], own: Mapping[str, Any]) -> InTheWay:
    """Find the REMOTE rows that have unique values which instances with REMOTE's foreign keys want.

    Args:
        own: the primary keys of the instances' own rows on REMOTE, by object id.
    """
    found: InTheWay = {}
    for unique in unique_sets(model):
        wanted: dict[tuple[Any, ...], list[str]] = {}
        for each, instance in instances.items():
            values = unique.values(instance)
            if values is not None and unique.applies_to(instance, link.remote):
                wanted.setdefault(values, []).append(each)
        for values, pk in _rows_with(link, model, unique, list(wanted)):
            for each in wanted[values]:
                if own.get(each) != pk:
                    found.setdefault(each, []).append((unique, pk))
    return found


@cache
def unique_sets(model: ModelClass) -> tuple[UniqueSet, ...]:
    """Return the sets of fields of the model's own table that are unique; not the primary key, nor expressions."""
    meta = model._meta
    own = {each.name: each for each in meta.local_concrete_fields if not each.generated}
    single = [UniqueSet((each,)) for each in own.values() if each.unique and not each.primary_key]
    several = [(names, None, True) for names in meta.unique_together] + [
        (constraint.fields, constraint.condition, constraint.nulls_distinct is not False)
        for constraint in meta.constraints
        if isinstance(constraint, UniqueConstraint) and constraint.fields
    ]
    return (
        *single,
        *(
            UniqueSet(tuple(own[name] for name in names), condition, nulls_distinct)
            for names, condition, nulls_distinct in several
            if all(name in own for name in names)
        ),
    )


def _rows_with(
    link: Link, model: ModelClass, unique: UniqueSet, wanted: list[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield wanted values that rows on REMOTE have, and the rows' primary keys."""
    known = set(wanted)
    names = [each.attname for each in unique.fields]
    for some in batched(wanted, _at_once(link.remote)):
        rows = model._base_manager.using(link.remote).filter(unique.among(some))
        for pk, *row in rows.values_list("pk", *names):
            if (values := tuple(row)) in known:
                yield values, pk
                continue
            # A collation takes it for one of them; the server knows for which.
            same = model._base_manager.using(link.remote).filter(pk=pk)
            yield from ((each, pk) for each in some if same.filter(unique.among([each])).exists())


def _wanting(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Model]:
    """Return LOCAL's newest state of objects, with REMOTE's foreign keys where these are known."""
    pks = [pk_from_text(model, each) for each in object_ids]
    rows = model._base_manager.using(link.local).filter(pk_among(model, pks))
    instances = {pk_to_text(model, instance.pk): instance for instance in rows}
    translation = translate(link, model, instances)
    for each, instance in instances.items():
        unknown = dict.fromkeys(translation.missing.get(each, ()))
        for name, value in (translation.values.get(each, {}) | unknown).items():
            setattr(instance, name, value)
    return instances


def _giving_up(
    link: Link, model: ModelClass, holders: Mapping[str, Any], rows: Mapping[Any, list[UniqueSet]]
) -> list[str]:
    """Return the objects that will give up the unique values of their REMOTE rows once they are brought there."""
    log = ChangeLog.objects.using(link.local)
    pending = set(log.pending().of_objects(model, list(holders)).values_list("object_id", flat=True))
    changed = _wanting(link, model, [each for each in holders if each not in pending])
    copies = model._base_manager.using(link.remote).in_bulk([holders[each] for each in changed])
    untold = [
        each
        for each, instance in changed.items()
        if (copy := copies.get(holders[each]))
        and any(unique.values(copy) != unique.values(instance) for unique in rows[copy.pk])
    ]
    log.append_changes(model, untold)
    return [*pending, *untold]


def _sentence(model: ModelClass, unique: UniqueSet, pk: Any) -> str:
    return (
        f"REMOTE's {model_label(model)} {pk_to_text(model, pk)} has the same {unique.names}, which must be unique, "
        "and does not give it up. Change one of the two."
    )


# Temporary values


def _park(link: Link, model: ModelClass, unique: UniqueSet, pks: Collection[Any]) -> None:
    """Give rows temporary values that no other row has."""
    field: Any = unique.parked
    rows = model._base_manager.using(link.remote)
    is_key = field.remote_field is not None or is_pointed_to(field)
    with foreign_keys_unchecked(link.remote) if is_key else nullcontext():
        if unique.takes_null(field):
            rows.filter(pk__in=list(pks)).update(**{field.attname: None})
            return
        values = free(link.remote, model, field, len(pks))
        stand_ins = [model(pk=pk, **{field.attname: value}) for pk, value in zip(pks, values, strict=True)]
        rows.bulk_update(stand_ins, [field.name], batch_size=_at_once(link.remote))


def _at_once(using: str) -> int:
    return _AT_ONCE_ON_SQLITE if connections[using].vendor == "sqlite" else _AT_ONCE
