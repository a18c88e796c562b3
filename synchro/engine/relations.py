"""What must exist on REMOTE before an object can: the targets of its foreign keys, and the members of its relations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Model

from synchro.engine.link import Link
from synchro.engine.resolve import find, owners_of
from synchro.exceptions import DanglingRelation
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.registry import ModelClass, is_watched, keeps_pk, keys_to, model_label, skipped_fields

#: How many rows that hold back deletes are read of one relation: enough to see who must go first.
_MAX_HOLDERS = 1000

#: An object by model and object id.
Target = tuple[ModelClass, str]


@dataclass(slots=True)
class Translation:
    """The REMOTE values of a batch's foreign keys, by object id and attribute."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Targets that REMOTE does not have yet, with the attributes that point to them.
    missing: dict[str, dict[str, Target]] = field(default_factory=dict)
    #: Targets that LOCAL does not have either, which no constraint forbids: their models.
    dangling: dict[str, dict[str, ModelClass]] = field(default_factory=dict)
    problems: dict[str, DanglingRelation] = field(default_factory=dict)
    #: Targets whose counterparts were found by a key and are not remembered yet: REMOTE's keys.
    discovered: dict[ModelClass, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holder:
    """A REMOTE row that points to another one and so keeps it from being deleted."""

    model: ModelClass
    pk: Any


@dataclass(frozen=True, slots=True)
class Pointer:
    """One attribute of one object that holds the key of another object."""

    object_id: str
    attname: str
    value: Any


def translate(link: Link, model: ModelClass, instances: Mapping[str, Model]) -> Translation:
    """Find the REMOTE values of all foreign keys, also generic ones, of a batch of LOCAL objects."""
    translation = Translation()
    skipped = skipped_fields(model)
    for key in model._meta.concrete_fields:
        if key.remote_field is None or key.name in skipped:
            continue
        pointers = [
            Pointer(each, key.attname, value)
            for each, instance in instances.items()
            if (value := getattr(instance, key.attname)) is not None
        ]
        target: Any = key.related_model._meta.concrete_model  # type: ignore[union-attr]
        _translate(link, target, key.target_field, pointers, translation)  # type: ignore[attr-defined]
        if not key.db_constraint:  # type: ignore[attr-defined]
            _note_dangling(link, target, pointers, translation)
    for generic in model._meta.private_fields:
        if isinstance(generic, GenericForeignKey) and generic.fk_field not in skipped:
            _translate_generic(link, model, generic, instances, translation)
    return translation


def discover(link: Link, model: ModelClass, object_ids: Collection[str], translation: Translation) -> dict[str, Any]:
    """Return REMOTE's primary keys of LOCAL objects as far as it has them; note the ones that no side remembers."""
    found = find(link, model, object_ids)
    if model is not ContentType:
        remembered = found.remembered()
        for each, pk in found.pks.items():
            if remembered.get(each) != (text := pk_to_text(model, pk)):
                translation.discovered.setdefault(model, {})[each] = text
    return found.pks


def missing_parents(link: Link, model: ModelClass, object_ids: Collection[str]) -> set[Target]:
    """Return what LOCAL objects point to within their own model and REMOTE lacks."""
    if not any(key.related_model is model for key in model._meta.concrete_fields):
        return set()
    pks = [pk_from_text(model, each) for each in object_ids]
    rows = model._base_manager.using(link.local).filter(pk_among(model, pks))
    missing = translate(link, model, {pk_to_text(model, each.pk): each for each in rows}).missing
    return {target for targets in missing.values() for target in targets.values() if target[0] is model}


def keys_there(link: Link, model: ModelClass) -> list[Any]:
    """Return the foreign keys of any model that point to the model's own table and whose tables REMOTE has."""
    keys = list(keys_to(model))
    tables = set(connections[link.remote].introspection.table_names()) if keys else set()
    return [key for key in keys if key.model._meta.db_table in tables]


def pointing_to(link: Link, model: ModelClass, remote_pks: Mapping[str, Any]) -> dict[str, list[Holder]]:
    """Return the REMOTE rows that point to the counterparts of LOCAL objects, at most _MAX_HOLDERS of each relation.

    Rows of automatic many-to-many tables do not count: they belong to the object.
    """
    holders: dict[str, list[Holder]] = {}
    owners = {pk: each for each, pk in remote_pks.items()}
    for key in keys_there(link, model) if owners else ():
        if key.model._meta.auto_created:
            continue
        rows = key.model._base_manager.using(link.remote).filter(**{f"{key.name}__in": owners})
        found = list(rows.values_list("pk", f"{key.name}__pk")[:_MAX_HOLDERS])
        model_of_key = key.model._meta.concrete_model
        # Where no constraint forbids it, LOCAL's rows may go on pointing to what is gone, and so may their copies.
        ours = {} if key.db_constraint else owners_of(link, model_of_key, [holder for holder, _ in found])
        for holder, target in found:
            if holder not in ours:
                holders.setdefault(owners[target], []).append(Holder(model_of_key, holder))
    return holders


def unsettled_among(link: Link, holders: Collection[Holder]) -> dict[Holder, Target]:
    """Return the LOCAL objects with changes owed to REMOTE whose counterparts are among these REMOTE rows, by row."""
    found: dict[Holder, Target] = {}
    for model in {holder.model for holder in holders}:
        pks = [holder.pk for holder in holders if holder.model is model]
        owners = owners_of(link, model, pks)
        if keeps_pk(model):
            owners = {pk: pk_to_text(model, pk) for pk in pks} | owners
        log = ChangeLog.objects.using(link.local).unsettled().of_objects(model, set(owners.values()))
        unsettled = set(log.values_list("object_id", flat=True))
        found |= {Holder(model, pk): (model, owner) for pk, owner in owners.items() if owner in unsettled}
    return found


def living_among(link: Link, holders: Collection[Holder]) -> dict[Holder, Target]:
    """Return the watched objects that LOCAL has and whose counterparts are among these REMOTE rows, by row."""
    found: dict[Holder, Target] = {}
    for model in {holder.model for holder in holders if is_watched(holder.model)}:
        owners = owners_of(link, model, [holder.pk for holder in holders if holder.model is model])
        pks = [pk_from_text(model, owner) for owner in owners.values()]
        rows = model._base_manager.using(link.local).filter(pk_among(model, pks))
        living = {pk_to_text(model, pk) for pk in rows.values_list("pk", flat=True)}
        found |= {Holder(model, pk): (model, owner) for pk, owner in owners.items() if owner in living}
    return found


def _translate(
    link: Link, target: ModelClass, target_field: Any, pointers: Collection[Pointer], translation: Translation
) -> None:
    if not pointers:
        return
    values = {pointer.value for pointer in pointers}
    texts = _object_ids(link, target, target_field, values)
    pks = discover(link, target, sorted(set(texts.values())), translation)
    remote = _remote_values(link, target, target_field, pks)
    for pointer in pointers:
        text = texts.get(pointer.value)
        if text is None:
            translation.problems[pointer.object_id] = dangling(target, pointer.attname)
        elif text in remote:
            translation.values.setdefault(pointer.object_id, {})[pointer.attname] = remote[text]
        else:
            translation.missing.setdefault(pointer.object_id, {})[pointer.attname] = (target, text)


def _translate_generic(
    link: Link, model: ModelClass, generic: GenericForeignKey, instances: Mapping[str, Model], translation: Translation
) -> None:
    type_attname = model._meta.get_field(generic.ct_field).attname  # type: ignore[union-attr]
    field: Any = model._meta.get_field(generic.fk_field)
    by_type: dict[Any, list[Pointer]] = {}
    for each, instance in instances.items():
        type_id, value = getattr(instance, type_attname), getattr(instance, generic.fk_field)
        if type_id is not None and value is not None:
            by_type.setdefault(type_id, []).append(Pointer(each, generic.fk_field, value))
    for type_id, pointers in by_type.items():
        target = ContentType.objects.db_manager(link.local).get_for_id(type_id).model_class()
        if target is not None:
            concrete: Any = target._meta.concrete_model
            _translate(link, concrete, concrete._meta.pk, pointers, translation)
            _note_dangling(link, concrete, pointers, translation)
            for pointer in pointers:
                values = translation.values.get(pointer.object_id, {})
                if generic.fk_field in values:
                    values[generic.fk_field] = field.to_python(values[generic.fk_field])


def _note_dangling(link: Link, target: ModelClass, pointers: Collection[Pointer], translation: Translation) -> None:
    """Where no constraint forbids it, objects may point to what LOCAL does not have any more: nobody waits for it."""
    lacking = [each for each in pointers if each.attname in translation.missing.get(each.object_id, ())]
    if not lacking:
        return
    pks = [pk_from_text(target, translation.missing[each.object_id][each.attname][1]) for each in lacking]
    rows = target._base_manager.using(link.local).filter(pk_among(target, pks))
    here = {pk_to_text(target, pk) for pk in rows.values_list("pk", flat=True)}
    for each in lacking:
        if translation.missing[each.object_id][each.attname][1] in here:
            continue
        del translation.missing[each.object_id][each.attname]
        if keeps_pk(target):
            translation.values.setdefault(each.object_id, {})[each.attname] = each.value
        else:
            translation.dangling.setdefault(each.object_id, {})[each.attname] = target


def _object_ids(link: Link, target: ModelClass, target_field: Any, values: Iterable[Any]) -> dict[Any, str]:
    """Return the object ids of the targets that foreign keys with these values point to."""
    if target_field.primary_key:
        return {value: pk_to_text(target, value) for value in values}
    rows = target._base_manager.using(link.local).filter(**{f"{target_field.name}__in": list(values)})
    return {value: pk_to_text(target, pk) for pk, value in rows.values_list("pk", target_field.attname)}


def _remote_values(link: Link, target: ModelClass, target_field: Any, pks: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a foreign key on REMOTE holds to point to the targets with these REMOTE primary keys."""
    if target_field.primary_key or not pks:
        return dict(pks)
    rows = target._base_manager.using(link.remote).filter(pk__in=list(pks.values()))
    values = dict(rows.values_list("pk", target_field.attname))
    return {text: values[pk] for text, pk in pks.items() if pk in values}


def dangling(target: ModelClass, attname: str) -> DanglingRelation:
    """Return the error that an object points to something that LOCAL does not have."""
    return DanglingRelation(
        f"{attname} points to a {model_label(target)} that does not exist on LOCAL. Correct the relation."
    )
