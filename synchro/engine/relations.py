"""What must exist on REMOTE before an object can: the targets of its foreign keys, and the members of its relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Count, Model, QuerySet

from synchro.engine.link import Link
from synchro.engine.resolve import find, owners_by_key, owners_of
from synchro.exceptions import DanglingRelation
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.registry import ModelClass, is_watched, keeps_pk, keys_to, model_label, skipped_fields

#: How many rows that hold back deletes are kept of one relation: enough to see who must go first.
_MAX_HOLDERS = 1000

#: An object by model and object id.
Target = tuple[ModelClass, str]
#: The primary keys of a REMOTE row and of another one that it points to.
Pair = tuple[Any, Any]


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


@dataclass(slots=True)
class Holders:
    """What points to one row: at least one row of each relation that leads there, and the numbers of those left out."""

    rows: list[Holder] = field(default_factory=list)
    more: Counter[ModelClass] = field(default_factory=Counter)


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


def saved_with_children(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, set[datetime]]:
    """Return when multi-table children of LOCAL objects were saved: with each, its parents' rows are logged."""
    found: dict[str, set[datetime]] = {}
    for key in keys_to(model):
        if not key.remote_field.parent_link:
            continue
        own_ids = {each: each for each in object_ids}
        if not key.primary_key:
            pks = [pk_from_text(model, each) for each in object_ids]
            rows = key.model._base_manager.using(link.local).filter(**{f"{key.name}__in": pks})
            keys = rows.values_list("pk", key.attname)
            own_ids = {pk_to_text(key.model, pk): pk_to_text(model, parent) for pk, parent in keys}
        saves = ChangeLog.objects.using(link.local).of_objects(key.model, own_ids)
        saves = saves.filter(action__in=[ChangeLog.Action.ADD, ChangeLog.Action.CHANGE])
        for object_id, date in saves.values_list("object_id", "date"):
            found.setdefault(own_ids[object_id], set()).add(date)
    return found


def keys_there(link: Link, model: ModelClass) -> list[Any]:
    """Return the foreign keys of any model that point to the model's own table and whose tables REMOTE has."""
    keys = list(keys_to(model))
    tables = set(connections[link.remote].introspection.table_names()) if keys else set()
    return [key for key in keys if key.model._meta.db_table in tables]


def pointing_to(link: Link, model: ModelClass, remote_pks: Mapping[str, Any]) -> dict[str, Holders]:
    """Return the REMOTE rows that point to the counterparts of LOCAL objects, of those that any point to.

    Rows of automatic many-to-many tables do not count: they belong to the object.
    """
    found: dict[str, Holders] = {}
    owners = {pk: each for each, pk in remote_pks.items()}
    for key in keys_there(link, model) if owners else ():
        if not key.model._meta.auto_created:
            _find_holders(link, model, key, owners, found)
    return found


def unsettled_among(link: Link, holders: Collection[Holder]) -> dict[Holder, Target]:
    """Return the LOCAL objects with changes owed to REMOTE whose counterparts are among these REMOTE rows, by row."""
    found: dict[Holder, Target] = {}
    for model in {holder.model for holder in holders}:
        pks = [holder.pk for holder in holders if holder.model is model]
        owners = owners_by_key(link, model, pks)
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


def _find_holders(
    link: Link, model: ModelClass, key: Any, owners: Mapping[Any, str], found: dict[str, Holders]
) -> None:
    """Add what points to rows by one foreign key."""
    of_key = key.model._meta.concrete_model
    rows = key.model._base_manager.using(link.remote).filter(**{f"{key.name}__pk__in": list(owners)})
    inside: list[Pair] = []
    if of_key is model and key.db_constraint:
        # Those that may go together are all needed, and no more than the batch.
        together = pk_among(model, list(owners))
        inside = list(_pairs(key, rows.filter(together)))
        rows = rows.exclude(together)
    pages = _pages(key, rows, owners) if key.db_constraint else _pages_of_strangers(link, key, rows)
    kept, counts = _deciding(pages)
    if key.db_constraint and len(kept) >= _MAX_HOLDERS:
        counts = Counter(dict(rows.order_by().values_list(f"{key.name}__pk").annotate(number=Count("*"))))
    for holder, target in (*inside, *kept):
        found.setdefault(owners[target], Holders()).rows.append(Holder(of_key, holder))
    for target, number in (counts - Counter(target for _, target in kept)).items():
        found[owners[target]].more[of_key] += number


def _deciding(pages: Iterable[Collection[Pair]]) -> tuple[list[Pair], Counter[Any]]:
    """Return the first pairs, and of each target at least one, with the numbers of all by target."""
    kept: list[Pair] = []
    counts: Counter[Any] = Counter()
    for page in pages:
        for pair in page:
            if len(kept) < _MAX_HOLDERS or not counts[pair[1]]:
                kept.append(pair)
            counts[pair[1]] += 1
    return kept, counts


def _pages(key: Any, rows: QuerySet[Any], targets: Iterable[Any]) -> Iterator[list[Pair]]:
    """Yield pairs until each target that anything points to was among them."""
    unseen = set(targets)
    while unseen:
        page = list(_pairs(key, rows.filter(**{f"{key.name}__pk__in": unseen}))[:_MAX_HOLDERS])
        yield page
        if len(page) < _MAX_HOLDERS:
            return
        unseen -= {target for _, target in page}


def _pages_of_strangers(link: Link, key: Any, rows: QuerySet[Any]) -> Iterator[list[Pair]]:
    """Yield all pairs of rows that LOCAL does not know: its own may go on pointing to what is gone, and so may these.

    It is no constraint that keeps them from it.
    """
    page: list[Pair] = []
    while not page or len(page) == _MAX_HOLDERS:
        onwards = rows.filter(pk__gt=page[-1][0]) if page else rows
        page = list(_pairs(key, onwards.order_by("pk"))[:_MAX_HOLDERS])
        if not page:
            return
        ours = owners_of(link, key.model._meta.concrete_model, [holder for holder, _ in page])
        yield [pair for pair in page if pair[0] not in ours]


def _pairs(key: Any, rows: QuerySet[Any]) -> QuerySet[Any, Pair]:
    """Select the primary keys of rows and of what they point to."""
    return rows.values_list("pk", f"{key.name}__pk")


def _translate(
    link: Link, target: ModelClass, target_field: Any, pointers: Collection[Pointer], translation: Translation
) -> None:
    if not pointers:
        return
    values = {pointer.value for pointer in pointers}
    texts = _object_ids(link, target, target_field, values)
    pks = discover(link, target, sorted(set(texts.values())), translation)
    unknown = [each for each in values if each not in texts or texts[each] not in pks]
    if respelt := _respelt(link, target, target_field, unknown):
        texts |= respelt
        pks |= discover(link, target, sorted(set(respelt.values())), translation)
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


def _respelt(link: Link, target: ModelClass, target_field: Any, values: Collection[Any]) -> dict[Any, str]:
    """Return the object ids of targets that LOCAL's collation finds by other spellings of what they hold.

    MariaDB and MySQL let 'QA' point to 'qa'.
    """
    texts = {value for value in values if isinstance(value, str)}
    if not texts or connections[link.local].vendor != "mysql":
        return {}
    name, rows = target_field.attname, target._base_manager.using(link.local)
    exact = set(rows.filter(**{f"{name}__in": texts}).values_list(name, flat=True))
    asked = {each: rows.filter(**{name: each}).values_list("pk", flat=True).first() for each in texts - exact}
    return {each: pk_to_text(target, pk) for each, pk in asked.items() if pk is not None}


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
