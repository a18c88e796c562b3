"""Which REMOTE row is the counterpart of a LOCAL object.

In this order: Reference, mirror Reference, natural key, the same explicit primary key, where the link says so the same
automatic one, none. A key that no REMOTE row
has any more does not count. Everything is looked up for a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import CompositePrimaryKey, Model, QuerySet

from synchro.engine import locks, natural
from synchro.engine.link import Link, renewed_at
from synchro.engine.locks import Mirror
from synchro.engine.natural import Match
from synchro.exceptions import PermanentError
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import among, pk_among
from synchro.models import ChangeLog, Reference
from synchro.natural_keys import has_natural_key
from synchro.prepared import ask
from synchro.registry import ModelClass, has_auto_pk, skipped_fields


@dataclass(slots=True)
class Found:
    """What is known of the counterparts of a batch of LOCAL objects, by object id."""

    #: REMOTE's primary keys.
    pks: dict[str, Any] = field(default_factory=dict)
    #: REMOTE's values of the skipped fields, by REMOTE's primary key.
    kept: dict[Any, dict[str, Any]] = field(default_factory=dict)
    #: Keys that the mirrors tell, and else keys in LOCAL's references, also of rows that were deleted on REMOTE.
    mirrored: dict[str, str] = field(default_factory=dict)
    referenced: dict[str, str] = field(default_factory=dict)
    #: Objects whose counterpart by natural or explicit key belongs to another LOCAL object: its object id.
    taken: dict[str, str] = field(default_factory=dict)
    problems: dict[str, PermanentError] = field(default_factory=dict)
    #: Objects that LOCAL lost without a log entry, whose rows others have taken over.
    ghosts: set[str] = field(default_factory=set)

    def remembered(self) -> dict[str, str]:
        """Return the keys that either side remembers."""
        return self.mirrored | self.referenced

    def missing(self, object_ids: Iterable[str]) -> list[str]:
        """Return the objects that have no counterpart so far."""
        return [
            each for each in object_ids if each not in self.pks and each not in self.problems and each not in self.taken
        ]


def find(
    link: Link,
    model: ModelClass,
    object_ids: Collection[str],
    *,
    instances: Mapping[str, Model] | None = None,
    mirrors: Mapping[str, Mirror] | None = None,
    lock: bool = False,
) -> Found:
    """Find the counterparts of LOCAL objects.

    Args:
        instances: the objects, where the caller has read them; without them they are read when a natural key is needed.
        mirrors: their mirrors, where the caller has locked them.
        lock: lock the counterparts' rows until REMOTE's transaction ends.
    """
    found = Found()
    by_natural_key = has_natural_key(model)
    if model is not ContentType:
        candidates = _known(link, model, object_ids, mirrors, found)
        if not by_natural_key:
            candidates |= explicit_pks(link, model, [each for each in object_ids if each not in candidates])
        _keep_existing(link, model, candidates, found, lock=lock)
    if by_natural_key and (rest := found.missing(object_ids)):
        matches = natural.match(link, model, _instances(link, model, rest, instances), found.problems)
        _keep_existing(link, model, _choose(link, model, matches, found), found, lock=lock)
        if rest := found.missing(object_ids):
            _keep_existing(link, model, explicit_pks(link, model, rest), found, lock=lock)
    if link.adopts_pks and has_auto_pk(model) and (rest := found.missing(object_ids)):
        _keep_existing(link, model, {each: pk_from_text(model, each) for each in rest}, found, lock=lock)
    _refuse_taken(link, model, found)
    return found


def references(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, str]:
    """Return the REMOTE keys that LOCAL remembers of its objects."""

    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        rows = _references(link, model).filter(among("local_object_id", ids))
        return rows.values_list("local_object_id", "remote_object_id")

    type_id = ContentType.objects.db_manager(link.local).get_for_model(model).pk
    key = "references", link.remote_identity, type_id
    return dict(ask(object_ids, compose, using=link.local, key=key))


def remembering(link: Link, model: ModelClass, keys: Collection[str]) -> list[str]:
    """Return the LOCAL objects that LOCAL remembers to have one of REMOTE's keys."""
    rows = _references(link, model).filter(among("remote_object_id", keys)).exclude(local_object_id=None)
    return list(rows.values_list("local_object_id", flat=True))  # type: ignore[arg-type]


def explicit_pks(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Any]:
    """Return the primary keys that objects keep on REMOTE, foreign keys in them translated; none for automatic keys."""
    if has_auto_pk(model) or not object_ids:
        return {}
    pk: Any = model._meta.pk
    values = {each: pk_from_text(model, each) for each in object_ids}
    if not isinstance(pk, CompositePrimaryKey):
        return _translated(link, pk, values)
    parts = [
        _translated(link, part, {each: value[index] for each, value in values.items()})
        for index, part in enumerate(pk.fields)
    ]
    return {each: tuple(part[each] for part in parts) for each in values if all(each in part for part in parts)}


def find_deleted(
    link: Link, model: ModelClass, deleted: Mapping[str, list[Any]], mirrors: Mapping[str, Mirror]
) -> Found:
    """Find and lock the counterparts of deleted objects: by Reference, mirror, or the natural key that the log kept.

    An explicit primary key alone does not tell that a REMOTE row is the deleted object.

    Args:
        deleted: the logged natural keys, by object id; empty where there is none.
    """
    found = Found()
    known = _known(link, model, deleted, mirrors, found)
    _keep_existing(link, model, known, found, lock=True)
    keys = {each: key for each, key in deleted.items() if key and each not in known}
    if keys:
        matches = natural.match_logged(link, model, keys, found.problems)
        _keep_existing(link, model, _choose(link, model, matches, found), found, lock=True)
    _refuse_taken(link, model, found)
    return found


def owners_of(link: Link, model: ModelClass, remote_pks: Iterable[Any]) -> dict[Any, str]:
    """Return the LOCAL objects that REMOTE rows are known to belong to, by REMOTE primary key."""
    texts = {pk_to_text(model, pk): pk for pk in remote_pks}
    if not texts:
        return {}
    remembered = _references(link, model).filter(among("remote_object_id", texts))
    owners: dict[str, Any] = locks.mirrored_owners(link, model, texts)
    owners |= dict(remembered.values_list("remote_object_id", "local_object_id"))
    return {texts[text]: owner for text, owner in owners.items()}


def _known(
    link: Link, model: ModelClass, object_ids: Collection[str], mirrors: Mapping[str, Mirror] | None, found: Found
) -> dict[str, Any]:
    """Return the REMOTE keys that one of the two sides remembers, and note which side it is.

    REMOTE's memory comes first: it is as old as REMOTE's rows, also where these were restored from a backup.
    """
    if mirrors is None:
        found.mirrored = locks.mirrored(link, model, object_ids)
    else:
        found.mirrored = {
            each: mirror.key for each in object_ids if (mirror := mirrors.get(each)) and mirror.key is not None
        }
    unknown = [each for each in object_ids if each not in found.mirrored]
    found.referenced = _trusted(link, model, references(link, model, unknown)) if unknown else {}
    return {each: pk_from_text(model, text) for each, text in found.remembered().items()}


def _trusted(link: Link, model: ModelClass, referenced: dict[str, str]) -> dict[str, str]:
    """Leave out references that REMOTE has forgotten: LOCAL brought the object there, and no mirror tells of it.

    REMOTE was restored from an older backup then, and the row that has the key now may be another object.
    """
    if not (link.has_mirrors and referenced):
        return referenced
    log = ChangeLog.objects.using(link.local).synced().of_objects(model, referenced)
    if moment := renewed_at(link.local):
        log = log.filter(synced_at__gt=moment)
    forgotten = set(log.values_list("object_id", flat=True))
    return {each: text for each, text in referenced.items() if each not in forgotten}


def _references(link: Link, model: ModelClass) -> QuerySet[Reference]:
    content_type = ContentType.objects.db_manager(link.local).get_for_model(model)
    return Reference.objects.using(link.local).filter(peer=link.remote_identity, content_type_id=content_type.pk)


def _translated(link: Link, pk: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a primary key that is a foreign key, such as the link of a multi-table child to its parent."""
    if pk.remote_field is None:
        return dict(values)
    target = pk.related_model._meta.concrete_model
    texts = {each: pk_to_text(target, value) for each, value in values.items()}
    found = find(link, target, sorted(set(texts.values())))
    return {each: found.pks[text] for each, text in texts.items() if text in found.pks}


def _keep_existing(link: Link, model: ModelClass, candidates: Mapping[str, Any], found: Found, *, lock: bool) -> None:
    """Add the candidates that have a row on REMOTE."""
    if not candidates:
        return
    names = [each.attname for each in model._meta.local_concrete_fields if each.name in skipped_fields(model)]
    rows = model._base_manager.using(link.remote).filter(pk_among(model, set(candidates.values()))).order_by("pk")
    if lock:
        # The weaker lock lets others insert rows that point to these.
        weaker = connections[link.remote].features.has_select_for_no_key_update
        rows = rows.select_for_update(no_key=weaker)
    existing = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows.values_list("pk", *names)}
    for each, pk in candidates.items():
        if pk in existing:
            found.pks[each] = pk
            found.kept[pk] = existing[pk]


def _choose(link: Link, model: ModelClass, matches: Mapping[str, Match], found: Found) -> dict[str, Any]:
    """Give each object a row with its natural key, but none that is another object's."""
    owners = owners_of(link, model, {pk for each in matches.values() for pk in each.pks})
    ghosts = _ghosts(link, model, set(owners.values()) - matches.keys())
    many = natural.allows_many(model)
    chosen: dict[str, Any] = {}
    first: dict[Any, str] = {}
    for each, match in matches.items():
        if len(match.pks) > 1 and not many:
            found.problems[each] = natural.ambiguous(model)
            continue
        free = [pk for pk in match.pks if (owner := owners.get(pk, each)) == each or owner in ghosts]
        if free:
            chosen[each] = free[0]
            found.ghosts |= {owners[free[0]]} & ghosts if free[0] in owners else set()
            owners[free[0]] = each
        elif not many:
            # Two LOCAL objects with one key: the second one must not become another row with it.
            other = owners[match.pks[0]] if match.pks else first.setdefault(match.key, each)
            if other != each:
                found.taken[each] = other
    return chosen


def _ghosts(link: Link, model: ModelClass, object_ids: Collection[str]) -> set[str]:
    """Return those objects that LOCAL does not have any more, and no entry that would tell REMOTE."""
    if not object_ids:
        return set()
    pks = [pk_from_text(model, each) for each in object_ids]
    living = model._base_manager.using(link.local).filter(pk_among(model, pks)).values_list("pk", flat=True)
    gone = set(object_ids) - {pk_to_text(model, pk) for pk in living}
    entries = ChangeLog.objects.using(link.local).unsettled().of_objects(model, gone)
    return gone - set(entries.values_list("object_id", flat=True))


def _refuse_taken(link: Link, model: ModelClass, found: Found) -> None:
    """Take back counterparts found by a key that are the counterparts of other LOCAL objects."""
    remembered = found.remembered()
    adopted = {each: pk for each, pk in found.pks.items() if remembered.get(each) != pk_to_text(model, pk)}
    for pk, owner in owners_of(link, model, adopted.values()).items():
        others = [each for each, adopted_pk in adopted.items() if adopted_pk == pk and each != owner]
        for each in others if owner not in found.ghosts else ():
            found.taken[each] = owner
            del found.pks[each]


def _instances(
    link: Link, model: ModelClass, object_ids: Collection[str], instances: Mapping[str, Model] | None
) -> dict[str, Model]:
    if instances is not None:
        return {each: instances[each] for each in object_ids if each in instances}
    pks = [pk_from_text(model, each) for each in object_ids]
    read = model._base_manager.using(link.local).filter(pk_among(model, pks))
    return {pk_to_text(model, instance.pk): instance for instance in read}
