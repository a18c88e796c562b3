"""How one object differs between the two databases at this moment. Reads only, and locks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import AutoField, Model

from synchro.conf import conf
from synchro.engine.link import Link, open_link
from synchro.engine.members import differing_members
from synchro.engine.relations import Target, translate
from synchro.engine.resolve import find
from synchro.engine.values import differs, plain, restore_json_null
from synchro.keys import pk_from_text, pk_to_text
from synchro.registry import ModelClass, model_label, skipped_fields

#: What stands for a value where values are not to be shown.
HIDDEN = "…"
_LONGEST = 200
#: Parts of names of fields whose values are never shown.
_SECRETS = ("pass", "secret", "token", "key", "hash")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with two values; HIDDEN stands for both of them unless SYNCHRO_LOG_VALUES is set."""

    field: str
    local: str = HIDDEN
    remote: str = HIDDEN


@dataclass(frozen=True, slots=True)
class Comparison:
    """One object on both sides."""

    on_local: bool
    #: REMOTE's primary key of the object, None where REMOTE does not have it.
    remote_pk: str | None = None
    #: What differs, if the object is on both sides. Empty: REMOTE's copy is the same.
    differences: tuple[FieldDifference, ...] = ()


def compare_object(model: ModelClass, object_id: str) -> Comparison:
    """Compare one object with its copy, field by field, also its many-to-many relations; skipped fields do not count.

    Raises:
        SynchroError: there is no REMOTE, or it cannot be told which row is the copy.
        Exception: one of the databases cannot be used.
    """
    link = open_link()
    instance = model._base_manager.using(link.local).filter(pk=pk_from_text(model, object_id)).first()
    found = find(link, model, [object_id], instances={object_id: instance} if instance else {})
    if object_id in found.problems:
        raise found.problems[object_id]
    if object_id not in found.pks:
        return Comparison(on_local=instance is not None)
    remote_pk = found.pks[object_id]
    copy = model._base_manager.using(link.remote).filter(pk=remote_pk).first()
    if instance is None or copy is None:
        return Comparison(instance is not None, pk_to_text(model, remote_pk) if copy else None)
    members = differing_members(link, model, {object_id: instance.pk}, {object_id: remote_pk})
    relations = map(FieldDifference, members.get(object_id, ()))
    differences = (*_fields(link, object_id, instance, copy), *relations)
    return Comparison(True, pk_to_text(model, remote_pk), differences)


def _fields(link: Link, object_id: str, instance: Model, copy: Model) -> Iterator[FieldDifference]:
    model: Any = type(instance)
    restore_json_null(link.local, model, [instance])
    restore_json_null(link.remote, model, [copy])
    translation = translate(link, model, {object_id: instance})
    for name, key in translation.values.get(object_id, {}).items():
        setattr(instance, name, key)
    missing = translation.missing.get(object_id, {})
    skipped = skipped_fields(model)
    for field in model._meta.concrete_fields:
        if field.name in skipped or field.generated or isinstance(field, AutoField):
            continue
        here, there = (_shown(field.name, plain(field, getattr(each, field.attname))) for each in (instance, copy))
        if field.attname in missing:
            yield FieldDifference(field.name, _name(missing[field.attname]), there)
        elif differs(field, instance, copy):
            yield FieldDifference(field.name, here, there)


def _name(target: Target) -> str:
    """Name an object that REMOTE lacks."""
    return f"{model_label(target[0])} {target[1]}"


def _shown(name: str, value: Any) -> str:
    if not conf.log_values or any(secret in name.lower() for secret in _SECRETS):
        return HIDDEN
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
