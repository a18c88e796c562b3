"""The lock of the protocol: one row on REMOTE for each LOCAL object, held until REMOTE commits.

Whoever holds it reads the pending entries and the newest state of the object *after* taking it, so an older state can
never be written over a newer one. The row is the mirror reference; for an object that REMOTE does not have yet it is
made first, without the key that the object will get there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet

from synchro import rows
from synchro.engine.link import Link
from synchro.exceptions import TransientError
from synchro.lookups import among
from synchro.models import Reference, ReferenceRow
from synchro.prepared import ask
from synchro.registry import ModelClass


@dataclass(frozen=True, slots=True)
class Mirror:
    """A locked row: REMOTE's primary key of it, and REMOTE's key of the object, None where REMOTE does not know it."""

    id: int
    key: str | None


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


def write_mirrors(link: Link, model: ModelClass, mirrors: Mapping[str, Mirror], keys: Mapping[str, str]) -> None:
    """Tell REMOTE which of its keys (values) LOCAL's objects (keys) have there.

    Locked rows are overwritten by their own key.
    """
    if not (link.has_mirrors and keys):
        return
    meta = Reference._meta
    local: Any = meta.get_field("local_object_id")
    type_id = _type_id(link, model)
    changed = [
        ReferenceRow(type_id, link.local_identity, remote_text, local_text, mirrors[local_text].id)
        for local_text, remote_text in keys.items()
    ]
    fields: list[Any] = list(meta.concrete_fields)
    rows.upsert(Reference, changed, using=link.remote, fields=fields, unique=[meta.pk], update=[local])


def drop_mirrors(link: Link, model: ModelClass, object_ids: Collection[str]) -> None:
    """Remove the mirrors of LOCAL objects that REMOTE does not have, or no longer has."""
    if link.has_mirrors and object_ids:
        _mirrors(link, model, object_ids).delete()


def mirrored(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, str]:
    """Return the mirrored REMOTE keys of LOCAL objects, without locking anything."""
    if not link.has_mirrors:
        return {}
    pairs = _mirrors(link, model, object_ids).exclude(local_object_id=None)
    return dict(pairs.values_list("remote_object_id", "local_object_id"))  # type: ignore[arg-type]


def mirrored_owners(link: Link, model: ModelClass, keys: Collection[str]) -> dict[str, str]:
    """Return the LOCAL objects that REMOTE's keys are mirrored to."""
    if not link.has_mirrors:
        return {}
    pairs = _all_mirrors(link, model).filter(among("local_object_id", keys))
    return dict(pairs.values_list("local_object_id", "remote_object_id"))  # type: ignore[arg-type]


def _lock(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Mirror]:
    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        found = _mirrors(link, model, ids).order_by("remote_object_id").select_for_update()
        return found.values_list("id", "remote_object_id", "local_object_id")

    key = "lock", link.local_identity, _type_id(link, model)
    return {
        local_text: Mirror(pk, remote_text)
        for pk, local_text, remote_text in ask(object_ids, compose, using=link.remote, key=key)
    }


def _mirrors(link: Link, model: ModelClass, object_ids: Collection[str]) -> QuerySet[Reference]:
    return _all_mirrors(link, model).filter(among("remote_object_id", object_ids))


def _all_mirrors(link: Link, model: ModelClass) -> QuerySet[Reference]:
    return Reference.objects.using(link.remote).filter(peer=link.local_identity, content_type_id=_type_id(link, model))


def _type_id(link: Link, model: ModelClass) -> int:
    return ContentType.objects.db_manager(link.remote).get_for_model(model).pk
