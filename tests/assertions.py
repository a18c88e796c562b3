"""What every test of a copy asks, answered without the engine.

Objects are compared by what identifies them to a person: a natural key, a primary key that the project chose or, for
automatic primary keys, the Reference that LOCAL keeps.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db.models import CompositePrimaryKey, Field, Model
from django.db.models.fields import AutoFieldMixin

from synchro.models import ChangeLog, Reference

Identity = tuple[str, Any]
Snapshot = dict[str, Any]


def assert_nothing_pending(*, using: str | None = None) -> None:
    """Every entry of the log is settled: none pending, none failed."""
    entries = ChangeLog.objects.using(using or settings.SYNCHRO_LOCAL)
    unsettled = entries.exclude(state__in=[ChangeLog.State.SYNCED, ChangeLog.State.SKIPPED])
    assert [describe(entry) for entry in unsettled] == []


def describe(entry: ChangeLog) -> str:
    """Return an entry in words, for messages of failed assertions."""
    state = f"{entry.get_action_display()}, {entry.get_state_display()} after {entry.attempts} attempts: {entry.reason}"
    return f"{entry.content_type.model} {entry.object_id} {state}"


def assert_same_on_remote(obj: Model) -> None:
    """REMOTE has exactly one copy of the LOCAL object, equal in every field and many-to-many relation.

    The newest state of LOCAL is read, whatever the instance holds. Fields in SYNCHRO_SKIP are left out.
    """
    identities = _Identities()
    model = _concrete(type(obj))
    newest = model._base_manager.using(identities.local).get(pk=obj.pk)
    identity = identities.of(newest, identities.local)
    copies = identities.with_identity(model, identity, identities.remote)
    assert len(copies) == 1, f"{len(copies)} copies of {identity} on REMOTE"
    assert identities.snapshot(copies[0], identities.remote) == identities.snapshot(newest, identities.local)


def assert_not_on_remote(model: type[Model], **lookup: Any) -> None:
    """REMOTE has no such object."""
    assert list(model._base_manager.using(settings.SYNCHRO_REMOTE).filter(**lookup)) == []


def assert_in_step(*models: type[Model]) -> None:
    """LOCAL and REMOTE have the same objects of these models, no more and no less, and nothing is pending."""
    assert_nothing_pending()
    assert_same_objects(*models)
    assert_references_agree()


def assert_same_objects(*models: type[Model]) -> None:
    """LOCAL and REMOTE have the same objects of these models, no more and no less."""
    identities = _Identities()
    for model in models:
        here, there = (identities.snapshots(model, using) for using in (identities.local, identities.remote))
        assert there == here, f"{model._meta.label} differs"


def assert_references_agree() -> None:
    """The mirrors on REMOTE say the same as LOCAL's references, which name each object once."""
    local, remote = settings.SYNCHRO_LOCAL, settings.SYNCHRO_REMOTE
    if not _has_synchro(remote):
        return
    here = {
        (*_type_key(each), each.local_object_id, each.remote_object_id)
        for each in Reference.objects.using(local).select_related("content_type")
    }
    there = {
        (*_type_key(each), each.remote_object_id, each.local_object_id)
        for each in Reference.objects.using(remote).select_related("content_type")
        if each.local_object_id is not None
    }
    assert here <= there, f"no mirror on REMOTE: {sorted(here - there)}"


def counterpart(obj: Model) -> Any:
    """Return REMOTE's copy of a LOCAL object."""
    identities = _Identities()
    model = _concrete(type(obj))
    newest = model._base_manager.using(identities.local).get(pk=obj.pk)
    (copy,) = identities.with_identity(model, identities.of(newest, identities.local), identities.remote)
    return copy


class _Identities:
    """The identity of objects on both sides. It lives as long as one assertion and remembers what it has read."""

    def __init__(self) -> None:
        self.local: str = settings.SYNCHRO_LOCAL
        self.remote: str = settings.SYNCHRO_REMOTE
        self._known: dict[tuple[str, type[Model], Any], Identity] = {}
        # LOCAL's pk by REMOTE's pk, both as text.
        self._origin = {
            (*_type_key(each), each.remote_object_id): each.local_object_id
            for each in Reference.objects.using(self.local).select_related("content_type")
        }

    def of(self, obj: Model, using: str) -> Identity:
        """Return the identity of an object of the database."""
        model = _concrete(type(obj))
        key = (using, model, obj.pk)
        if key not in self._known:
            self._known[key] = (model._meta.label_lower, self._value(obj, model, using))
        return self._known[key]

    def with_identity(self, model: type[Model], identity: Identity, using: str) -> list[Model]:
        """Return the objects that have the identity in the database."""
        return [each for each in model._base_manager.using(using).all() if self.of(each, using) == identity]

    def snapshots(self, model: type[Model], using: str) -> dict[str, list[Snapshot]]:
        """Return every object of the model by identity (as text, so that a failed comparison can be read)."""
        found: dict[str, list[Snapshot]] = {}
        for each in model._base_manager.using(using).all():
            found.setdefault(repr(self.of(each, using)), []).append(self.snapshot(each, using))
        return {key: sorted(found[key], key=repr) for key in sorted(found)}

    def snapshot(self, obj: Model, using: str) -> Snapshot:
        """Return the object's values, its relations as identities."""
        skipped = set(getattr(obj, "SYNCHRO_SKIP", ()))
        values: Snapshot = {}
        generic = {field.fk_field: field for field in obj._meta.private_fields if isinstance(field, GenericForeignKey)}
        for field in obj._meta.concrete_fields:
            if field.name in skipped or _is_automatic(field):
                continue
            if field.name in generic:
                values[field.name] = self._generic_target(obj, generic[field.name], using)
            else:
                values[field.name] = self._field_value(obj, field, using)
        for relation in obj._meta.many_to_many:
            if relation.name not in skipped:
                values[relation.name] = self._members(obj, relation, using)
        return values

    def _value(self, obj: Model, model: type[Model], using: str) -> Any:
        if isinstance(obj, ContentType):
            return obj.app_label, obj.model
        if hasattr(obj, "natural_key"):
            return repr(obj.natural_key())
        pk = obj._meta.pk
        if isinstance(pk, CompositePrimaryKey):
            parts: tuple[Any, ...] = pk.fields
            return tuple(self._field_value(obj, part, using) for part in parts)
        if pk.remote_field is not None:
            return self._target(obj, pk, using)
        if not _is_automatic(pk):
            return repr(obj.pk)
        if using == self.local:
            return str(obj.pk)
        origin = self._origin.get((model._meta.app_label, str(model._meta.model_name), str(obj.pk)))
        return origin if origin is not None else f"only on REMOTE: {obj.pk}"

    def _field_value(self, obj: Model, field: Field[Any, Any], using: str) -> Any:
        if field.remote_field is not None:
            return self._target(obj, field, using)
        return comparable(field.value_from_object(obj))

    def _target(self, obj: Model, field: Any, using: str) -> Identity | None:
        value = getattr(obj, field.attname)
        if value is None:
            return None
        target = _concrete(field.related_model)
        found = target._base_manager.using(using).filter(**{field.target_field.attname: value}).first()
        return self.of(found, using) if found is not None else ("dangling", repr(value))

    def _generic_target(self, obj: Model, field: GenericForeignKey, using: str) -> Identity | None:
        content_type_id = getattr(obj, obj._meta.get_field(field.ct_field).attname)  # type: ignore[union-attr]
        if content_type_id is None:
            return None
        model: Any = ContentType.objects.using(using).get(pk=content_type_id).model_class()
        pk = getattr(obj, field.fk_field)
        target = model._base_manager.using(using).filter(pk=pk).first()
        return self.of(target, using) if target is not None else ("dangling", repr(pk))

    def _members(self, obj: Model, relation: Any, using: str) -> list[str]:
        through = relation.remote_field.through
        near, far = relation.m2m_field_name(), through._meta.get_field(relation.m2m_reverse_field_name())
        links = through._base_manager.using(using).filter(**{near: obj.pk})
        return sorted(repr(self._target(link, far, using)) for link in links)


def comparable(value: Any) -> Any:
    """Return a value that equals another only if a person would say so: 1, 1.0, True and Decimal(1) are four values."""
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else repr(value)
    if isinstance(value, Decimal):
        return "decimal", value.as_tuple()
    if isinstance(value, dict | list):
        return "json", json.dumps(value, sort_keys=True, default=repr)
    if isinstance(value, memoryview | bytearray):
        return "bytes", bytes(value)
    if isinstance(value, datetime) and value.tzinfo:
        # Python calls moments of a repeated hour equal to nothing in another zone.
        return "moment", value.astimezone(UTC)
    if hasattr(value, "storage"):
        return "file", value.name
    return type(value).__name__, value


def _is_automatic(field: Any) -> bool:
    return isinstance(field, AutoFieldMixin)


def _concrete(model: Any) -> type[Model]:
    return model._meta.concrete_model


def _type_key(reference: Reference) -> tuple[str, str]:
    return reference.content_type.app_label, reference.content_type.model


def _has_synchro(using: str) -> bool:
    return not using.endswith("_bare")


def logged(*, using: str | None = None) -> list[tuple[str, str, str]]:
    """Return the log in its order: model, object id, action."""
    entries = ChangeLog.objects.using(using or settings.SYNCHRO_LOCAL).order_by("pk").select_related("content_type")
    return [(each.content_type.model, each.object_id, ChangeLog.Action(each.action).name) for each in entries]
