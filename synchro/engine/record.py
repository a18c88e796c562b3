"""What is kept of a failed attempt: why it failed, and when the object's entries are due again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Max, Min
from django.utils import timezone

from synchro.conf import conf
from synchro.engine import errors
from synchro.engine.relations import Target
from synchro.exceptions import WorkerLost
from synchro.lookups import among
from synchro.models import Attempt, ChangeLog, ChangeLogQuerySet, Wait, WaitRow
from synchro.registry import ModelClass, model_label
from synchro.signals import object_failed

logger = logging.getLogger(__name__)

#: How long entries wait at least, and at most, after a failure that nobody has to do anything about.
_POSTPONED = timedelta(minutes=1)
_LONGEST_POSTPONED = timedelta(hours=1)
#: How long entries wait for another object, should nobody wake them when it arrives.
_WAITING = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed attempt that is to be recorded."""

    account: errors.Account
    #: Whether the attempt was due, or somebody asked for it; not if the object was tried only because others need it.
    is_own: bool
    #: What the object waits for.
    waits_for: Target | None = None
    #: The newest entry that the attempt has taken: what came later has not failed. Unknown if none was taken.
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that was counted before it was made: the entries for which it was, and what tells of it."""

    entries: ChangeLogQuerySet
    attempt: Attempt


def record_failures(failures: Mapping[Target, Failed], *, task_id: str) -> None:
    """Leave Attempts, and let the pending entries wait for the next one or, after too many, give them up."""
    for model in {model for model, _ in failures}:
        of_model = {object_id: failed for (each, object_id), failed in failures.items() if each is model}
        _record_failures(model, of_model, task_id=task_id)


def _record_failures(model: ModelClass, failures: Mapping[str, Failed], *, task_id: str) -> None:
    """Record failures of one model: objects that fail alike, for the same time, at once."""
    counted = _counted(model, failures)
    accounts = {object_id: failures[object_id].account for object_id in counted}
    label = model_label(model)
    for object_id, account in accounts.items():
        logger.warning("object failed model=%s object_id=%s error=%s", label, object_id, account.message)
    pending = _tried(model, {object_id: failures[object_id] for object_id in counted})
    announcements: list[tuple[list[str], str, bool]] = []
    with transaction.atomic(using=conf.local):
        Attempt.objects.using(conf.local).bulk_create(_attempts(model, accounts, task_id=task_id))
        for (message, attempts), ids in _alike(accounts, pending).items():
            is_given_up = attempts >= conf.max_attempts
            entries = [entry.id for object_id in ids for entry in pending.get(object_id, ())]
            ChangeLog.objects.using(conf.local).filter(among("pk", entries)).record_failure(
                attempts=attempts,
                next_attempt_at=None if is_given_up else timezone.now() + errors.pause(attempts),
                reason=message,
            )
            announcements.append((ids, message, is_given_up))
    for ids, message, is_given_up in announcements:
        _announce(model, ids, message, given_up=is_given_up)


class _Pending(NamedTuple):
    id: int
    attempts: int


def _tried(model: ModelClass, failures: Mapping[str, Failed]) -> dict[str, list[_Pending]]:
    """Return the pending entries of the objects, as far as they are not newer than what was tried."""
    found: dict[str, list[_Pending]] = {}
    pending = _entries(model, failures).pending().values_list("object_id", "id", "attempts")
    for object_id, pk, attempts in pending:
        newest = failures[object_id].newest
        if newest is None or pk <= newest:
            found.setdefault(object_id, []).append(_Pending(pk, attempts))
    return found


def _alike(
    accounts: Mapping[str, errors.Account], pending: Mapping[str, list[_Pending]]
) -> dict[tuple[str, int], list[str]]:
    """Return the objects by what is told of the failure and by their attempts with this one.

    A new change of an object starts afresh: what came before it has as many as it.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for object_id, account in accounts.items():
        attempts = 1 + min((entry.attempts for entry in pending.get(object_id, ())), default=0)
        found.setdefault((account.message, attempts), []).append(object_id)
    return found


def record_waiting(failures: Mapping[Target, Failed]) -> set[Target]:
    """Let objects wait for others that are on their way, and return them. No attempt is counted, and none is left.

    What is not on its way will not arrive by itself: who waits for it is not among them.
    """
    on_the_way = _unsettled({each.waits_for for each in failures.values() if each.waits_for})
    in_circles = _in_circles({target: each.waits_for for target, each in failures.items()})
    waiting = {
        target: each for target, each in failures.items() if each.waits_for in on_the_way and target not in in_circles
    }
    if not waiting:
        return set()
    until = timezone.now() + _WAITING
    by_reason: dict[tuple[ModelClass, str], list[str]] = {}
    for (model, object_id), failed in waiting.items():
        by_reason.setdefault((model, failed.account.message), []).append(object_id)
    for (model, reason), ids in by_reason.items():
        log = ChangeLog.objects.using(conf.local).of_objects(model, ids)
        log.postpone(next_attempt_at=until, reason=reason)
    Wait.objects.using(conf.local).note([_wait_row(target, each.waits_for) for target, each in waiting.items()])
    return set(waiting)


def record_attempt(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt and let the entries be."""
    _leave_attempt((model, object_id), errors.account(error), task_id=task_id)


def postpone(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt, and let the pending entries wait as long as the newest change has been failing already.

    So the pauses double, from a minute to an hour. The attempt does not count: nothing is wrong with the entries.
    """
    account = errors.account(error)
    attempt = _leave_attempt((model, object_id), account, task_id=task_id)
    entries = _entries(model, [object_id]).pending()
    changed = entries.aggregate(newest=Max("date"))["newest"] or attempt.date
    attempts = Attempt.objects.using(conf.local).of_object(model, object_id).filter(date__gte=changed)
    first = attempts.aggregate(first=Min("date"))["first"] or attempt.date
    pause = min(max(attempt.date - first, _POSTPONED), _LONGEST_POSTPONED)
    entries.postpone(next_attempt_at=timezone.now() + pause, reason=account.message)


def begin_attempt(target: Target, *, task_id: str) -> Begun | None:
    """Count an attempt before it is made, for the case that it kills this process; None where it must not be made."""
    counted = dict(_entries(target[0], [target[1]]).pending().values_list("pk", "attempts"))
    account = errors.account(WorkerLost())
    attempts = max(counted.values(), default=0) + 1
    again_at: datetime = timezone.now() + errors.pause(attempts)
    entries = ChangeLog.objects.using(conf.local).filter(among("pk", counted))
    if entries.begin_attempt(max_attempts=conf.max_attempts, next_attempt_at=again_at):
        return Begun(entries, _leave_attempt(target, account, task_id=task_id))
    if attempts > conf.max_attempts:
        _announce(target[0], [target[1]], account.message, given_up=True)
    return None


def end_attempt(begun: Begun) -> None:
    """Take back what was recorded at the beginning of an attempt that did not kill this process."""
    begun.attempt.delete(using=conf.local)
    begun.entries.end_attempt()


def _entries(model: ModelClass, object_ids: Collection[str]) -> ChangeLogQuerySet:
    return ChangeLog.objects.using(conf.local).of_objects(model, object_ids)


def _counted(model: ModelClass, failures: Mapping[str, Failed]) -> list[str]:
    """Return the objects whose attempts count.

    One that others caused does not before its time: else each of them would use one up.
    """
    led_in = [object_id for object_id, failed in failures.items() if not failed.is_own]
    if not led_in:
        return list(failures)
    entries = _entries(model, led_in)
    due = set(entries.due(timezone.now()).values_list("object_id", flat=True))
    unsettled = set(entries.unsettled().values_list("object_id", flat=True))
    return [each for each, failed in failures.items() if failed.is_own or each in due or each not in unsettled]


def _unsettled(targets: set[Target]) -> set[Target]:
    found: set[Target] = set()
    for model in {model for model, _ in targets}:
        ids = [object_id for each, object_id in targets if each is model]
        log = ChangeLog.objects.using(conf.local).unsettled().of_objects(model, ids)
        found |= {(model, object_id) for object_id in log.values_list("object_id", flat=True)}
    return found


def _in_circles(waits: Mapping[Target, Target | None]) -> set[Target]:
    """Return those that wait for somebody who, in the end, waits for them."""
    found: set[Target] = set()
    done: set[Target] = set()
    for start in waits:
        path: dict[Target, None] = {}
        each: Target | None = start
        while each is not None and each not in done and each not in path:
            path[each] = None
            each = waits.get(each)
        if each in path or each in found:
            found |= path.keys()
        done |= path.keys()
    return found


def _wait_row(target: Target, waits_for: Target | None) -> WaitRow:
    assert waits_for is not None
    types = ContentType.objects.db_manager(conf.local)
    (model, object_id), (other, other_id) = target, waits_for
    return WaitRow(types.get_for_model(model).pk, object_id, types.get_for_model(other).pk, other_id)


def _leave_attempt(target: Target, account: errors.Account, *, task_id: str) -> Attempt:
    (attempt,) = _attempts(target[0], {target[1]: account}, task_id=task_id)
    attempt.save(using=conf.local, force_insert=True)
    return attempt


def _attempts(model: ModelClass, accounts: Mapping[str, errors.Account], *, task_id: str) -> list[Attempt]:
    # By its key: a router of the project may refuse relations.
    type_id = ContentType.objects.db_manager(conf.local).get_for_model(model).pk
    return [
        Attempt(
            content_type_id=type_id,
            object_id=object_id,
            error=account.error,
            message=f"{account.message}\n{account.values}" if account.values else account.message,
            traceback=account.traceback,
            task_id=task_id,
        )
        for object_id, account in accounts.items()
    ]


def _announce(model: ModelClass, object_ids: Collection[str], reason: str, *, given_up: bool) -> None:
    objects = [(model_label(model), each) for each in object_ids]
    object_failed.send_robust(sender=ChangeLog, using=conf.local, objects=objects, reason=reason, given_up=given_up)
