"""What LOCAL remembers of a batch once REMOTE has committed it: references, and entries that are settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, transaction
from django.db.models import QuerySet

from synchro import rows
from synchro.engine import conflicts
from synchro.engine.link import Link
from synchro.engine.members import log_links_to
from synchro.engine.steps import Outcome
from synchro.lookups import among
from synchro.models import ChangeLog, Reference, ReferenceRow
from synchro.registry import ModelClass


def acknowledge(link: Link, model: ModelClass, outcome: Outcome) -> None:
    """Remember on LOCAL what REMOTE has committed."""
    log = ChangeLog.objects.using(link.local)
    with transaction.atomic(using=link.local):
        if outcome.forgotten:
            _references(link, model).filter(among("local_object_id", outcome.forgotten)).delete()
        for referenced, keys in outcome.references.items():
            write_references(link, referenced, keys)
        write_references(link, model, outcome.mirrored, are_mirrored=link.has_mirrors)
        log_links_to(link, model, outcome.reborn)
        if outcome.needed:
            conflicts.claim_needed(link, model, outcome.needed)
        if arrived := [pk for ids in outcome.arrived.values() for pk in ids]:
            log.mark_synced(arrived)
        log.mark_skipped({pk: reason for ids, reason in outcome.lost.values() for pk in ids})


def write_references(link: Link, model: ModelClass, keys: Mapping[str, str], *, are_mirrored: bool = False) -> None:
    """Remember on LOCAL which of REMOTE's keys (values) its objects (keys) have there.

    Args:
        are_mirrored: REMOTE has the mirrors. If they are missing later, REMOTE has forgotten them.
    """
    if not keys:
        return
    content_type = ContentType.objects.db_manager(link.local).get_for_model(model)
    meta = Reference._meta
    fields: list[Any] = [
        meta.get_field(name) for name in ("content_type", "peer", "local_object_id", "remote_object_id", "mirrored_as")
    ]
    mirrored_as = link.local_identity if are_mirrored else None
    references = [
        ReferenceRow(content_type.pk, link.remote_identity, local_text, remote_text, mirrored_as=mirrored_as)
        for local_text, remote_text in keys.items()
    ]
    unique = [fields[1], fields[0], fields[2]]
    # A vendor that does not say which unique index an upsert is about could overwrite the row of the other one.
    if not connections[link.local].features.supports_update_conflicts_with_target:
        _forget_others(link, model, keys)
    try:
        with transaction.atomic(using=link.local):
            rows.upsert(Reference, references, using=link.local, fields=fields, unique=unique, update=fields[3:])
    except IntegrityError:
        _forget_others(link, model, keys)
        rows.upsert(Reference, references, using=link.local, fields=fields, unique=unique, update=fields[3:])


def _forget_others(link: Link, model: ModelClass, keys: Mapping[str, str]) -> None:
    """Forget which other objects had these objects' REMOTE keys: REMOTE was restored, say, and reuses keys."""
    stale = _references(link, model).filter(among("remote_object_id", keys.values()))
    stale.exclude(among("local_object_id", keys)).delete()


def _references(link: Link, model: ModelClass) -> QuerySet[Reference]:
    content_type = ContentType.objects.db_manager(link.local).get_for_model(model)
    return Reference.objects.using(link.local).filter(peer=link.remote_identity, content_type_id=content_type.pk)
