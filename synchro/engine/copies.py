"""A database that was restored from a copy of another one, or from an older copy of itself, gets another identity.

If the two are LOCAL and REMOTE, they know each other's rows: what the copy had when it was made has the same primary
keys on both sides. Afterwards the copy's log holds what was changed on the copy, and its references all the rest.

An older copy of the database itself is about to give away primary keys again by which the other side knows rows that
the copy lacks. Under its new identity nobody knows it, so its references must tell of all the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from synchro import rows
from synchro.conf import conf
from synchro.engine import link
from synchro.engine.acknowledge import write_references
from synchro.engine.resolve import find
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import among, pk_among
from synchro.models import Attempt, ChangeLog, Option, Reference, ReferenceRow
from synchro.registry import ModelClass, all_many_to_many, has_auto_pk, watched_models

_AT_ONCE = 1000

Action = ChangeLog.Action


def renew_identity(using: str) -> uuid.UUID:
    """Give a database that was restored from a copy of another one, or of itself, another identity, and return it.

    Raises:
        DatabaseError: the other side does not answer, so nobody can tell whether this is a copy of it.
    """
    other = {conf.local: conf.remote, conf.remote: conf.local}.get(using)
    with transaction.atomic(using=using):
        if other is not None:
            known = link.Link(using, other, link.identity(using), link.remote_identity(other))
            if known.local_identity == known.remote_identity:
                _part(using, other)
            elif known.has_mirrors:
                _remember_mirrored(known)
        return link.renew_identity(using)


def _remember_mirrored(known: link.Link) -> None:
    """Write down what only the mirrors tell of living objects: it was synchronized after the copy had been made."""
    for model in _numbered_models():
        type_id = ContentType.objects.db_manager(known.remote).get_for_model(model).pk
        mirrors = Reference.objects.using(known.remote).filter(peer=known.local_identity, content_type_id=type_id)
        told = mirrors.order_by("pk").values_list("remote_object_id", flat=True)
        for object_ids in rows.batched(told.iterator(_AT_ONCE), _AT_ONCE):
            found = find(known, model, object_ids)
            pks = [
                pk_from_text(model, each) for each in found.mirrored.keys() & found.pks.keys() - found.referenced.keys()
            ]
            living = model._base_manager.using(known.local).filter(pk_among(model, pks)).values_list("pk", flat=True)
            texts = [pk_to_text(model, pk) for pk in living]
            write_references(known, model, {each: found.mirrored[each] for each in texts})


def _part(copy: str, original: str) -> None:
    """Leave in the copy's log what was changed there, and let references tell which rows are the same ones."""
    newest = _forget_common_history(copy, original)
    Reference.objects.using(copy).all().delete()
    Attempt.objects.using(copy).all().delete()
    Option.objects.using(copy).filter(key=Option.PEER).delete()
    peer = link.identity(original)
    for model in _numbered_models():
        type_id = ContentType.objects.db_manager(copy).get_for_model(model).pk
        for object_ids in rows.batched(_known_objects(copy, model), _AT_ONCE):
            since = ChangeLog.objects.using(original).of_objects(model, object_ids).filter(id__gt=newest)
            new = _added(copy, model, object_ids) | set(
                since.filter(action=Action.ADD).values_list("object_id", flat=True)
            )
            same = [ReferenceRow(type_id, peer, each, each) for each in object_ids if each not in new]
            rows.insert(Reference, same, using=copy)


def _forget_common_history(copy: str, original: str) -> int:
    """Delete the entries that the copy was made with, and return the id of the newest one."""
    newest = last = 0
    while page := list(_entries(copy).filter(id__gt=last).order_by("id")[:_AT_ONCE]):
        last = page[-1][0]
        theirs = set(_entries(original).filter(among("id", [pk for pk, _, _ in page])))
        if common := [entry[0] for entry in page if entry in theirs]:
            newest = max(newest, *common)
            ChangeLog.objects.using(copy).filter(among("id", common)).delete()
    return newest


def _entries(using: str) -> Any:
    return ChangeLog.objects.using(using).values_list("id", "object_id", "date")


def _known_objects(using: str, model: ModelClass) -> Iterator[str]:
    """Yield the ids of the copy's rows, and of those that were deleted there since."""
    for pk in model._base_manager.using(using).order_by("pk").values_list("pk", flat=True).iterator(_AT_ONCE):
        yield pk_to_text(model, pk)
    deleted = ChangeLog.objects.using(using).of(model).filter(action=Action.DELETE)
    living = model._base_manager.using(using)
    for each in deleted.order_by().values_list("object_id", flat=True).distinct():
        if not living.filter(pk=each).exists():
            yield each


def _added(using: str, model: ModelClass, object_ids: list[str]) -> set[str]:
    added = ChangeLog.objects.using(using).of_objects(model, object_ids).filter(action=Action.ADD)
    return set(added.values_list("object_id", flat=True))


def _numbered_models() -> list[ModelClass]:
    """Return the models with automatic keys that may come to REMOTE: watched ones, and what these point to."""
    found: dict[ModelClass, None] = {}
    waiting = [*watched_models(), *(relation.member for relation in all_many_to_many())]
    while waiting:
        model = waiting.pop()
        if model in found or model is ContentType:
            continue
        found[model] = None
        for field in model._meta.concrete_fields:
            if field.related_model is not None:
                waiting.append(field.related_model._meta.concrete_model)  # type: ignore[arg-type]
    return [model for model in found if has_auto_pk(model)]
