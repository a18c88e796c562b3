"""Which REMOTE row is the counterpart of a LOCAL object.

In this order: Reference, mirror Reference, natural key, the same explicit primary key, where the link says so the same
automatic one, none. A key that no REMOTE row
has any more does not count. Everything is looked up for a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import CompositePrimaryKey, Model, QuerySet

from synchro.engine import locks, natural
from synchro.engine.link import Link, was_reset
from synchro.engine.locks import Mirror
from synchro.engine.natural import Match
from synchro.exceptions import PermanentError
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import among, pk_among
from synchro.models import ChangeLog, Reference
from synchro.natural_keys import has_natural_key
from synchro.prepared import ask
from synchro.registry import ModelClass, has_auto_pk, keeps_pk, skipped_fields


@dataclass(slots=True)
class Found:
    """What is known of the counterparts of a batch of LOCAL objects, by object id."""

    #: REMOTE's primary keys.
    pks: dict[str, Any] = field(default_factory=dict)
    #: REMOTE's values of the skipped fields, by REMOTE's primary key.
    kept: dict[Any, dict[str, Any]] = field(default_factory=dict)
    #: Keys that the mirrors tell, and keys in LOCAL's references as far as they were asked, also of rows that were
    #: deleted on REMOTE.
    mirrored: dict[str, str] = field(default_factory=dict)
    referenced: dict[str, str] = field(default_factory=dict)
    #: Objects whose reference says that REMOTE has the mirror.
    confirmed: set[str] = field(default_factory=set)
    #: Objects whose mirror and REMOTE row belong to another one, which LOCAL has lost.
    strangers: set[str] = field(default_factory=set)
    #: Objects whose counterpart by natural or explicit key belongs to another LOCAL object: its object id.
    taken: dict[str, str] = field(default_factory=dict)
    problems: dict[str, PermanentError] = field(default_factory=dict)
    #: Objects that LOCAL lost without a log entry, whose rows others have taken over.
    ghosts: set[str] = field(default_factory=set)

    def remembered(self) -> dict[str, str]:
        """Return the keys that either side remembers.

        REMOTE's memory comes first: it is as old as REMOTE's rows, also where these were restored from a backup.
        """
        return self.referenced | self.mirrored

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
        doubted = object_ids if lock or not keeps_pk(model) else ()
        candidates = _known(link, model, object_ids, mirrors, found, doubted=doubted)
        if not by_natural_key:
            remembered = found.remembered()
            candidates |= explicit_pks(link, model, [each for each in object_ids if each not in remembered])
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
    rows = _references(link, model).filter(among("local_object_id", object_ids))
    return dict(rows.values_list("local_object_id", "remote_object_id"))  # type: ignore[arg-type]


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
    link: Link,
    model: ModelClass,
    deleted: Mapping[str, list[Any]],
    mirrors: Mapping[str, Mirror],
    *,
    added: Collection[str],
) -> Found:
    """Find and lock the counterparts of deleted objects: by Reference, mirror, or the natural key that the log kept.

    An explicit primary key alone does not tell that a REMOTE row is the deleted object.

    Args:
        deleted: the logged natural keys, by object id; empty where there is none.
        added: those that were added since the last synchronization, too.
    """
    found = Found()
    known = _known(link, model, deleted, mirrors, found, doubted=added)
    _keep_existing(link, model, known, found, lock=True)
    remembered = found.remembered()
    keys = {each: key for each, key in deleted.items() if key and each not in remembered}
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


def owners_by_key(link: Link, model: ModelClass, remote_pks: Collection[Any]) -> dict[Any, str]:
    """Return what ``owners_of`` does, and where both sides share their keys also what nobody remembers."""
    shared = {pk: pk_to_text(model, pk) for pk in remote_pks} if keeps_pk(model) else {}
    return shared | owners_of(link, model, remote_pks)


class _Remembered(NamedTuple):
    """What LOCAL's reference says."""

    key: str
    added_at: datetime | None
    mirrored_as: UUID | None


def _known(
    link: Link,
    model: ModelClass,
    object_ids: Collection[str],
    mirrors: Mapping[str, Mirror] | None,
    found: Found,
    *,
    doubted: Collection[str],
) -> dict[str, Any]:
    """Note what the two sides remember, and return the REMOTE keys of which nobody knows yet whether they have a row.

    Args:
        doubted: whose mirrors are believed only in sight of LOCAL's references.
    """
    told = locks.look(link, model, object_ids) if mirrors is None else mirrors
    told = {each: mirror for each in object_ids if (mirror := told.get(each)) and mirror.key is not None}
    in_doubt = set(doubted)
    asked = [each for each in object_ids if each not in told or each in in_doubt]
    remembered = _remembered(link, model, asked)
    found.strangers = _strangers(link, model, {each: told[each] for each in asked if each in told}, remembered)
    found.mirrored = {each: str(mirror.key) for each, mirror in told.items() if each not in found.strangers}
    forgotten = _forgotten(link, model, {each: one for each, one in remembered.items() if each not in told})
    found.referenced = {each: one.key for each, one in remembered.items() if each not in forgotten}
    found.confirmed = {each for each, one in remembered.items() if one.mirrored_as == link.local_identity} - forgotten
    pks = {each: pk_from_text(model, text) for each, text in found.remembered().items()}
    found.pks |= {each: pks[each] for each in found.mirrored if told[each].has_row}
    return {each: pk for each, pk in pks.items() if each not in found.mirrored or told[each].has_row is None}


def _strangers(
    link: Link, model: ModelClass, mirrors: Mapping[str, Mirror], remembered: Mapping[str, _Remembered]
) -> set[str]:
    """Return the objects whose mirrors were made for others that had the same automatic keys.

    LOCAL has lost those, and its references to them, since it was restored from an older backup; its log tells that
    the new ones were added at other moments. Without a row on REMOTE there is nothing to confuse.
    """
    doubtful = {each: one for each, one in mirrors.items() if one.names_its_object and each not in remembered}
    if not doubtful or keeps_pk(model):
        return set()
    dates: dict[str, set[datetime]] = {}
    log = ChangeLog.objects.using(link.local).of_objects(model, doubtful).filter(action=ChangeLog.Action.ADD)
    for object_id, date in log.values_list("object_id", "date"):
        dates.setdefault(object_id, set()).add(date)
    others = {each: pk_from_text(model, str(doubtful[each].key)) for each in dates}
    others = {each: pk for each, pk in others.items() if doubtful[each].added_at not in dates[each]}
    rows = model._base_manager.using(link.remote).filter(pk_among(model, others.values()))
    existing = set(rows.values_list("pk", flat=True)) if others else set()
    return {each for each, pk in others.items() if pk in existing}


def _forgotten(link: Link, model: ModelClass, remembered: Mapping[str, _Remembered]) -> set[str]:
    """Return the objects of which REMOTE had, or must have had, the mirror that it has not.

    REMOTE was restored from an older backup then, and the row that has the key now may be another object, unless
    REMOTE's own log knows when it was added. What the other side wrote here it acknowledges later, but its log has the
    object by then. What a key told, or what was known under another identity, never had a mirror.
    """
    if not link.has_mirrors:
        return set()
    certain = {each for each, one in remembered.items() if one.mirrored_as == link.local_identity}
    theirs = {
        each: one for each, one in remembered.items() if one.added_at and (each in certain or one.mirrored_as is None)
    }
    if not certain | theirs.keys():
        return set()
    log = ChangeLog.objects.using(link.remote).of_objects(model, {one.key for one in theirs.values()})
    added = set(log.filter(action=ChangeLog.Action.ADD).values_list("object_id", "date")) if theirs else set()
    gone = (certain | theirs.keys()) - {each for each, one in theirs.items() if (one.key, one.added_at) in added}
    return gone if gone and not was_reset(link.remote) else set()


def _remembered(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, _Remembered]:
    if not object_ids:
        return {}

    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        rows = _references(link, model).filter(among("local_object_id", ids))
        return rows.values_list("local_object_id", "remote_object_id", "added_at", "mirrored_as")

    key = "references", link.remote_identity, ContentType.objects.db_manager(link.local).get_for_model(model).pk
    return {each: _Remembered(*values) for each, *values in ask(object_ids, compose, using=link.local, key=key)}


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
        free = [pk for pk in match.pks if (owner := owners.get(pk, each)) == each or owner in ghosts]
        if len(free if match.may_repeat else match.pks) > 1 and not many:
            found.problems[each] = natural.ambiguous(model)
        elif free:
            chosen[each] = free[0]
            found.ghosts |= {owners[free[0]]} & ghosts if free[0] in owners else set()
            owners[free[0]] = each
        elif not (many or match.may_repeat):
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
