"""What a batch leaves alone because REMOTE's changes are newer, and what it overrules because they are older."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext

from synchro.engine import conflicts
from synchro.engine.apply import Plan
from synchro.engine.conflicts import Change, Claim, Verdicts
from synchro.engine.link import Link
from synchro.engine.relations import translate
from synchro.engine.resolve import Found
from synchro.engine.steps import Outcome, Taken
from synchro.engine.values import differing_fields
from synchro.keys import pk_from_text
from synchro.models import ChangeLog
from synchro.moments import in_utc
from synchro.registry import ModelClass

Action = ChangeLog.Action


class Contest:
    """The changes of a batch on LOCAL against those of the same objects on REMOTE."""

    def __init__(self, link: Link, model: ModelClass, entries: Mapping[str, list[Taken]], outcome: Outcome) -> None:
        self.link = link
        self.model = model
        self.entries = entries
        self.outcome = outcome
        #: Objects that REMOTE keeps, or has deleted, as a whole; and those whose row it keeps but not the members.
        self.left: set[str] = set()
        self.rows_left: set[str] = set()
        #: REMOTE's entries that LOCAL's changes overrule when they have been written.
        self._beaten: list[tuple[str, Claim, int]] = []
        #: REMOTE's changes that LOCAL's changes have lost against, by REMOTE's primary key: they are to come here.
        self._asked_for: dict[Any, Change] = {}

    def judge_rows(self, found: Found, object_ids: Iterable[str], *, deleted: bool = False) -> None:
        """Set aside rows that REMOTE changed, or deleted, later than LOCAL."""
        known = {each: pk_from_text(self.model, text) for each, text in found.remembered().items()} | found.pks
        claims = {
            each: claim
            for each in object_ids
            if each in known and each not in self.outcome.failures and each not in self.outcome.blocked
            if (claim := self._row_claim(each, known[each], exists=each in found.pks, deleted=deleted))
        }
        self._judge(claims)

    def judge_members(self, pks: Mapping[str, Any]) -> set[str]:
        """Return the objects whose relations REMOTE changed later than LOCAL.

        Args:
            pks: REMOTE's primary keys of the objects in question.
        """
        verdicts = self._judge({each: self._claim(each, pk, conflicts.MEMBERS) for each, pk in pks.items()})
        return {*verdicts.lost, *verdicts.settled}

    def tell_what_is_lost(self, copies: Mapping[str, Model], pks: Mapping[str, Any]) -> None:
        """Add the fields to the reasons of those changes that lose against a row of REMOTE."""
        losers = {each: copies[each] for each in self.rows_left}
        if not losers:
            return
        for each, values in translate(self.link, self.model, losers).values.items():
            for name, value in values.items():
                setattr(losers[each], name, value)
        for each, names in differing_fields(self.link, self.model, losers, pks).items():
            ids, reason = self.outcome.lost[each]
            self.outcome.lost[each] = ids, conflicts.with_fields(reason, names)

    def overwritten(self, plan: Plan, pks: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the fields in which REMOTE's changes are about to be overwritten."""
        beaten = {each for each, _, _ in self._beaten}
        instances = {each: instance for each, instance in plan.updates.items() if each in beaten}
        return differing_fields(self.link, self.model, instances, pks)

    def settle(self, plan: Plan, overwritten: Mapping[str, list[str]]) -> None:
        """Settle on REMOTE what LOCAL's newer changes have overwritten, and ask for what LOCAL's have lost against."""
        overruled: list[conflicts.Overruled] = []
        for each, claim, up_to in self._beaten:
            if each in self.outcome.arrived:
                names = () if claim.actions == conflicts.MEMBERS else overwritten.get(each, ())
                reason = conflicts.with_fields(_reason_for_remote(claim, is_deleted=each in plan.deletes), names)
                overruled.append(conflicts.Overruled(claim, up_to, reason))
        conflicts.overrule(self.link, self.model, overruled)
        if self._asked_for:
            conflicts.ask_for(self.link, self.model, self._asked_for)

    def _row_claim(self, object_id: str, pk: Any, *, exists: bool, deleted: bool) -> Claim | None:
        """Return the claim for the row: of all entries where they make or remove it, else of those about it."""
        claim = self._claim(object_id, pk, conflicts.ROW if exists and not deleted else conflicts.EVERYTHING)
        return claim if claim.ids or not exists else None

    def _claim(self, object_id: str, pk: Any, actions: frozenset[Action]) -> Claim:
        entries = [entry for entry in self.entries.get(object_id, ()) if entry.action in actions]
        date = max((in_utc(entry.date) for entry in entries), default=None)
        return Claim(pk, actions, date, tuple(entry.id for entry in entries))

    def _judge(self, claims: Mapping[str, Claim]) -> Verdicts:
        verdicts = conflicts.judge(self.link, self.model, claims)
        self.left |= verdicts.settled | verdicts.unclaimed.keys()
        self.outcome.again |= verdicts.settled | verdicts.unclaimed.keys()
        self.outcome.needed |= {each: change.date for each, change in verdicts.unclaimed.items()}
        for each, change in verdicts.lost.items():
            self._lose(each, claims[each], change)
            if verdicts.two_way and change.action != Action.DELETE:
                self._asked_for[claims[each].pk] = change
        self._beaten += [(each, claims[each], up_to) for each, up_to in verdicts.beaten.items()]
        return verdicts

    def _lose(self, object_id: str, claim: Claim, change: Change) -> None:
        if claim.actions == conflicts.ROW:
            self.rows_left.add(object_id)
        elif claim.actions == conflicts.EVERYTHING:
            self.left.add(object_id)
        ids, reason = self.outcome.lost.get(object_id, ([], ""))
        # The row of an added object has arrived, or has lost by itself, when its members lose.
        added = {entry.id for entry in self.entries[object_id] if entry.action == Action.ADD}
        own = [each for each in claim.ids if claim.actions != conflicts.MEMBERS or each not in added]
        if own:
            self.outcome.lost[object_id] = [*ids, *own], f"{reason} {change.reason}".strip()


def _reason_for_remote(claim: Claim, *, is_deleted: bool) -> str:
    """Return why REMOTE's change lost, as REMOTE's own project sees it: LOCAL is its REMOTE."""
    if claim.date is None:
        return gettext("REMOTE still needs the object.")
    if is_deleted:
        return Change(Action.DELETE, claim.date).reason
    return Change(Action.M2M if claim.actions == conflicts.MEMBERS else Action.CHANGE, claim.date).reason
