"""The lock of the protocol: one row on REMOTE for each LOCAL object, held until REMOTE commits.

Whoever holds it reads the pending entries and the newest state of the object *after* taking it, so an older state can
never be written over a newer one. The row is the mirror reference; for an object that REMOTE does not have yet it is
made first, without the key that the object will get there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models import AutoField, BigAutoField, BigIntegerField, OuterRef, QuerySet, SmallAutoField, Subquery
from django.db.models.functions import Cast

from synchro import rows
from synchro.engine.link import Link
from synchro.exceptions import TransientError
from synchro.lookups import among
from synchro.models import Reference, ReferenceRow
from synchro.prepared import ask
from synchro.registry import ModelClass


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror: its own primary key, and REMOTE's key of the object, None where REMOTE does not know it."""

    id: int
    key: str | None
    #: When the object was added for which it was made, as far as LOCAL's log told.
    added_at: datetime | None = None
    #: Whether REMOTE's own engine has seen that LOCAL knew the object.
    is_confirmed: bool = False
    #: Whether REMOTE has the row; None where nobody has looked yet.
    has_row: bool | None = None

    @property
    def names_its_object(self) -> bool:
        """Whether it can be told from a mirror of another object that had the same primary key."""
        return self.key is not None and (self.added_at is not None or self.is_confirmed)

    def says(self, key: str, added_at: datetime | None) -> bool:
        """Tell whether it has this key, and this moment as far as one is known."""
        return self.key == key and added_at in (None, self.added_at)


def lock_objects(link: Link, model: ModelClass, object_ids: Sequence[str]) -> dict[str, Mirror]:
    """Lock LOCAL objects on REMOTE and return their mirrors; none where REMOTE has no tables to lock in.

    Always locks in the order of the ids, so that two workers with overlapping batches cannot deadlock.
    """
    if not link.has_mirrors:
        return {}
    locked = _lock(link, model, object_ids)
    missing = sorted(set(object_ids) - locked.keys())
    if missing:
        type_id = _type_id(link, model)
        placeholders = [ReferenceRow(type_id, link.local_identity, None, object_id) for object_id in missing]
        meta = Reference._meta
        returning: list[Any] = [meta.pk, meta.get_field("remote_object_id")]
        made = rows.insert_missing(Reference, placeholders, using=link.remote, returning=returning)
        locked |= {local_text: Mirror(pk, None) for pk, local_text in made}
        if rest := [each for each in missing if each not in locked]:
            locked |= _lock(link, model, rest)
        if not locked.keys() >= set(object_ids):
            raise TransientError  # others added and deleted an object in between
    return locked


def write_mirrors(
    link: Link,
    model: ModelClass,
    mirrors: Mapping[str, Mirror],
    keys: Mapping[str, str],
    added: Mapping[str, datetime],
) -> None:
    """Tell REMOTE which of its keys (values) LOCAL's objects (keys) have there.

    Locked rows are overwritten by their own key.

    Args:
        added: when the objects were added, where the log has just told.
    """
    if not (link.has_mirrors and keys):
        return
    meta = Reference._meta
    changing: list[Any] = [meta.get_field(name) for name in ("local_object_id", "added_at", "mirrored_as")]
    type_id = _type_id(link, model)
    dates = {each: mirrors[each].added_at for each in keys} | dict(added)
    changed = [
        ReferenceRow(type_id, link.local_identity, remote_text, local_text, mirrors[local_text].id, dates[local_text])
        for local_text, remote_text in keys.items()
    ]
    fields: list[Any] = list(meta.concrete_fields)
    rows.upsert(Reference, changed, using=link.remote, fields=fields, unique=[meta.pk], update=changing)


def drop_mirrors(link: Link, model: ModelClass, mirrors: Mapping[str, Mirror], object_ids: Collection[str]) -> None:
    """Remove the mirrors of LOCAL objects that REMOTE does not have, or no longer has.

    Locked rows are found by their own key: by the object's, a planner without statistics reads all of the model's.
    """
    if not link.has_mirrors:
        return
    if locked := [mirrors[each].id for each in object_ids if each in mirrors]:
        Reference.objects.using(link.remote).filter(among("pk", locked))._raw_delete(link.remote)
    if others := [each for each in object_ids if each not in mirrors]:
        _mirrors(link, model, others)._raw_delete(link.remote)


def look(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Mirror]:
    """Return the mirrors of LOCAL objects without locking anything, of numbered ones also whether they have a row."""
    if not link.has_mirrors:
        return {}
    names = ["id", "remote_object_id", "local_object_id", "added_at", "mirrored_as"]
    found = _mirrors(link, model, object_ids).exclude(local_object_id=None)
    if is_numbered := _is_numbered(model):
        # As a value it is looked up by the index, mirror by mirror; a condition might be joined with the whole table.
        own = model._base_manager.using(link.remote).order_by()
        found = found.annotate(
            row=Subquery(own.filter(pk=Cast(OuterRef("local_object_id"), BigIntegerField())).values("pk"))
        )
        names.append("row")
    return {
        local_text: Mirror(
            pk, remote_text, added_at, mirrored_as == link.remote_identity, row[0] is not None if is_numbered else None
        )
        for pk, local_text, remote_text, added_at, mirrored_as, *row in found.values_list(*names)
    }


def mirrored_owners(link: Link, model: ModelClass, keys: Collection[str]) -> dict[str, str]:
    """Return the LOCAL objects that REMOTE's keys are mirrored to."""
    if not link.has_mirrors:
        return {}
    pairs = _all_mirrors(link, model).filter(among("local_object_id", keys))
    return dict(pairs.values_list("local_object_id", "remote_object_id"))  # type: ignore[arg-type]


def _lock(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Mirror]:
    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        found = _mirrors(link, model, ids).order_by("remote_object_id").select_for_update()
        return found.values_list("id", "remote_object_id", "local_object_id", "added_at", "mirrored_as")

    key = "lock", link.local_identity, _type_id(link, model)
    return {
        local_text: Mirror(pk, remote_text, added_at, mirrored_as == link.remote_identity)
        for pk, local_text, remote_text, added_at, mirrored_as in ask(object_ids, compose, using=link.remote, key=key)
    }


def _mirrors(link: Link, model: ModelClass, object_ids: Collection[str]) -> QuerySet[Reference]:
    return _all_mirrors(link, model).filter(among("remote_object_id", object_ids))


def _all_mirrors(link: Link, model: ModelClass) -> QuerySet[Reference]:
    return Reference.objects.using(link.remote).filter(peer=link.local_identity, content_type_id=_type_id(link, model))


def _type_id(link: Link, model: ModelClass) -> int:
    return ContentType.objects.db_manager(link.remote).get_for_model(model).pk


def _is_numbered(model: ModelClass) -> bool:
    """Tell whether the primary key is an automatic number, or that of a parent."""
    pk: Any = model._meta.pk
    while pk.remote_field is not None:
        pk = pk.target_field
    return type(pk) in (AutoField, BigAutoField, SmallAutoField)
