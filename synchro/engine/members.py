"""The members of many-to-many relations with an automatic through table: REMOTE's set becomes LOCAL's.

Where somebody listens, ``m2m_changed`` is sent with the arguments that Django's own managers send it with:
https://docs.djangoproject.com/en/5.2/ref/signals/ and ``django.db.models.fields.related_descriptors``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.db.models.signals import m2m_changed

from synchro import rows
from synchro.engine.apply import is_listened
from synchro.engine.link import Link
from synchro.engine.relations import Target, Translation, discover
from synchro.keys import pk_from_text, pk_to_text
from synchro.models import ChangeLog, ChangeRow
from synchro.registry import ManyToMany, ModelClass, all_many_to_many, many_to_many_of

#: An owner's and a member's primary key.
Pair = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class MembersChange:
    """One relation of some owners: the pairs that REMOTE has, with the keys of their rows, and those it should have."""

    relation: ManyToMany
    present: Mapping[Pair, Any]
    wanted: set[Pair]
    #: Members that REMOTE does not have itself, by the object id of their owner.
    lacking: Mapping[str, set[Target]]

    def differing(self) -> set[Any]:
        """Return the owners, by REMOTE's key, whose sets differ as far as REMOTE has their members."""
        return {owner for owner, _ in self.wanted.symmetric_difference(self.present)}

    def without(self, owners: Collection[Any]) -> MembersChange:
        """Return the change without some owners."""
        return MembersChange(
            self.relation,
            {pair: pk for pair, pk in self.present.items() if pair[0] not in owners},
            {pair for pair in self.wanted if pair[0] not in owners},
            self.lacking,
        )


def plan_members(
    link: Link,
    model: ModelClass,
    local_pks: Mapping[str, Any],
    remote_pks: Mapping[str, Any],
    references: dict[ModelClass, dict[str, str]],
) -> list[MembersChange]:
    """Compare the owners' sets on both sides, for all relations that the model owns; what is lacking can come later.

    Args:
        local_pks: the owners' primary keys on LOCAL, by object id.
        remote_pks: their counterparts'.
        references: takes the members' counterparts that LOCAL had to look for.
    """
    changes = []
    for relation in many_to_many_of(model) if remote_pks else ():
        wanted, lacking = _wanted(link, relation, local_pks, remote_pks, references)
        present = _links(link.remote, relation, remote_pks.values())
        changes.append(MembersChange(relation, present, wanted, lacking))
    return changes


def write_members(link: Link, change: MembersChange) -> bool:
    """Make the owners' sets on REMOTE equal to LOCAL's; tell whether anything was written."""
    return _write(link, change.relation, change.present, change.wanted)


def differing_members(
    link: Link, model: ModelClass, local_pks: Mapping[str, Any], remote_pks: Mapping[str, Any]
) -> dict[str, dict[str, tuple[set[Any], set[Any]]]]:
    """Return the owners whose sets are not equal: by relation the members that each side has alone.

    Members are named by REMOTE's keys, those that REMOTE lacks by their object ids.
    """
    found: dict[str, dict[str, tuple[set[Any], set[Any]]]] = {}
    owners = {pk: each for each, pk in remote_pks.items()}
    for change in plan_members(link, model, local_pks, remote_pks, {}):
        only: dict[str, tuple[set[Any], set[Any]]] = {}
        for side, pairs in enumerate((change.wanted - change.present.keys(), change.present.keys() - change.wanted)):
            for owner, member in pairs:
                only.setdefault(owners[owner], (set(), set()))[side].add(member)
        for each, targets in change.lacking.items():
            only.setdefault(each, (set(), set()))[0].update(object_id for _, object_id in targets)
        for each, sides in only.items():
            found.setdefault(each, {})[change.relation.name] = sides
    return found


def log_links_to(link: Link, model: ModelClass, members: Mapping[str, datetime]) -> None:
    """Log the relations on LOCAL that lead to these members: they have come back to REMOTE, and the links have not.

    Args:
        members: object ids, with the date of the change that brought them back.
    """
    log = ChangeLog.objects.using(link.local)
    for relation in all_many_to_many() if members else ():
        if relation.member is not model:
            continue
        pks = {pk_from_text(model, each): date for each, date in members.items()}
        links = relation.through._base_manager.using(link.local).filter(**{f"{relation.target.name}__in": list(pks)})
        dates: dict[str, datetime] = {}
        for owner, member in links.values_list(relation.source.attname, relation.target.attname):
            text = pk_to_text(relation.owner, owner)
            dates[text] = max(pks[member], dates.get(text, pks[member]))
        type_id = ContentType.objects.db_manager(link.local).get_for_model(relation.owner).pk
        log.append([ChangeRow(type_id, text, int(ChangeLog.Action.M2M), date) for text, date in dates.items()])


def _wanted(
    link: Link,
    relation: ManyToMany,
    local_pks: Mapping[str, Any],
    remote_pks: Mapping[str, Any],
    references: dict[ModelClass, dict[str, str]],
) -> tuple[set[Pair], dict[str, set[Target]]]:
    """Return the pairs that REMOTE should have, and the members that it lacks by the object id of their owner."""
    owners = {pk: each for each, pk in local_pks.items()}
    pairs = _links(link.local, relation, local_pks.values())
    texts = {member: pk_to_text(relation.member, member) for _, member in pairs}
    translation = Translation()
    found = discover(link, relation.member, sorted(set(texts.values())), translation) if texts else {}
    for model, keys in translation.discovered.items():
        references.setdefault(model, {}).update(keys)
    wanted: set[Pair] = set()
    lacking: dict[str, set[Target]] = {}
    for owner, member in pairs:
        each, text = owners[owner], texts[member]
        if text in found:
            wanted.add((remote_pks[each], found[text]))
        else:
            lacking.setdefault(each, set()).add((relation.member, text))
    return wanted, lacking


def _links(using: str, relation: ManyToMany, owners: Collection[Any]) -> dict[Pair, Any]:
    """Return the through rows of the owners: the pairs of keys, and each row's own key."""
    found = relation.through._base_manager.using(using).filter(**{f"{relation.source.name}__in": list(owners)})
    return {
        (owner, member): pk
        for owner, member, pk in found.values_list(relation.source.attname, relation.target.attname, "pk")
    }


def _write(link: Link, relation: ManyToMany, present: Mapping[Pair, Any], wanted: set[Pair]) -> bool:
    add = [pair for pair in wanted if pair not in present]
    remove = [pair for pair in present if pair not in wanted]
    if is_listened(relation.through, m2m_changed):
        owners = relation.owner._base_manager.using(link.remote).in_bulk({owner for owner, _ in (*add, *remove)})
        for name, pairs in (("remove", remove), ("add", add)):
            for owner, own in _by_owner(pairs).items():
                _write_announced(link, relation, name, owners[owner], {pair: present.get(pair) for pair in own})
    else:
        _delete(link, relation, [present[pair] for pair in remove])
        _insert(link, relation, add)
    return bool(add or remove)


def _by_owner(pairs: Iterable[Pair]) -> dict[Any, list[Pair]]:
    found: dict[Any, list[Pair]] = {}
    for pair in sorted(pairs, key=str):
        found.setdefault(pair[0], []).append(pair)
    return found


def _write_announced(link: Link, relation: ManyToMany, name: str, owner: Model, pairs: Mapping[Pair, Any]) -> None:
    arguments = {
        "sender": relation.through,
        "instance": owner,
        "reverse": not relation.owner_declares,
        "model": relation.member,
        "pk_set": {member for _, member in pairs},
        "using": link.remote,
    }
    m2m_changed.send(action=f"pre_{name}", **arguments)
    if name == "add":
        _insert(link, relation, list(pairs))
    else:
        _delete(link, relation, list(pairs.values()))
    m2m_changed.send(action=f"post_{name}", **arguments)


def _insert(link: Link, relation: ManyToMany, pairs: Sequence[Pair]) -> None:
    """Insert links, of which others may insert the same: overwritten by itself, a row stays as it is.

    To ignore conflicts, MariaDB and MySQL ignore links to what is not there, too:
    https://mariadb.com/docs/server/reference/sql-statements/data-manipulation/inserting-loading-data/insert-ignore
    """
    if pairs:
        key = [relation.source, relation.target]
        names = [each.attname for each in key]
        links = [relation.through(**dict(zip(names, pair, strict=True))) for pair in pairs]
        rows.upsert(relation.through, links, using=link.remote, fields=key, unique=key, update=key)


def _delete(link: Link, relation: ManyToMany, pks: Sequence[Any]) -> None:
    if pks:
        relation.through._base_manager.using(link.remote).filter(pk__in=pks)._raw_delete(link.remote)
