"""REMOTE's rows that have no LOCAL object: of objects that are gone, and of objects that never were."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import CompositePrimaryKey, QuerySet
from django.utils import timezone

from synchro.compare.confirm import Logs
from synchro.engine import natural
from synchro.engine.link import Link, one_process
from synchro.engine.resolve import find, owners_of, references, remembering
from synchro.exceptions import BadObjectId
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.natural_keys import has_natural_key
from synchro.registry import ModelClass, has_auto_pk


@dataclass(frozen=True, slots=True)
class Surplus:
    """A row of REMOTE by its key, and the LOCAL object that it was the copy of; empty if there never was one."""

    key: str
    owner: str
    #: Whether LOCAL remembers the object. If only REMOTE does, LOCAL may be an older backup, or have been reset.
    is_remembered: bool
    #: When the entry that deletes it is to be dated.
    date: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """What was found among some of REMOTE's rows."""

    found: list[Surplus]
    #: Rows that a change explains which is on its way.
    skipped: int


def all_keys(remote_rows: QuerySet[Any], *, size: int) -> Iterator[list[Any]]:
    """Yield the keys of all rows in their order."""
    last: Any = None
    while True:
        onwards = remote_rows if last is None else remote_rows.filter(pk__gt=last)
        pks = list(onwards.order_by("pk").values_list("pk", flat=True)[:size])
        if not pks:
            return
        last = pks[-1]
        yield pks


def look(link: Link, model: ModelClass, logs: Logs, pks: list[Any]) -> Page:
    """Find what is surplus among REMOTE's rows with these keys."""
    if not pks:
        return Page([], 0)
    started = timezone.now()
    # The logs come first: an object that is gone afterwards without having been logged is gone for good.
    owners = owners_of(link, model, pks)
    ours = logs.local(set(owners.values())) if owners else {}
    living = _living(link, model, owners.values())
    gone = {pk: owner for pk, owner in owners.items() if owner not in living}
    unknown = [pk for pk in pks if pk not in owners]
    matched = local_owners(link, model, unknown)
    remembered = set(remembering(link, model, [pk_to_text(model, pk) for pk in gone])) if gone else set()
    surplus = {
        pk: Surplus(pk_to_text(model, pk), owner, owner in remembered, started)
        for pk, owner in {**gone, **dict.fromkeys(unknown, "")}.items()
        if pk not in matched
    }
    return _settled(link, model, logs, surplus, ours) if surplus else Page([], 0)


def _settled(link: Link, model: ModelClass, logs: Logs, surplus: Mapping[Any, Surplus], before: Any) -> Page:
    """Leave out what a change explains, or what has changed since the owners' logs were read."""
    theirs = logs.remote({each.key for each in surplus.values()})
    ids = {each.owner or each.key for each in surplus.values()}
    ours = logs.local(ids)
    still = set(model._base_manager.using(link.remote).filter(pk_among(model, surplus)).values_list("pk", flat=True))
    with one_process(link):  # where only LOCAL remembers copies, it does so by the end of the batch that made them
        known = owners_of(link, model, [pk for pk, each in surplus.items() if not each.owner])
    found, skipped = [], 0
    for pk, each in surplus.items():
        if pk not in still or pk in known:
            continue  # the delete has arrived, or the row is the copy of an object that is new
        mark = ours.get(each.owner) if each.owner else None
        if logs.owes(mark, theirs.get(each.key)) or (each.owner and before.get(each.owner) != mark):
            skipped += 1
        else:
            found.append(replace(each, date=logs.date(each.date, theirs.get(each.key))))
    return Page(found, skipped)


def local_owners(link: Link, model: ModelClass, remote_pks: Collection[Any]) -> dict[Any, str]:
    """Return the LOCAL objects whose counterparts the rows are, found by a key that nobody remembers yet."""
    if not remote_pks:
        return {}
    candidates = _by_natural_key(link, model, remote_pks) | _by_primary_key(link, model, remote_pks)
    found = find(link, model, sorted(candidates)) if candidates else None
    return {pk: each for each, pk in found.pks.items() if pk in set(remote_pks)} if found is not None else {}


def _by_natural_key(link: Link, model: ModelClass, remote_pks: Collection[Any]) -> set[str]:
    if not has_natural_key(model):
        return set()
    backwards = replace(link, local=link.remote, remote=link.local)
    rows = model._base_manager.using(link.remote).filter(pk_among(model, remote_pks))
    matches = natural.match(backwards, model, {pk_to_text(model, row.pk): row for row in rows}, {})
    return {pk_to_text(model, pk) for match in matches.values() for pk in match.pks}


def _by_primary_key(link: Link, model: ModelClass, remote_pks: Collection[Any]) -> set[str]:
    if has_auto_pk(model):
        texts = {pk_to_text(model, pk) for pk in remote_pks} if link.adopts_pks else set()
    else:
        texts = _translated(link, model, remote_pks)
    return _living(link, model, texts)


def _translated(link: Link, model: ModelClass, remote_pks: Collection[Any]) -> set[str]:
    """Return the primary keys that LOCAL has for these, foreign keys in them translated."""
    pk: Any = model._meta.pk
    is_composite = isinstance(pk, CompositePrimaryKey)
    parts = list(pk.fields) if is_composite else [pk]
    values = {each: each if is_composite else (each,) for each in remote_pks}
    columns = [
        _part(link, part, {each: value[index] for each, value in values.items()}) for index, part in enumerate(parts)
    ]
    whole = [tuple(column[each] for column in columns) for each in values if all(each in column for column in columns)]
    return {pk_to_text(model, each if is_composite else each[0]) for each in whole}


def _part(link: Link, part: Any, values: Mapping[Any, Any]) -> dict[Any, Any]:
    if part.remote_field is None:
        return dict(values)
    target = part.related_model._meta.concrete_model
    wanted = set(values.values())
    owners = owners_of(link, target, wanted)
    owners |= local_owners(link, target, wanted - owners.keys())
    return {each: pk_from_text(target, owners[value]) for each, value in values.items() if value in owners}


def _living(link: Link, model: ModelClass, object_ids: Collection[str]) -> set[str]:
    pks = [pk_from_text(model, each) for each in object_ids]
    if not pks:
        return set()
    living = model._base_manager.using(link.local).filter(pk_among(model, pks)).values_list("pk", flat=True)
    return {pk_to_text(model, pk) for pk in living}


def unused_ids(link: Link, model: ModelClass, keys: Collection[str]) -> dict[str, str]:
    """Return object ids that no LOCAL object has or had, under which rows that never were LOCAL's can be deleted.

    REMOTE's own key will do where the project chooses keys; an automatic key is negative, as no sequence counts.
    """
    signs = ("-",) if has_auto_pk(model) else ("", "-")
    free: dict[str, str] = {}
    for sign in signs:
        ids = {each: f"{sign}{each}" for each in keys if each not in free and _is_key(model, f"{sign}{each}")}
        taken = _living(link, model, ids.values()) | references(link, model, list(ids.values())).keys()
        log = ChangeLog.objects.using(link.local).unsettled().of_objects(model, list(ids.values()))
        taken |= set(log.values_list("object_id", flat=True))
        free |= {each: object_id for each, object_id in ids.items() if object_id not in taken}
    return free


def _is_key(model: ModelClass, text: str) -> bool:
    try:
        pk_from_text(model, text)
    except BadObjectId:
        return False
    return True
