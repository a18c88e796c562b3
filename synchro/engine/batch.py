"""One batch of objects of one model, from the lock on REMOTE to REMOTE's commit, and the acknowledgement on LOCAL.

The order is the promise: lock on REMOTE, then take the pending entries, then read LOCAL, write, commit REMOTE, and only
then mark exactly the entries that were taken. A crash at any point leaves entries pending that are applied again, with
the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.models import Model, QuerySet
from django.db.models.signals import post_save, pre_save

from synchro.capture import noting_saves, rows_of
from synchro.conf import conf
from synchro.engine import locks
from synchro.engine.acknowledge import acknowledge
from synchro.engine.apply import Plan, goes_together, is_listened, release, update, write
from synchro.engine.contest import Contest
from synchro.engine.followers import follow, moves
from synchro.engine.link import Link, one_process, remote_transaction
from synchro.engine.members import plan_members, write_members
from synchro.engine.relations import (
    Holder,
    Holders,
    Target,
    Translation,
    dangling,
    living_among,
    pointing_to,
    saved_with_children,
    translate,
    unsettled_among,
)
from synchro.engine.resolve import Found, find, find_deleted, owners_by_key
from synchro.engine.steps import Outcome, Step, Taken
from synchro.engine.temporary import temporary
from synchro.engine.uniques import make_way, may_make_way
from synchro.engine.values import Checks, checked, point_parents, refusal, restore_json_null
from synchro.exceptions import CounterpartTaken, HeldByRemoteRows, KeyOfAnother
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import among, pk_among
from synchro.models import ChangeLog
from synchro.prepared import ask
from synchro.registry import ModelClass, keeps_pk, many_to_many_of, model_label, skipped_fields

Action = ChangeLog.Action


def replicate(link: Link, step: Step) -> Outcome:
    """Bring a step's objects to REMOTE as far as nothing stands in their way, and acknowledge on LOCAL what arrived.

    Raises:
        Exception: a statement failed; nothing of the step was written.
    """
    with one_process(link):
        with remote_transaction(link, step.model):
            outcome = _apply(link, step)
        acknowledge(link, step.model, outcome)
    return outcome


def replicate_circle(link: Link, steps: Sequence[Step]) -> list[Outcome]:
    """Bring the steps of one circle in one transaction on REMOTE, whose vendor checks foreign keys when it commits.

    The first round makes every row, with keys that lead nowhere as far as their targets come later; the second one
    fills them in.

    Raises:
        Exception: a statement failed; nothing was written.
    """
    with one_process(link):
        with remote_transaction(link, steps[0].model):
            for step in steps:
                _apply(link, step)
            outcomes = [_apply(link, replace(step, circle=frozenset())) for step in steps]
        for step, outcome in zip(steps, outcomes, strict=True):
            acknowledge(link, step.model, outcome)
    return outcomes


def needed_by(link: Link, step: Step) -> set[Target]:
    """Return what stands in a step's way; nothing is written."""
    with remote_transaction(link, step.model):
        batch = _Batch(link, step, Outcome())
        batch.prepare()
        transaction.set_rollback(True, using=link.remote)
    return set().union(*batch.outcome.blocked.values())


def _apply(link: Link, step: Step) -> Outcome:
    outcome = Outcome()
    batch = _Batch(link, step, outcome)
    batch.prepare()
    batch.write()
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
        #: Objects whose foreign keys to others of the batch are filled when these are there, too.
        self.later: dict[str, Mapping[str, Target]] = {}
        #: What must be looked at in the values, by field.
        self.checks: Checks = []
        self.contest = Contest(link, step.model, self.entries, outcome)

    def prepare(self) -> None:
        """Decide what is to be written, from what is read under the lock."""
        self.read()
        self.plan_deletes()
        self.plan_copies()

    def read(self) -> None:
        """Take the entries, and only then read the objects' newest state."""
        self.entries |= _take(self.link, self.model, self.step.ids)
        newest = {each: entries[-1].id for each, entries in self.entries.items()}
        self.step.newest = dict.fromkeys(self.step.ids, 0) | newest
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
        added = {each for each in deleted if self._added_at(each)}
        found = find_deleted(self.link, self.model, deleted, self.mirrors, added=added)
        self.found.referenced |= found.referenced
        self.found.mirrored |= found.mirrored
        self.found.strangers |= found.strangers
        self.outcome.failures |= found.problems
        self.contest.judge_rows(found, deleted, deleted=True)
        counterparts = {each: pk for each, pk in found.pks.items() if each not in self.contest.left}
        held = self._held(counterparts)
        if self.step.breaks_cycle:
            self._let_go({each: counterparts[each] for each in held & self.outcome.blocked.keys()})
        for each in deleted:
            if each in self.outcome.failures or each in self.contest.left or each in held:
                continue
            if each in counterparts:
                self.plan.deletes[each] = counterparts[each]
            self.outcome.forgotten.add(each)
            self._settle_delete(each)

    def _deleted(self) -> dict[str, list[Any]]:
        """Return the logged natural keys of deleted objects; none for one added after the last synchronization."""
        first = {
            each: next(entry.id for entry in self.entries[each] if entry.action == Action.DELETE)
            for each in self._with_delete()
        }
        if not first:
            return {}
        logged = ChangeLog.objects.using(self.link.local).filter(among("pk", first.values()))
        natural_keys = dict(logged.values_list("pk", "natural_key"))
        was_added = {each for each in first if self.entries[each][0].action == Action.ADD}
        return {each: [] if each in was_added else natural_keys.get(pk) or [] for each, pk in first.items()}

    def _with_delete(self) -> set[str]:
        """Return the objects whose deletion is to be applied.

        One with a key of its own that lives although its last entry is a deletion was written by the other side's
        engine, or unseen: it lives.
        """
        keeps = keeps_pk(self.model)
        return {
            each
            for each, entries in self.entries.items()
            if any(entry.action == Action.DELETE for entry in entries)
            and not (keeps and each in self.instances and entries[-1].action == Action.DELETE)
        }

    def _held(self, counterparts: Mapping[str, Any]) -> set[str]:
        """Return the objects that REMOTE's rows point to: blocked where these are about to go, failed elsewhere."""
        holders = pointing_to(self.link, self.model, counterparts)
        held = self._held_back(counterparts, holders)
        together: set[str] = set()
        all_held = {holder for others in held.values() for holder in others}
        leaving = unsettled_among(self.link, all_held)
        leaving |= self._log_unseen(all_held - leaving.keys())
        for each, others in held.items():
            if all(leaving.get(holder) in self.step.circle for holder in others):
                together.add(each)
                continue
            waiting = {leaving[holder] for holder in others if holder in leaving} - {(self.model, each)}
            if waiting:
                self.outcome.blocked[each] = waiting
                self.outcome.holders |= waiting
            elif conf.remote_cascade:
                self.plan.cascades.add(each)
            else:
                self.outcome.failures[each] = _held_by(others, holders[each].more)
        return held.keys() - self.plan.cascades - together

    def _log_unseen(self, holders: set[Holder]) -> dict[Holder, Target]:
        """Log objects that let go of a deleted one unseen: LOCAL has them still, so they do not point to it any more.

        A delete empties the keys of more rows than it has told of if others are made to point to the object meanwhile.
        """
        living = living_among(self.link, holders)
        by_model: dict[ModelClass, set[str]] = {}
        for model, object_id in living.values():
            by_model.setdefault(model, set()).add(object_id)
        for model, object_ids in by_model.items():
            ChangeLog.objects.using(self.link.local).append_changes(model, sorted(object_ids))
        return living

    def _held_back(self, counterparts: Mapping[str, Any], holders: Mapping[str, Holders]) -> dict[str, list[Holder]]:
        """Return the rows that keep each object, without rows that go in the same statement and without itself."""
        together = goes_together(self.link, self.model)
        held: dict[str, list[Holder]] = {}
        while True:
            going = {(self.model, pk) for each, pk in counterparts.items() if each not in held} if together else set()
            found = {
                each: others
                for each, all_holders in holders.items()
                if (others := [holder for holder in all_holders.rows if (holder.model, holder.pk) not in going])
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
        self.found.confirmed |= found.confirmed
        self.found.strangers |= found.strangers
        self.outcome.failures |= found.problems
        self.outcome.failures |= {each: KeyOfAnother() for each in found.missing(found.strangers)}
        self._refuse_taken(found.taken)
        self.contest.judge_rows(found, copies)
        self.contest.tell_what_is_lost(copies, self.found.pks)
        self.checks = checked(self.link, self.model)
        closed = self._closed()
        chosen = {each: instance for each, instance in copies.items() if each not in closed and self._needs_row(each)}
        self.translation = translate(self.link, self.model, chosen)
        self.outcome.failures |= self.translation.problems
        self._keep_dangling()
        for each, instance in chosen.items():
            if each not in self.outcome.failures and self._point(each, instance):
                self._plan_copy(each, instance)
        self._drop_incomplete()
        self._choose_who_hears()

    def _living(self) -> list[str]:
        deleted = self._with_delete()
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
        """Let an object wait whose counterpart belongs to another one that is to change; else it fails."""
        if not taken:
            return
        owners = ChangeLog.objects.using(self.link.local).unsettled().of_objects(self.model, set(taken.values()))
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
        if object_id in self.contest.rows_left:
            return False
        return any(entry.action != Action.M2M for entry in self.entries.get(object_id, ()))

    def _keep_dangling(self) -> None:
        """Let copies point to nothing where the objects do: there is no new key that REMOTE could get for that."""
        for each, targets in self.translation.dangling.items():
            copy = self.model._base_manager.using(self.link.remote).filter(pk=self.found.pks.get(each))
            for name, target in targets.items():
                value = copy.values_list(name, flat=True).first()
                if value is None or target._base_manager.using(self.link.remote).filter(pk=value).exists():
                    self.outcome.failures[each] = dangling(target, name)
                else:
                    self.translation.values.setdefault(each, {})[name] = value

    def _point(self, object_id: str, instance: Model) -> bool:
        """Give the instance REMOTE's foreign keys; False where a target must be there first."""
        missing = self.translation.missing.get(object_id, {})
        values = self.translation.values.get(object_id, {})
        if missing and self._comes_along(instance, missing):
            self.later[object_id] = missing
            values = values | {name: self._nowhere(instance, name) for name in missing}
        elif missing and self.step.circle.issuperset(missing.values()):
            values = values | {name: self._nowhere(instance, name) for name in missing}
        elif missing:
            nullable = all(instance._meta.get_field(_field_name(instance, name)).null for name in missing)
            if not (self.step.breaks_cycle and nullable):
                self.outcome.blocked[object_id] = set(missing.values())
                return False
            values = values | dict.fromkeys(missing)
            self.outcome.postponed.add(object_id)
        for name, value in values.items():
            setattr(instance, name, value)
        return True

    def _comes_along(self, instance: Model, missing: Mapping[str, Target]) -> bool:
        """Tell whether the targets are of the same batch, and the keys may wait for them until they are written.

        So a chain needs two statements and not a round for each of its links. Handlers would see the object before it
        is whole: where somebody listens, what is pointed to comes in a round before.
        """
        later = connections[self.link.remote].features.can_defer_constraint_checks
        return (
            all(model is self.model and each in self.instances for model, each in missing.values())
            and all(later or instance._meta.get_field(_field_name(instance, name)).null for name in missing)
            and not is_listened(self.model, pre_save, post_save)
        )

    def _drop_incomplete(self) -> None:
        """Take objects out of the plan again whose targets are not written with them."""
        while incomplete := {
            each: targets
            for each, keys in self.later.items()
            if (targets := {target for target in keys.values() if target[1] not in self.plan.inserts})
        }:
            for each, targets in incomplete.items():
                del self.later[each]
                self.plan.inserts.pop(each, None)
                self.plan.updates.pop(each, None)
                self.outcome.blocked[each] = targets

    def _choose_who_hears(self) -> None:
        """Note of which rows the handlers do not hear: those of a multi-table parent hear nothing of a saved child."""
        copies = self.plan.inserts.keys() | self.plan.updates.keys()
        if not (copies and is_listened(self.model, pre_save, post_save)):
            return
        with_children = saved_with_children(self.link, self.model, copies)
        for each in copies:
            dates = with_children.get(each, ())
            saves = self._saves(each)
            if saves and all(entry.is_repeated or entry.date in dates for entry in saves):
                self.plan.unheard.add(each)
            if self._added_at(each) in dates:
                self.plan.heard_as_changed.add(each)

    def _saves(self, object_id: str) -> list[Taken]:
        return [entry for entry in self.entries.get(object_id, ()) if entry.action in (Action.ADD, Action.CHANGE)]

    def _fill_later(self) -> None:
        """Give the keys that waited for other objects of the batch their values."""
        written = {**self.plan.inserts, **self.plan.updates}
        for each, keys in self.later.items():
            for name, (_, target) in keys.items():
                key: Any = self.model._meta.get_field(_field_name(written[each], name))
                setattr(written[each], name, getattr(self.plan.inserts[target], key.target_field.attname))
        update(self.link, self.model, [written[each] for each in self.later])

    def _nowhere(self, instance: Model, attname: str) -> Any:
        """Return what a foreign key holds until its target is there."""
        key = instance._meta.get_field(_field_name(instance, attname))
        return None if key.null else temporary(self.link.remote, key)  # type: ignore[arg-type]

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
            if self._can_arrive(object_id, instance):
                self.plan.updates[object_id] = instance
            return
        point_parents(instance)
        for each in self.model._meta.local_concrete_fields:
            if each.name in kept:
                setattr(instance, each.attname, each.get_default())
                # Sets the moment where the field is auto_now or auto_now_add, as in any new row.
                each.pre_save(instance, add=True)
        if self._can_arrive(object_id, instance):
            self.plan.inserts[object_id] = instance

    def _can_arrive(self, object_id: str, instance: Model) -> bool:
        problem = refusal(self.checks, instance)
        if problem is not None:
            self._fail({object_id: problem})
        return problem is None

    # Both

    def write(self) -> None:
        """Carry out the plan, remember the counterparts, and bring the members of relations."""
        overwritten = self.contest.overwritten(self.plan, self.found.pks)
        moving = moves(self.link, self.model, self.plan.updates)
        parked: set[str] = set()
        if self.step.makes_way:
            parked, taken = make_way(self.link, self.model, self.plan)
            self._fail(taken)
            self._drop_incomplete()
        moving.of = {each: moved for each, moved in moving.of.items() if each in self.plan.updates}
        self.outcome.logged |= follow(self.link, self.model, moving)
        if len(self.plan):
            # Others would be left with a key that was to be filled in when the refused one is there.
            self.plan.as_a_whole = bool(self.later or self.step.circle)
            self.plan.gives_up = partial(may_make_way, self.step)
            failures = write(self.link, self.model, self.plan)
            for each in failures.keys() & (parked | moving.of.keys()):
                raise failures[each]  # undone alone, its row, or one that points to it, would keep a wrong value
            self._fail(failures)
            self._fill_later()
            self.outcome.progress = len(failures) < len(self.plan)
        written = {**self.plan.inserts, **self.plan.updates}
        closed = self._closed()
        self.found.pks |= {each: instance.pk for each, instance in written.items() if each not in closed}
        self._remember()
        self._bring_members()
        closed = self._closed() | self.outcome.postponed
        for each in self._living():
            if each not in closed:
                self._arrive(each)
        self._note_reborn()
        self._bring_again()
        self.contest.settle(self.plan, overwritten)

    def _bring_again(self) -> None:
        """Log again what LOCAL has logged and a handler has saved on REMOTE: LOCAL's state comes last, in any order.

        This is done before REMOTE commits, so that a crash cannot leave the handler's state behind unnoticed. Of its
        own handler's saves an object keeps what LOCAL has not logged, too, as a second save.
        """
        own = {(self.model, pk): each for each, pk in self.found.pks.items()}
        for each, instance in {**self.plan.inserts, **self.plan.updates}.items():
            own |= dict.fromkeys(rows_of(instance), each)
        by_model: dict[ModelClass, list[Any]] = {}
        for row in self.plan.handled:
            if row not in own or len(self._saves(own[row])) > 1:
                by_model.setdefault(row[0], []).append(row[1])
        for model, pks in by_model.items():
            owners = owners_by_key(self.link, model, pks)
            if model is self.model:
                owners |= {pk: each for each, pk in self.found.pks.items()}
            object_ids = {owners[pk] for pk in pks if pk in owners}
            again = ChangeLog.objects.using(self.link.local).append_again(model, object_ids)
            self.outcome.logged |= {(model, each) for each in again}

    def _note_reborn(self) -> None:
        """Note the objects that REMOTE had and deleted, and with them their places in relations."""
        known = self.found.remembered()
        for each in self.plan.inserts:
            if each in known and self.outcome.arrived.get(each):
                self.outcome.reborn[each] = max(entry.date for entry in self.entries[each])

    def _fail(self, failures: Mapping[str, Exception]) -> None:
        self.outcome.failures |= failures
        for each in failures:
            self.later.pop(each, None)
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
        self.outcome.mirrored = {
            each: text
            for each, text in texts.items()
            if self.found.referenced.get(each) != text or (self.link.has_mirrors and each not in self.found.confirmed)
        }
        added = {each: date for each in texts if (date := self._added_at(each))}
        changed = {
            each: text
            for each, text in texts.items()
            if (mirror := self.mirrors.get(each)) and not mirror.says(text, added.get(each))
        }
        unused = {each for each, mirror in self.mirrors.items() if mirror.key is None and each not in texts}
        gone = (self.outcome.forgotten - self.found.strangers) | unused | self.found.ghosts
        locks.drop_mirrors(self.link, self.model, self.mirrors, gone)
        locks.write_mirrors(self.link, self.model, self.mirrors, changed, added)

    def _added_at(self, object_id: str) -> datetime | None:
        """Return when the log says that the object was added, as far as its entries were taken."""
        entries = self.entries.get(object_id, ())
        return next((entry.date for entry in entries if entry.action == Action.ADD), None)

    def _bring_members(self) -> None:
        if not many_to_many_of(self.model):
            return
        closed = self._closed()
        owners = {each: pk for each, pk in self.found.pks.items() if each not in closed and self._needs_members(each)}
        local = {each: pk_from_text(self.model, each) for each in owners}
        changes = plan_members(self.link, self.model, local, owners, self.outcome.references)
        differing: set[Any] = set().union(*(change.differing() for change in changes))
        contested = {each: pk for each, pk in owners.items() if pk in differing and each not in self.plan.inserts}
        left = {owners[each] for each in self.contest.judge_members(contested)}
        with noting_saves(self.link.remote) as saved:
            for change in changes:
                self.outcome.progress |= write_members(self.link, change.without(left))
        self.plan.handled |= set(saved)
        for change in changes:
            for each, targets in change.lacking.items():
                if owners[each] not in left:
                    self.outcome.blocked.setdefault(each, set()).update(targets)

    def _needs_members(self, object_id: str) -> bool:
        entries = self.entries.get(object_id, ())
        # The row that an added object adopts may have members of REMOTE's own.
        told = any(entry.action in (Action.M2M, Action.ADD) for entry in entries)
        return told or bool(entries and object_id in self.plan.inserts)

    def _closed(self) -> set[str]:
        """The objects that this round does not bring, or not as a whole."""
        outcome = self.outcome
        return {*outcome.failures, *self.contest.left, *outcome.blocked, *outcome.absent}

    def _arrive(self, object_id: str) -> None:
        lost, _ = self.outcome.lost.get(object_id, ([], ""))
        self.outcome.arrived[object_id] = [
            entry.id for entry in self.entries.get(object_id, ()) if entry.id not in lost
        ]


def _take(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, list[Taken]]:
    """Take the unsettled entries of the objects that have a pending one, oldest first.

    Entries that were given up go along: the newest state of the object covers them, too.
    """

    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        entries = ChangeLog.objects.using(link.local).unsettled().of_objects(model, ids).order_by("id")
        return entries.values_list("id", "object_id", "action", "date", "state", "reason")

    taken: dict[str, list[Taken]] = {}
    pending = set()
    key = "take", ContentType.objects.db_manager(link.local).get_for_model(model).pk
    for pk, object_id, action, date, state, reason in ask(object_ids, compose, using=link.local, key=key):
        taken.setdefault(object_id, []).append(Taken(pk, action, date, reason == ChangeLog.HANDLED))
        if state == ChangeLog.State.PENDING:
            pending.add(object_id)
    return {each: rows_taken for each, rows_taken in taken.items() if each in pending}


def _field_name(instance: Model, attname: str) -> str:
    return next((each.name for each in instance._meta.fields if each.attname == attname), attname)


def _held_by(holders: Collection[Holder], more: Counter[ModelClass]) -> HeldByRemoteRows:
    counts = Counter(holder.model for holder in holders) + more
    rows_told = ", ".join(f"{counts[model]} {model_label(model)}" for model in sorted(counts, key=model_label))
    return HeldByRemoteRows(
        f"Rows that exist only on REMOTE point to the object ({rows_told}), so it is not deleted there. "
        "Move or delete those rows on REMOTE."
    )
