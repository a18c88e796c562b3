"""How far everything is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Self

from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Min, Q
from django.utils import timezone

from synchro.conf import conf
from synchro.inspection.words import label_of
from synchro.models import ChangeLog, ChangeLogQuerySet, Hold, options

#: Entries of one model and state are counted up to this number: who sees it knows that there are at least so many.
COUNTED = 100_000

State = ChangeLog.State


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not arrived of a model, or of all models. Synced entries are not counted: they may be millions."""

    pending: int = 0
    #: Of the pending ones: those that failed and are tried again, and those that wait for something else.
    retrying: int = 0
    waiting: int = 0
    failed: int = 0
    skipped: int = 0
    discarded: int = 0
    #: When the oldest pending change was made.
    oldest: datetime | None = None

    def __add__(self, other: Backlog) -> Backlog:
        counts = {name: count + getattr(other, name) for name, count in self.counts.items()}
        return Backlog(**counts, oldest=min((each.oldest for each in (self, other) if each.oldest), default=None))

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "oldest"}

    @property
    def lag(self) -> timedelta:
        """The age of the oldest pending change; zero if nothing is pending."""
        return max(timezone.now() - self.oldest, timedelta()) if self.oldest else timedelta()

    @property
    def is_capped(self) -> bool:
        """Whether there may be more entries of a model than were counted."""
        return COUNTED in (self.pending, self.failed, self.skipped, self.discarded)


@dataclass(frozen=True, slots=True)
class Status:
    """How far the synchronization of LOCAL is."""

    remote: str | None
    last_check: datetime | None
    last_checkpoint: datetime | None
    #: What workers leave alone for now: REMOTE as a whole first, then models.
    holds: tuple[Hold, ...] = ()
    #: By label, the models with something to tell.
    models: dict[str, Backlog] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Self:
        """Read it from LOCAL; REMOTE is not asked."""
        return cls(
            remote=conf.remote,
            last_check=options.last_check,
            last_checkpoint=options.last_checkpoint,
            holds=tuple(Hold.objects.using(conf.local).held()),
            models=dict(sorted(_backlogs().items())),
        )

    @property
    def total(self) -> Backlog:
        """The backlog of all models together."""
        return sum(self.models.values(), Backlog())

    @property
    def is_capped(self) -> bool:
        """Whether there may be more entries than were counted."""
        return any(each.is_capped for each in self.models.values())


def _backlogs() -> dict[str, Backlog]:
    found: dict[str, Backlog] = {}
    for label, backlog in _parts():
        found[label] = found.get(label, Backlog()) + backlog
    return found


def _parts() -> Iterator[tuple[str, Backlog]]:
    """Yield what there is of each model and state."""
    types = ContentType.objects.db_manager(conf.local)
    for state in (State.PENDING, State.FAILED, State.SKIPPED, State.DISCARDED):
        entries = ChangeLog.objects.using(conf.local).filter(state=state)
        for type_id in entries.content_type_ids():
            of_model = entries.filter(content_type_id=type_id).order_by("id")[:COUNTED]
            yield label_of(types.get_for_id(type_id)), _count(of_model, state)


def _count(entries: ChangeLogQuerySet, state: State) -> Backlog:
    paused = Q(next_attempt_at__isnull=False)
    questions: dict[str, Any] = {state.name.lower(): Count("id")}
    if state == State.PENDING:
        questions["retrying"] = Count("id", filter=paused & Q(attempts__gt=0))
        questions["waiting"] = Count("id", filter=paused & Q(attempts=0))
        questions["oldest"] = Min("date")
    return Backlog(**entries.aggregate(**questions))
