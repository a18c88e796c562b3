"""What happened to one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import engine
from synchro.conf import conf
from synchro.exceptions import BadObjectId, SynchroError
from synchro.inspection.words import moment_text
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import distinct_values
from synchro.models import Attempt, ChangeLog, Hold, Reference
from synchro.registry import ModelClass, model_label

#: So many changes of an object, and so many attempts, are shown.
SHOWN = 50
#: A hold whose last try is older than this is nobody's any more: no worker is running.
_FORGOTTEN = timedelta(minutes=5)

State = ChangeLog.State


@dataclass(frozen=True, slots=True)
class Remote:
    """The object as it is on both sides now, or the sentence that tells why nobody knows."""

    comparison: engine.Comparison | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.comparison is None:
            return self.problem
        return _COMPARED[
            self.comparison.on_local, self.comparison.remote_pk is not None, bool(self.comparison.differences)
        ]()

    @property
    def pk(self) -> str | None:
        """The primary key that the object has on REMOTE; None if it has none, or nobody knows."""
        return self.comparison.remote_pk if self.comparison else None

    @property
    def differences(self) -> Sequence[engine.FieldDifference]:
        """The fields that differ, if the object is on both sides."""
        return self.comparison.differences if self.comparison else ()


#: What is said of an object that is on LOCAL, is on REMOTE, and is different there.
_COMPARED = {
    (False, False, False): lambda: _("The object is on neither side."),
    (False, True, False): lambda: _("The object is on REMOTE, and not on LOCAL."),
    (True, False, False): lambda: _("The object is on LOCAL, and not on REMOTE."),
    (True, True, False): lambda: _("REMOTE's copy is the same."),
    (True, True, True): lambda: _("REMOTE's copy is different."),
}


@dataclass(frozen=True, slots=True)
class History:
    """What is logged of one object, newest first, what became of it, and how it is now."""

    label: str
    object_id: str
    outcome: str
    changes: Sequence[ChangeLog]
    attempts: Sequence[Attempt]
    #: Which primary keys LOCAL remembers the object to have elsewhere.
    references: Sequence[Reference]
    remote: Remote

    @property
    def is_owed(self) -> bool:
        """Whether a change has not arrived that can be retried or discarded."""
        return any(change.state in (State.PENDING, State.FAILED) for change in self.changes)


def find_model(label: str) -> ModelClass:
    """Return the installed model with this label, watched or not.

    Raises:
        SynchroError: there is none.
    """
    try:
        model: Any = apps.get_model(label)
    except (LookupError, ValueError):
        message = _("%(label)s is no installed model. A model is named like this: shop.Article")
        raise SynchroError(message % {"label": repr(label)}) from None
    return model._meta.concrete_model


def explain(model: ModelClass, object_id: str) -> History:
    """Tell what happened to an object, and how it is on both sides now. That REMOTE is away is part of the answer."""
    object_id = _as_logged(model, object_id)
    changes = _newest_changes(model, object_id)
    return History(
        label=model_label(model),
        object_id=object_id,
        outcome=_outcome(model, changes),
        changes=changes,
        attempts=list(Attempt.objects.using(conf.local).of_object(model, object_id)[:SHOWN]),
        references=_references(model, object_id),
        remote=_ask_remote(model, object_id),
    )


def attempts_at(entry: ChangeLog) -> list[Attempt]:
    """Return the newest failed attempts at the object of an entry."""
    attempts = Attempt.objects.using(conf.local).filter(content_type=entry.content_type, object_id=entry.object_id)
    return list(attempts.order_by("-date")[:SHOWN])


def _as_logged(model: ModelClass, object_id: str) -> str:
    """Return an object id in the form of the log; what is no primary key of the model may be logged all the same."""
    try:
        return pk_to_text(model, pk_from_text(model, object_id))
    except BadObjectId:
        return object_id


def _newest_changes(model: ModelClass, object_id: str) -> list[ChangeLog]:
    """Return the newest entries of an object. The index has them in order for each state."""
    entries = ChangeLog.objects.using(conf.local).of(model).filter(object_id=object_id).order_by("-date", "-id")
    found = [entry for state in State for entry in entries.filter(state=state)[:SHOWN]]
    return sorted(found, key=lambda entry: (entry.date, entry.pk), reverse=True)[:SHOWN]


def _references(model: ModelClass, object_id: str) -> list[Reference]:
    """Return the references of an object; the index wants to know the peers, of which there are few."""
    references = Reference.objects.using(conf.local)
    content_type = ContentType.objects.db_manager(conf.local).get_for_model(model)
    peers = list(distinct_values(references.all(), "peer"))
    return list(references.filter(peer__in=peers, content_type=content_type, local_object_id=object_id))


def _ask_remote(model: ModelClass, object_id: str) -> Remote:
    recently = timezone.now() - _FORGOTTEN
    holds = Hold.objects.using(conf.local).filter(label="", next_try_at__gte=recently)
    if (hold := holds.first()) is not None:
        return Remote(problem=_("REMOTE is not asked now: %(reason)s") % {"reason": hold.reason})
    try:
        return Remote(engine.compare_object(model, object_id))
    except Exception as error:  # whatever it is, it is what the operator wants to know
        return Remote(problem=engine.describe(error))


def _outcome(model: ModelClass, changes: Sequence[ChangeLog]) -> str:
    """Return a sentence about what became of the newest changes, the bad news first."""
    if not changes:
        return _("Nothing is logged of this object.")
    for entry in changes:
        if entry.state == State.PENDING:
            return _outlook(model, entry)
    for entry in changes:
        if entry.state == State.FAILED:
            return _("Given up, until the object changes or an operator retries it: %(reason)s") % {
                "reason": entry.reason
            }
    newest = changes[0]
    if newest.state == State.DISCARDED:
        return _("An operator has discarded the newest change: REMOTE keeps what it has.")
    if newest.state == State.SKIPPED:
        return _("The newest change was not copied: %(reason)s") % {"reason": newest.reason}
    return _("Everything has arrived.")


def _outlook(model: ModelClass, entry: ChangeLog) -> str:
    """Tell what a pending entry waits for."""
    hold = Hold.objects.using(conf.local).over(model_label(model)).first()
    if hold is not None:
        return _("Held back for now: %(reason)s") % {"reason": hold.reason}
    if entry.next_attempt_at is None:
        return _("Waits for its turn.")
    facts = {"moment": moment_text(entry.next_attempt_at), "reason": entry.reason, "count": entry.attempts}
    if entry.attempts == 0:
        return _("Waits, and is tried again at %(moment)s: %(reason)s") % facts
    sentence = ngettext(
        "Failed %(count)d time, and is tried again at %(moment)s: %(reason)s",
        "Failed %(count)d times, and is tried again at %(moment)s: %(reason)s",
        entry.attempts,
    )
    return sentence % facts
