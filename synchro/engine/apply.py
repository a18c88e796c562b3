"""Writing and deleting on REMOTE.

Where a project listens to a model's signals its handlers are called around each object, as 0.x promises, and an object
whose handler or statement fails is undone alone. Where nobody listens, the batch is written with one statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import or_
from typing import Any

from django.db import connections, transaction
from django.db.models import Field, Model, ProtectedError, Q, RestrictedError
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal

from synchro import rows
from synchro.capture import Row, is_own, noting_saves, rows_of
from synchro.engine.errors import Kind, is_outage, kind
from synchro.engine.link import Link
from synchro.engine.relations import keys_there
from synchro.exceptions import HeldByRemoteRows
from synchro.refusals import Refusals
from synchro.registry import ModelClass, has_auto_pk, keys_to, model_label, own_fields, skipped_fields
from synchro.rows import batched

#: In so many parts are objects written of which one is refused.
_PARTS = 8


@dataclass(slots=True)
class Plan:
    """What is to be written for a batch of objects of one model, by object id."""

    inserts: dict[str, Model] = field(default_factory=dict)
    updates: dict[str, Model] = field(default_factory=dict)
    #: REMOTE's primary keys of the rows to delete.
    deletes: dict[str, Any] = field(default_factory=dict)
    #: Those to delete with Django's cascade, because REMOTE has rows of its own that point to them.
    cascades: set[str] = field(default_factory=set)
    #: Those whose handlers are not called, and those whose handlers hear of a change where a row is added.
    unheard: set[str] = field(default_factory=set)
    heard_as_changed: set[str] = field(default_factory=set)
    #: REMOTE's rows that handlers have saved, after the engine if it wrote them too.
    handled: set[Row] = field(default_factory=set)
    #: Write nothing where one of several objects to add or to change is refused.
    as_a_whole: bool = False
    #: Whether to do so because of an error, which something else than leaving the object out may cure.
    gives_up: Callable[[Exception], bool] = lambda error: False

    def __len__(self) -> int:
        return len(self.inserts) + len(self.updates) + len(self.deletes)


def write(link: Link, model: ModelClass, plan: Plan) -> dict[str, Exception]:
    """Carry out the plan on REMOTE; deletes first, because what is added may need their unique values.

    The instances hold REMOTE's values and, afterwards, REMOTE's primary keys.

    Returns:
        The errors of single objects that were undone. An error that concerns all of them, or the only one, is raised.
    """
    alone = {each: pk for each, pk in plan.deletes.items() if each not in plan.cascades}
    cascades = {each: pk for each, pk in plan.deletes.items() if each in plan.cascades}
    failures = _each(link, plan, cascades, lambda _, pk: _delete_cascading(link, model, pk))
    if is_listened(model, pre_delete, post_delete):
        failures |= _each(link, plan, alone, lambda _, pk: _delete_announced(link, model, pk))
    else:
        _delete(link, model, list(alone.values()))
    if is_listened(model, pre_save, post_save):
        failures |= _each(link, plan, plan.inserts | plan.updates, partial(_save, link, model, plan))
    elif plan.as_a_whole or len(plan) == 1:
        _insert(link, model, list(plan.inserts.values()))
        update(link, model, list(plan.updates.values()))
    else:
        failures |= _in_parts(link, plan, plan.inserts, partial(_insert, link, model))
        failures |= _in_parts(link, plan, plan.updates, partial(update, link, model))
    return failures


def is_listened(sender: ModelClass, *signals: Signal) -> bool:
    """Tell whether anybody but the log receives one of the signals from the sender."""
    return any(not is_own(receiver) for signal in signals for receiver in _receivers(signal, sender))


def _in_parts(
    link: Link, plan: Plan, instances: Mapping[str, Model], write_all: Callable[[Sequence[Model], Refusals], None]
) -> dict[str, Exception]:
    """Write all at once and return who is refused; where the vendor does not tell, write ever smaller parts.

    Only the statements are repeated, not what the batch has locked, read and decided.
    """

    def is_of_object(error: Exception) -> bool:
        return not (is_outage(error) or kind(error) is Kind.SCHEMA or plan.gives_up(error))

    failures: dict[str, Exception] = {}
    parts = [list(instances)]
    while parts:
        part = parts.pop()
        refusals = Refusals(is_of_object)
        try:
            with transaction.atomic(using=link.remote):
                write_all([instances[each] for each in part], refusals)
        except Exception as error:
            if not is_of_object(error):
                raise
            if len(part) == 1:
                failures[part[0]] = error
            else:
                parts += batched(part, -(-len(part) // _PARTS))
        else:
            failures |= {part[position]: error for position, error in refusals.items()}
    return failures


def _insert(link: Link, model: ModelClass, instances: Sequence[Model], refusals: Refusals | None = None) -> None:
    if not instances:
        return
    if has_auto_pk(model):
        auto: Any = model._meta.auto_field
        fields = rows.insertable(model)
        pks = rows.insert_returning(
            model, instances, using=link.remote, fields=fields, returning=auto, refusals=refusals
        )
        inserted = [each for position, each in enumerate(instances) if position not in (refusals or ())]
        for instance, pk in zip(inserted, pks, strict=True):
            instance.pk = pk
    else:
        rows.insert(model, instances, using=link.remote, refusals=refusals)
    for instance in instances:
        instance._state.adding = False


def update(link: Link, model: ModelClass, instances: Sequence[Model], refusals: Refusals | None = None) -> None:
    """Overwrite rows that are locked, and therefore there: the INSERT that this begins as never inserts.

    It finds each row by its key; a join with the new values is at the mercy of what the planner thinks of the table.
    """
    key = primary_key_fields(model)
    skipped = skipped_fields(model)
    update = [each for each in own_fields(model) if each not in key and each.name not in skipped]
    if instances and update:
        fields = own_fields(model)
        rows.upsert(model, instances, using=link.remote, fields=fields, unique=key, update=update, refusals=refusals)


def _delete(link: Link, model: ModelClass, pks: Sequence[Any]) -> None:
    if not pks:
        return
    if not connections[link.remote].features.can_defer_constraint_checks:
        # Vendors that check row by row refuse to delete a row that points to itself, or to one that comes later:
        # https://dev.mysql.com/doc/refman/8.4/en/ansi-diff-foreign-keys.html
        release(link, model, pks, only_to_itself=True)
    if any(key.model._meta.auto_created for key in keys_to(model)):
        _delete_links(link, model, pks)
    model._base_manager.using(link.remote).filter(pk__in=pks)._raw_delete(link.remote)


def _delete_links(link: Link, model: ModelClass, pks: Sequence[Any]) -> None:
    """Delete the rows of automatic many-to-many tables, which belong to the objects."""
    for key in keys_there(link, model):
        if key.model._meta.auto_created:
            links = key.model._base_manager.using(link.remote).filter(**{f"{key.name}__in": pks})
            links._raw_delete(link.remote)


def _delete_cascading(link: Link, model: ModelClass, pk: Any) -> None:
    """Delete a row as Django does, with what hangs on it; a multi-table parent has an entry of its own."""
    instance = model._base_manager.using(link.remote).get(pk=pk)
    collector = Collector(using=link.remote, origin=instance)
    try:
        collector.collect([instance], keep_parents=True)
    except (ProtectedError, RestrictedError) as error:
        objects = error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
        labels = ", ".join(sorted({model_label(type(each)) for each in objects}))
        raise HeldByRemoteRows(
            f"Rows that exist only on REMOTE protect the object ({labels}), so it is not deleted there. "
            "Move or delete those rows on REMOTE."
        ) from None
    collector.delete()


def goes_together(link: Link, model: ModelClass) -> bool:
    """Tell whether rows of the model that point to each other can be deleted with one statement."""
    to_itself = [key for key in keys_to(model) if key.model is model]
    return connections[link.remote].features.can_defer_constraint_checks or all(key.null for key in to_itself)


def release(link: Link, model: ModelClass, pks: Sequence[Any], *, only_to_itself: bool = False) -> bool:
    """Empty the nullable foreign keys of rows that are about to be deleted; tell whether any were not empty before."""
    keys = [
        key
        for key in model._meta.local_concrete_fields
        if key.remote_field is not None and key.null and not (only_to_itself and key.related_model is not model)
    ]
    if not (keys and pks):
        return False
    filled = reduce(or_, (Q(**{f"{key.name}__isnull": False}) for key in keys))
    rows_to_delete = model._base_manager.using(link.remote).filter(filled, pk__in=pks)
    return rows_to_delete.update(**{key.attname: None for key in keys}) > 0


def primary_key_fields(model: ModelClass) -> list[Field[Any, Any]]:
    """Return the fields that make the primary key."""
    pk: Any = model._meta.pk
    fields: list[Field[Any, Any]] = list(getattr(pk, "fields", [pk]))
    return fields


# With handlers


def _receivers(signal: Signal, sender: ModelClass) -> list[Callable[..., Any]]:
    sync, asynchronous = signal._live_receivers(sender)
    return [*sync, *asynchronous]


def _each(
    link: Link, plan: Plan, items: Mapping[str, Any], write_one: Callable[[str, Any], None]
) -> dict[str, Exception]:
    failures: dict[str, Exception] = {}
    for object_id, item in items.items():
        try:
            with transaction.atomic(using=link.remote), noting_saves(link.remote) as saved:
                write_one(object_id, item)
        except Exception as error:
            if is_outage(error):
                raise
            failures[object_id] = error
        else:
            own = rows_of(item) if isinstance(item, Model) else []
            # What the engine announces is noted, too, once.
            plan.handled = plan.handled.difference(own) | (Counter(saved) - Counter(own)).keys()
    return failures


def _save(link: Link, model: ModelClass, plan: Plan, object_id: str, instance: Model) -> None:
    """Write an object, and tell its handlers what Django has told of it on LOCAL."""
    is_new = object_id in plan.inserts
    is_heard = object_id not in plan.unheard
    created = is_new and object_id not in plan.heard_as_changed
    arguments = {"sender": model, "instance": instance, "raw": False, "using": link.remote, "update_fields": None}
    instance._state.adding = created
    if is_heard:
        pre_save.send(**arguments)
    if is_new:
        _insert(link, model, [instance])
    else:
        update(link, model, [instance])
    if is_heard:
        post_save.send(created=created, **arguments)


def _delete_announced(link: Link, model: ModelClass, pk: Any) -> None:
    instance = model._base_manager.using(link.remote).get(pk=pk)
    arguments = {"sender": model, "instance": instance, "using": link.remote, "origin": instance}
    pre_delete.send(**arguments)
    _delete(link, model, [pk])
    post_delete.send(**arguments)
