"""One batch of objects of one model, from the lock on REMOTE to REMOTE's commit, and the acknowledgement on LOCAL.

The order is the promise: lock on REMOTE, then take the pending entries, then read LOCAL, write, commit REMOTE, and only
then mark exactly the entries that were taken. A crash at any point leaves entries pending that are applied again, with
the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, transaction
from django.db.models import Model, QuerySet
from django.utils.translation import gettext

from synchro import rows
from synchro.engine import conflicts, locks
from synchro.engine.apply import Plan, goes_together, release, write
from synchro.engine.link import Link, one_process, remote_transaction
from synchro.engine.members import sync_members
from synchro.engine.relations import Holder, Target, Translation, pending_among, pointing_to, translate
from synchro.engine.resolve import Found, find, find_deleted, references
from synchro.engine.values import point_parents, restore_json_null
from synchro.exceptions import CounterpartTaken, HeldByRemoteRows
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import among, pk_among
from synchro.models import ChangeLog, Reference, ReferenceRow
from synchro.registry import ModelClass, many_to_many_of, model_label, skipped_fields

Action = ChangeLog.Action


@dataclass(slots=True)
class Step:
    """Objects of one model that are to be brought to REMOTE together."""

    model: ModelClass
    ids: list[str]
    #: Copy an object that REMOTE lacks even if it has no pending entry: something else points to it.
    wanted: bool = False
    #: Write NULL for now where a foreign key points to something that REMOTE lacks: the objects point to each other.
    breaks_cycle: bool = False
    #: After how many moves of the run it let others go first; a second time without any move is no use.
    stepped_aside_at: int = -1


@dataclass(frozen=True, slots=True)
class Taken:
    """A log entry as it was read under the lock."""

    id: int
    action: int
    date: datetime


@dataclass(slots=True)
class Outcome:
    """What became of a step, by object id."""

    #: Entries whose change is on REMOTE.
    arrived: dict[str, list[int]] = field(default_factory=dict)
    #: Entries that lost against REMOTE, with the reason.
    lost: dict[str, tuple[list[int], str]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    #: What has to come first.
    blocked: dict[str, set[Target]] = field(default_factory=dict)
    #: Those that come first because they still point to an object that is to be deleted.
    holders: set[Target] = field(default_factory=set)
    #: Objects that the next round finishes: deleted, and added again.
    again: set[str] = field(default_factory=set)
    #: Objects that were written with NULL for a foreign key, to be finished when its target is there.
    postponed: set[str] = field(default_factory=set)
    #: Objects that something points to and that LOCAL does not have.
    absent: set[str] = field(default_factory=set)
    #: Whether anything was written, so that another round may find less in its way.
    progress: bool = False
    #: REMOTE's keys to remember on LOCAL, and objects whose reference is to be forgotten.
    references: dict[ModelClass, dict[str, str]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    #: REMOTE's keys that REMOTE itself remembers: nobody has looked yet whether LOCAL does.
    mirrored: dict[str, str] = field(default_factory=dict)


def replicate(link: Link, step: Step) -> Outcome:
    """Bring a step's objects to REMOTE as far as nothing stands in their way, and acknowledge on LOCAL what arrived.

    Raises:
        Exception: a statement failed; nothing of the step was written.
    """
    outcome = Outcome()
    with one_process(link):
        with remote_transaction(link, step.model):
            batch = _Batch(link, step, outcome)
            batch.read()
            batch.plan_deletes()
            batch.plan_copies()
            batch.write()
        _acknowledge(link, step.model, outcome)
    return outcome


class _Batch:
    """The work on one step inside REMOTE's transaction."""

    def __init__(self, link: Link, step: Step, outcome: Outcome) -> None:
        self.link = link
        self.step = step
        self.model = step.model
        self.outcome = outcome
        self.mirrors = locks.lock_objects(link, step.model, step.ids)
        self.entries: dict[str, list[Taken]] = {}
        self.instances: dict[str, Model] = {}
        self.found = Found()
        self.translation = Translation()
        self.plan = Plan()

    def read(self) -> None:
        """Take the entries, and only then read the objects' newest state."""
        self.entries = _take(self.link, self.model, self.step.ids)
        wanted = self.step.ids if self.step.wanted else self.entries
        pks = [pk_from_text(self.model, each) for each in wanted]
        rows_read = self.model._base_manager.using(self.link.local).filter(pk_among(self.model, pks))
        self.instances = {pk_to_text(self.model, instance.pk): instance for instance in rows_read}
        restore_json_null(self.link.local, self.model, self.instances.values())

    # Deletes

    def plan_deletes(self) -> None:
        """Plan the deletion of objects with a delete among their entries, also where the key lives again."""
        deleted = self._deleted()
        if not deleted:
            return
        found = find_deleted(self.link, self.model, deleted, self.mirrors)
        self.found.referenced |= found.referenced
        self.found.mirrored |= found.mirrored
        self.outcome.failures |= found.problems
        counterparts = self._without_losers(found.pks, found)
        held = self._held(counterparts)
        if self.step.breaks_cycle:
            self._let_go({each: counterparts[each] for each in held & self.outcome.blocked.keys()})
        for each in deleted:
            if each in self.outcome.failures or each in self.outcome.lost or each in held:
                continue
            if each in counterparts:
                self.plan.deletes[each] = counterparts[each]
            self.outcome.forgotten.add(each)
            self._settle_delete(each)

    def _deleted(self) -> dict[str, list[Any]]:
        """Return the logged natural keys of deleted objects; none for one added after the last synchronization."""
        first = {
            each: next(entry.id for entry in entries if entry.action == Action.DELETE)
            for each, entries in self.entries.items()
            if any(entry.action == Action.DELETE for entry in entries)
        }
        if not first:
            return {}
        logged = ChangeLog.objects.using(self.link.local).filter(among("pk", first.values()))
        natural_keys = dict(logged.values_list("pk", "natural_key"))
        was_added = {each for each in first if self.entries[each][0].action == Action.ADD}
        return {each: [] if each in was_added else natural_keys.get(pk) or [] for each, pk in first.items()}

    def _held(self, counterparts: Mapping[str, Any]) -> set[str]:
        """Return the objects that REMOTE's rows point to: blocked where these are about to go, failed elsewhere."""
        holders = pointing_to(self.link, self.model, counterparts)
        held = self._held_back(counterparts, holders)
        leaving = pending_among(self.link, {holder for others in held.values() for holder in others})
        for each, others in held.items():
            waiting = {leaving[holder] for holder in others if holder in leaving} - {(self.model, each)}
            if waiting:
                self.outcome.blocked[each] = waiting
                self.outcome.holders |= waiting
            else:
                self.outcome.failures[each] = _held_by(others)
        return set(held)

    def _held_back(
        self, counterparts: Mapping[str, Any], holders: Mapping[str, list[Holder]]
    ) -> dict[str, list[Holder]]:
        """Return the rows that keep each object, without rows that go in the same statement and without itself."""
        together = goes_together(self.link, self.model)
        held: dict[str, list[Holder]] = {}
        while True:
            going = {(self.model, pk) for each, pk in counterparts.items() if each not in held} if together else set()
            found = {
                each: others
                for each, all_holders in holders.items()
                if (others := [holder for holder in all_holders if (holder.model, holder.pk) not in going])
                and any((holder.model, holder.pk) != (self.model, counterparts[each]) for holder in others)
            }
            if found.keys() == held.keys():
                return held
            held = found

    def _let_go(self, counterparts: Mapping[str, Any]) -> None:
        """Empty the nullable foreign keys of rows to delete, so that they hold back no others; they go afterwards."""
        if release(self.link, self.model, list(counterparts.values())):
            self.outcome.postponed |= counterparts.keys()
            for each in counterparts:
                del self.outcome.blocked[each]

    def _settle_delete(self, object_id: str) -> None:
        """Let the entries up to the last delete arrive; later ones belong to a new object with the same key."""
        entries = self.entries[object_id]
        last = max(index for index, entry in enumerate(entries) if entry.action == Action.DELETE)
        self.outcome.arrived[object_id] = [entry.id for entry in entries[: last + 1]]
        if entries[last + 1 :]:
            self.outcome.again.add(object_id)

    # Copies

    def plan_copies(self) -> None:
        """Plan the insert or update of objects that live."""
        copies = {each: instance for each in self._living() if (instance := self.instances.get(each)) is not None}
        self._settle_vanished(copies)
        if not copies:
            return
        found = find(self.link, self.model, copies, instances=copies, mirrors=self.mirrors, lock=True)
        self.found.pks, self.found.kept, self.found.ghosts = found.pks, found.kept, found.ghosts
        self.found.referenced |= found.referenced
        self.found.mirrored |= found.mirrored
        self.outcome.failures |= found.problems
        self._refuse_taken(found.taken)
        self._without_losers(found.pks, found)
        closed = self._closed()
        chosen = {each: instance for each, instance in copies.items() if each not in closed and self._needs_row(each)}
        self.translation = translate(self.link, self.model, chosen)
        self.outcome.failures |= self.translation.problems
        for each, instance in chosen.items():
            if each not in self.outcome.failures and self._point(each, instance):
                self._plan_copy(each, instance)

    def _living(self) -> list[str]:
        deleted = {
            each for each, taken in self.entries.items() if any(entry.action == Action.DELETE for entry in taken)
        }
        wanted = self.step.ids if self.step.wanted else self.entries
        return [each for each in wanted if each not in deleted]

    def _settle_vanished(self, copies: Mapping[str, Model]) -> None:
        """Settle objects gone without a logged delete (yet): a delete that commits now has an entry of its own."""
        for each in self._living():
            if each not in copies:
                if each in self.entries:
                    self._arrive(each)
                else:
                    self.outcome.absent.add(each)

    def _refuse_taken(self, taken: Mapping[str, str]) -> None:
        """Let an object wait whose counterpart belongs to another one that is about to change; else it fails."""
        if not taken:
            return
        owners = ChangeLog.objects.using(self.link.local).pending().of_objects(self.model, set(taken.values()))
        changing = set(owners.values_list("object_id", flat=True))
        for each, owner in taken.items():
            if owner in changing:
                self.outcome.blocked[each] = {(self.model, owner)}
            else:
                self.outcome.failures[each] = CounterpartTaken()

    def _needs_row(self, object_id: str) -> bool:
        """Whether the row itself is to be written; entries of relations alone do not touch a row that REMOTE has."""
        if object_id not in self.found.pks:
            return True
        return any(entry.action != Action.M2M for entry in self.entries.get(object_id, ()))

    def _point(self, object_id: str, instance: Model) -> bool:
        """Give the instance REMOTE's foreign keys; False where a target must be there first."""
        missing = self.translation.missing.get(object_id, {})
        values = self.translation.values.get(object_id, {})
        if missing:
            nullable = all(instance._meta.get_field(_field_name(instance, name)).null for name in missing)
            if not (self.step.breaks_cycle and nullable):
                self.outcome.blocked[object_id] = set(missing.values())
                return False
            values = values | dict.fromkeys(missing)
            self.outcome.postponed.add(object_id)
        for name, value in values.items():
            setattr(instance, name, value)
        return True

    def _plan_copy(self, object_id: str, instance: Model) -> None:
        instance._state.db = self.link.remote
        instance._state.fields_cache.clear()  # what a natural key was made of is LOCAL's
        kept = skipped_fields(self.model)
        if object_id in self.found.pks:
            pk = self.found.pks[object_id]
            instance.pk = pk
            point_parents(instance)
            for name, value in self.found.kept.get(pk, {}).items():
                setattr(instance, name, value)
            self.plan.updates[object_id] = instance
            return
        point_parents(instance)
        for each in self.model._meta.local_concrete_fields:
            if each.name in kept:
                setattr(instance, each.attname, each.get_default())
                # Sets the moment where the field is auto_now or auto_now_add, as in any new row.
                each.pre_save(instance, add=True)
        self.plan.inserts[object_id] = instance

    # Both

    def write(self) -> None:
        """Carry out the plan, remember the counterparts, and bring the members of relations."""
        if self.plan.deletes or self.plan.inserts or self.plan.updates:
            failures = write(self.link, self.model, self.plan)
            self._fail(failures)
            self.outcome.progress = len(failures) < sum(
                map(len, (self.plan.deletes, self.plan.inserts, self.plan.updates))
            )
        written = {**self.plan.inserts, **self.plan.updates}
        closed = self._closed()
        self.found.pks |= {each: instance.pk for each, instance in written.items() if each not in closed}
        self._remember()
        self._bring_members()
        closed = self._closed() | self.outcome.postponed
        for each in self._living():
            if each not in closed:
                self._arrive(each)

    def _fail(self, failures: Mapping[str, Exception]) -> None:
        self.outcome.failures |= failures
        for each in failures:
            self.outcome.arrived.pop(each, None)
            self.outcome.forgotten.discard(each)
            self.outcome.again.discard(each)
            self.outcome.postponed.discard(each)

    def _remember(self) -> None:
        """Mirror the counterparts on REMOTE; drop locks that were taken for objects that REMOTE does not get."""
        texts = {
            each: pk_to_text(self.model, pk) for each, pk in self.found.pks.items() if each not in self.outcome.failures
        }
        self.outcome.references = {
            model: dict(keys) for model, keys in self.translation.discovered.items() if model is not self.model
        }
        remembered = self.found.remembered()
        self.outcome.references[self.model] = {
            each: text for each, text in texts.items() if remembered.get(each) != text
        }
        self.outcome.mirrored = {each: text for each, text in texts.items() if self.found.mirrored.get(each) == text}
        changed = {
            each: text for each, text in texts.items() if each in self.mirrors and self.mirrors[each].key != text
        }
        unused = {each for each, mirror in self.mirrors.items() if mirror.key is None and each not in texts}
        locks.drop_mirrors(self.link, self.model, self.outcome.forgotten | unused | self.found.ghosts)
        locks.write_mirrors(self.link, self.model, self.mirrors, changed)

    def _bring_members(self) -> None:
        if not many_to_many_of(self.model):
            return
        closed = self._closed()
        owners = {each: pk for each, pk in self.found.pks.items() if each not in closed and self._needs_members(each)}
        local = {each: pk_from_text(self.model, each) for each in owners}
        missing, changed = sync_members(self.link, self.model, local, owners, self.outcome.references)
        self.outcome.progress |= changed
        self.outcome.blocked |= missing

    def _needs_members(self, object_id: str) -> bool:
        entries = self.entries.get(object_id, ())
        # The row that an added object adopts may have members of REMOTE's own.
        told = any(entry.action in (Action.M2M, Action.ADD) for entry in entries)
        return told or bool(entries and object_id in self.plan.inserts)

    def _without_losers(self, pks: Mapping[str, Any], found: Found) -> dict[str, Any]:
        """Set aside objects that REMOTE changed, or deleted, later than LOCAL."""
        known = {each: pk_from_text(self.model, text) for each, text in found.remembered().items()} | dict(pks)
        dates = {
            each: max(entry.date for entry in self.entries[each])
            for each in known
            if each in self.entries and each not in self.outcome.failures
        }
        for each, date in conflicts.lost(self.link, self.model, dates, known).items():
            reason = gettext("REMOTE changed the object later, at %(moment)s.") % {"moment": date.isoformat()}
            self.outcome.lost[each] = [entry.id for entry in self.entries[each]], reason
        return {each: pk for each, pk in pks.items() if each not in self.outcome.lost}

    def _closed(self) -> set[str]:
        """The objects that this round does not bring, or not as a whole."""
        outcome = self.outcome
        return {*outcome.failures, *outcome.lost, *outcome.blocked, *outcome.absent}

    def _arrive(self, object_id: str) -> None:
        self.outcome.arrived[object_id] = [entry.id for entry in self.entries.get(object_id, ())]


def _take(link: Link, model: ModelClass, object_ids: Iterable[str]) -> dict[str, list[Taken]]:
    """Take the unsettled entries of the objects that have a pending one, oldest first.

    Entries that were given up go along: the newest state of the object covers them, too.
    """
    entries = ChangeLog.objects.using(link.local).unsettled().of_objects(model, list(object_ids)).order_by("id")
    taken: dict[str, list[Taken]] = {}
    pending = set()
    for pk, object_id, action, date, state in entries.values_list("id", "object_id", "action", "date", "state"):
        taken.setdefault(object_id, []).append(Taken(pk, action, date))
        if state == ChangeLog.State.PENDING:
            pending.add(object_id)
    return {each: rows_taken for each, rows_taken in taken.items() if each in pending}


def _acknowledge(link: Link, model: ModelClass, outcome: Outcome) -> None:
    """Remember on LOCAL what REMOTE has committed."""
    log = ChangeLog.objects.using(link.local)
    with transaction.atomic(using=link.local):
        if outcome.forgotten:
            _references(link, model).filter(among("local_object_id", outcome.forgotten)).delete()
        for referenced, keys in outcome.references.items():
            _write_references(link, referenced, keys)
        if outcome.mirrored:
            known = references(link, model, outcome.mirrored)
            _write_references(
                link, model, {each: text for each, text in outcome.mirrored.items() if known.get(each) != text}
            )
        if arrived := [pk for ids in outcome.arrived.values() for pk in ids]:
            log.mark_synced(arrived)
        for ids, reason in outcome.lost.values():
            log.mark_skipped(ids, reason)


def _write_references(link: Link, model: ModelClass, keys: Mapping[str, str]) -> None:
    if not keys:
        return
    content_type = ContentType.objects.db_manager(link.local).get_for_model(model)
    meta = Reference._meta
    fields: list[Any] = [
        meta.get_field(name) for name in ("content_type", "peer", "local_object_id", "remote_object_id")
    ]
    references = [
        ReferenceRow(content_type.pk, link.remote_identity, local_text, remote_text)
        for local_text, remote_text in keys.items()
    ]
    unique = [fields[1], fields[0], fields[2]]
    # A vendor that does not say which unique index an upsert is about could overwrite the row of the other one.
    if not connections[link.local].features.supports_update_conflicts_with_target:
        _forget_others(link, model, keys)
    try:
        with transaction.atomic(using=link.local):
            rows.upsert(Reference, references, using=link.local, fields=fields, unique=unique, update=[fields[3]])
    except IntegrityError:
        _forget_others(link, model, keys)
        rows.upsert(Reference, references, using=link.local, fields=fields, unique=unique, update=[fields[3]])


def _forget_others(link: Link, model: ModelClass, keys: Mapping[str, str]) -> None:
    """Forget which other objects had these objects' REMOTE keys: REMOTE was restored, say, and reuses keys."""
    stale = _references(link, model).filter(among("remote_object_id", keys.values()))
    stale.exclude(among("local_object_id", keys)).delete()


def _references(link: Link, model: ModelClass) -> QuerySet[Reference]:
    content_type = ContentType.objects.db_manager(link.local).get_for_model(model)
    return Reference.objects.using(link.local).filter(peer=link.remote_identity, content_type_id=content_type.pk)


def _field_name(instance: Model, attname: str) -> str:
    return next((each.name for each in instance._meta.fields if each.attname == attname), attname)


def _held_by(holders: list[Any]) -> HeldByRemoteRows:
    counts: dict[str, int] = {}
    for holder in holders:
        label = model_label(holder.model)
        counts[label] = counts.get(label, 0) + 1
    rows_told = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    return HeldByRemoteRows(
        f"Rows that exist only on REMOTE point to the object ({rows_told}), so it is not deleted there. "
        "Move or delete those rows on REMOTE."
    )
