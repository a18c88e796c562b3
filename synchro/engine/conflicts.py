"""Newest wins: LOCAL's changes against those that REMOTE's own log tells of the same objects.

Two cases. Where REMOTE's log is on its way to us (two sites that synchronize to each other) only entries count that are
not settled there: whatever is settled has arrived here, so LOCAL's later change was made in sight of it, whatever the
clocks say. Both sides compare the same two dates, and if they are equal the identities, so both name the same winner.
Whoever wins marks the loser's entries as skipped in the transaction that overwrites them; whoever loses makes sure that
the winner's state is on its way. Where REMOTE's log goes nowhere, or elsewhere, all of its entries count; in the latter
case they are left alone, because somebody else still waits for them.

Rows and the members of relations are compared apart: a changed title and a new member do not touch each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db.models import Max, QuerySet
from django.utils.translation import gettext

from synchro.engine.link import Link, peer_of
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog, ChangeRow
from synchro.moments import in_utc
from synchro.prepared import ask
from synchro.registry import ModelClass

Action = ChangeLog.Action

#: What a change is about. An added object comes with its members; a deleted one takes everything along.
ROW = frozenset({Action.ADD, Action.CHANGE, Action.DELETE})
MEMBERS = frozenset({Action.ADD, Action.M2M})
EVERYTHING = frozenset(Action)


@dataclass(frozen=True, slots=True)
class Claim:
    """What LOCAL is about to do to one object."""

    #: REMOTE's primary key.
    pk: Any
    #: What it is about.
    actions: frozenset[Action]
    #: When LOCAL last changed that; None for an object that is only brought because another one needs it.
    date: datetime | None
    #: LOCAL's entries that stand for it.
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """REMOTE's newest change of an object."""

    action: int
    date: datetime

    @property
    def reason(self) -> str:
        """The sentence for those entries that lose against it."""
        moment = {"moment": self.date.isoformat()}
        if self.action == Action.DELETE:
            return gettext("REMOTE deleted the object later, at %(moment)s.") % moment
        if self.action == Action.M2M:
            return gettext("REMOTE changed the object's relations later, at %(moment)s.") % moment
        return gettext("REMOTE changed the object later, at %(moment)s.") % moment


class Overruled(NamedTuple):
    """A claim that has won against REMOTE's entries up to an id, and what these are to be told."""

    claim: Claim
    up_to: int
    reason: str


@dataclass(slots=True)
class Verdicts:
    """Who wins, by object id."""

    #: LOCAL loses against these.
    lost: dict[str, Change] = field(default_factory=dict)
    #: LOCAL wins against changes that were on their way here: entries of REMOTE, up to this id.
    beaten: dict[str, int] = field(default_factory=dict)
    #: REMOTE's deletions, on their way here, of objects that LOCAL needs without having changed them.
    unclaimed: dict[str, Change] = field(default_factory=dict)
    #: The other side has settled LOCAL's entries since they were taken.
    settled: set[str] = field(default_factory=set)
    #: Whether REMOTE's log is on its way to LOCAL.
    two_way: bool = False


def judge(link: Link, model: ModelClass, claims: Mapping[str, Claim]) -> Verdicts:
    """Compare LOCAL's changes with REMOTE's; one statement where REMOTE has changed none of the objects.

    What the engine writes is not logged where it is written, so REMOTE's log holds only REMOTE's own changes. The rows
    must be locked already: then no further change of theirs can commit.
    """
    verdicts = Verdicts()
    if not (link.has_mirrors and claims):
        return verdicts
    texts = {pk_to_text(model, claim.pk): each for each, claim in claims.items()}

    def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
        log = ChangeLog.objects.using(link.remote).of_objects(model, ids).order_by()
        return log.values_list("object_id", "action", "state").annotate(Max("date"), Max("id"))

    key = "newest", ContentType.objects.db_manager(link.remote).get_for_model(model).pk
    theirs = [
        _Theirs(each, Change(action, in_utc(date)), pk, state in (ChangeLog.State.PENDING, ChangeLog.State.FAILED))
        for text, action, state, date, pk in ask(texts, compose, using=link.remote, key=key)
        if action in claims[each := texts[text]].actions
    ]
    relevant = [one for one in theirs if one.on_its_way or _wins(link, one.change.date, claims[one.object_id].date)]
    if not relevant:
        return verdicts
    peer = peer_of(link.remote)
    verdicts.two_way = peer == link.local_identity
    if verdicts.two_way:
        verdicts.settled = _settled(link, {one.object_id: claims[one.object_id] for one in relevant})
    for one in relevant:
        if one.object_id not in verdicts.settled and (one.on_its_way or not verdicts.two_way):
            _judge(link, one, claims[one.object_id], verdicts, may_overrule=peer in (None, link.local_identity))
    for object_id in verdicts.lost:
        verdicts.beaten.pop(object_id, None)
    return verdicts


def overrule(link: Link, model: ModelClass, overruled: Sequence[Overruled]) -> None:
    """Mark REMOTE's entries as skipped whose changes LOCAL has just overwritten."""
    if not overruled:
        return
    log = ChangeLog.objects.using(link.remote)
    theirs: dict[str, list[tuple[int, int]]] = {}
    entries = log.unsettled().of_objects(model, {pk_to_text(model, each.claim.pk) for each in overruled})
    for text, pk, action in entries.values_list("object_id", "id", "action"):
        theirs.setdefault(text, []).append((pk, action))
    reasons: dict[int, str] = {}
    for claim, up_to, reason in overruled:
        for pk, action in theirs.get(pk_to_text(model, claim.pk), ()):
            if pk <= up_to and action in claim.actions:
                reasons.setdefault(pk, reason)
    log.mark_skipped(reasons)


def ask_for(link: Link, model: ModelClass, changes: Mapping[Any, Change]) -> None:
    """Log on REMOTE that its rows (by primary key) are to be sent here: LOCAL's changes of them have lost.

    The entries that they lost against may be about to be marked as synced, for a state from before LOCAL's change.
    """
    type_id = ContentType.objects.db_manager(link.remote).get_for_model(model).pk
    ChangeLog.objects.using(link.remote).append(
        [
            ChangeRow(
                type_id,
                pk_to_text(model, pk),
                int(Action.M2M if change.action == Action.M2M else Action.CHANGE),
                change.date,
            )
            for pk, change in changes.items()
        ]
    )


def claim_needed(link: Link, model: ModelClass, dates: Mapping[str, datetime]) -> None:
    """Log on LOCAL that objects are needed which REMOTE has deleted, as if they had been changed right after that.

    So the other side, which is about to delete them here, sees it and gives way. If it was faster, their rows are
    locked, and then gone.
    """
    pks = {pk_from_text(model, each): each for each in dates}
    living = model._base_manager.using(link.local).filter(pk_among(model, pks)).select_for_update().order_by("pk")
    type_id = ContentType.objects.db_manager(link.local).get_for_model(model).pk
    ChangeLog.objects.using(link.local).append(
        [
            ChangeRow(type_id, pks[pk], int(Action.CHANGE), dates[pks[pk]] + timedelta(microseconds=1))
            for pk in living.values_list("pk", flat=True)
        ]
    )


def with_fields(reason: str, names: Iterable[str]) -> str:
    """Add to a reason which fields had other values in what lost; the values themselves are nobody's business here."""
    told = ", ".join(names)
    return f"{reason} {gettext('Lost here: %(fields)s.') % {'fields': told}}" if told else reason


@dataclass(frozen=True, slots=True)
class _Theirs:
    object_id: str
    change: Change
    newest_id: int
    on_its_way: bool


def _judge(link: Link, theirs: _Theirs, claim: Claim, verdicts: Verdicts, *, may_overrule: bool) -> None:
    each, change = theirs.object_id, theirs.change
    if claim.date is not None and _wins(link, change.date, claim.date):
        if each not in verdicts.lost or change.date > verdicts.lost[each].date:
            verdicts.lost[each] = change
    elif claim.date is None and verdicts.two_way:
        verdicts.unclaimed[each] = max(change, verdicts.unclaimed.get(each, change), key=lambda one: one.date)
    elif may_overrule and theirs.on_its_way:
        verdicts.beaten[each] = max(theirs.newest_id, verdicts.beaten.get(each, 0))


def _wins(link: Link, theirs: datetime, ours: datetime | None) -> bool:
    """Tell whether REMOTE's date is the newer one; of equal ones both sides must choose the same."""
    return ours is not None and (theirs, link.remote_identity.bytes) > (ours, link.local_identity.bytes)


def _settled(link: Link, claims: Mapping[str, Claim]) -> set[str]:
    """Return the objects of which an entry is settled by now: the other side has just overruled it."""
    ids = [pk for claim in claims.values() for pk in claim.ids]
    log = ChangeLog.objects.using(link.local)
    still = set(log.unsettled().filter(pk__in=ids).values_list("pk", flat=True))
    return {each for each, claim in claims.items() if not still.issuperset(claim.ids)}
