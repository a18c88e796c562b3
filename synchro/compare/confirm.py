"""A second look at objects that differ: is it a difference, or a change on its way?

The logs of both sides are read before and after the rows. Where they say the same both times and owe nothing, no change
was logged in between and none is on its way, so what the rows show is a difference that nobody has logged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Max, Q
from django.utils import timezone

from synchro.compare.objects import Compared, Comparer
from synchro.engine.link import Link, peer_of, renewed_at
from synchro.models import ChangeLog
from synchro.moments import in_utc
from synchro.registry import ModelClass

_LOOKS = 3
#: A repair is dated that much before it is found: whatever is changed on REMOTE meanwhile, by a transaction that has
#: not committed yet or by a clock that is slow, is newer and wins.
_GRACE = timedelta(minutes=1)


class Mark(NamedTuple):
    """What a log says of one object."""

    entries: int
    last: int
    unsettled: int
    newest: datetime


Marks = Mapping[str, Mark]


@dataclass(slots=True)
class Confirmed:
    """What the second look has found."""

    compared: Compared = field(default_factory=Compared)
    #: Objects that differ because of a change that is logged already, here or on REMOTE.
    skipped: set[str] = field(default_factory=set)
    #: Objects that LOCAL does not have any more.
    vanished: set[str] = field(default_factory=set)
    #: When the entry of a repair is to be dated.
    dates: dict[str, datetime] = field(default_factory=dict)


class Logs:
    """The logs of both sides, as far as they concern one model."""

    def __init__(self, link: Link, model: ModelClass) -> None:
        self.link = link
        self.model = model
        self._renewed = renewed_at(link.remote) if link.has_mirrors else None
        self._arrives_here = link.has_mirrors and peer_of(link.remote) == link.local_identity

    def local(self, object_ids: Collection[str]) -> Marks:
        """Return the marks of LOCAL objects."""
        return self._marks(self.link.local, object_ids)

    def remote(self, keys: Collection[str]) -> Marks:
        """Return the marks of REMOTE's objects; none where REMOTE has no log."""
        if not (self.link.has_mirrors and keys):
            return {}
        return self._marks(self.link.remote, keys, after=self._renewed)

    def owes(self, ours: Mark | None, theirs: Mark | None) -> bool:
        """Tell whether the difference of an object is known already, so that it must not be repaired.

        A change of REMOTE that waits for its way to LOCAL, or one that is newer than LOCAL's and goes elsewhere, would
        be overwritten by a repair.
        """
        if ours is not None and ours.unsettled:
            return True
        if theirs is None:
            return False
        is_newer = ours is None or theirs.newest > ours.newest
        return theirs.unsettled > 0 or (is_newer and not self._arrives_here)

    def date(self, started: datetime, theirs: Mark | None) -> datetime:
        """Return how a repair is to be dated that knows of REMOTE's changes up to now."""
        known = [self._renewed, theirs.newest if theirs is not None else None]
        return max([started - _GRACE, *(each for each in known if each is not None)])

    def _marks(self, using: str, object_ids: Collection[str], *, after: datetime | None = None) -> Marks:
        log = ChangeLog.objects.using(using).of_objects(self.model, object_ids)
        if after is not None:
            # What was there when a copy of LOCAL became REMOTE is LOCAL's.
            log = log.filter(date__gt=after)
        is_open = Q(state__in=[ChangeLog.State.PENDING, ChangeLog.State.FAILED])
        counted = (
            log.order_by()
            .values("object_id")
            .annotate(entries=Count("id"), last=Max("id"), unsettled=Count("id", filter=is_open), newest=Max("date"))
            .values_list("object_id", "entries", "last", "unsettled", "newest")
        )
        return {
            each: Mark(entries, last, unsettled, in_utc(newest)) for each, entries, last, unsettled, newest in counted
        }


def confirm(comparer: Comparer, logs: Logs, first: Compared) -> Confirmed:
    """Look again at the objects that differ."""
    confirmed = Confirmed()
    never_seen = _never_seen(logs, first)
    confirmed.compared.missing = never_seen
    confirmed.dates = dict.fromkeys(never_seen, logs.date(timezone.now(), None))
    left, keys = first.differing.difference(never_seen), first.keys
    for _ in range(_LOOKS):
        if not left:
            break
        started = timezone.now()
        before = logs.local(left), logs.remote(_of(keys, left))
        rows = comparer.read(left)
        compared = comparer.compare(rows, carefully=True)
        keys = {**keys, **compared.keys}
        after = logs.local(left), logs.remote(_of(keys, left))
        confirmed.vanished |= left - {comparer.text(pk) for pk in rows}
        left = compared.differing
        for each in [text for pk in rows if (text := comparer.text(pk)) in left]:
            key = keys.get(each, "")
            ours, theirs = after[0].get(each), after[1].get(key)
            if logs.owes(ours, theirs):
                confirmed.skipped.add(each)
            elif (before[0].get(each), before[1].get(key)) == (ours, theirs):
                confirmed.dates[each] = logs.date(started, theirs)
                _take(compared, each, confirmed.compared)
            else:
                continue
            left.discard(each)
    confirmed.skipped |= left  # something changes them all the time, and logs it
    return confirmed


def _never_seen(logs: Logs, first: Compared) -> list[str]:
    """Return the objects that neither a reference nor the log knows: as in a first load, no second look is needed."""
    unknown = [each for each in first.missing if each not in first.keys]
    known = logs.local(unknown) if unknown else {}
    return [each for each in unknown if each not in known]


def _of(keys: Mapping[str, str], object_ids: Iterable[str]) -> set[str]:
    return {keys[each] for each in object_ids if each in keys}


def _take(source: Compared, object_id: str, target: Compared) -> None:
    if object_id in source.missing:
        target.missing.append(object_id)
    for ours, theirs in ((source.rows, target.rows), (source.members, target.members)):
        if object_id in ours:
            theirs[object_id] = ours[object_id]
