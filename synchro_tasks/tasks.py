"""The Celery tasks. They may run twice, late, or at the same time: the engine does what is still to be done.

What they raise and return is shown in Flower and in the worker's log: sentences without values of rows or addresses.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task, shared_task
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.utils import timezone

from synchro import compare, engine
from synchro.conf import conf
from synchro.exceptions import PermanentError, SynchroError, TransientError
from synchro.models import Attempt, ChangeLog, options
from synchro.registry import watched_model
from synchro_tasks import lost, publisher
from synchro_tasks.lease import Lease, lease
from synchro_tasks.progress import Progress
from synchro_tasks.retry import Action, decide

logger = logging.getLogger(__name__)

CHECKPOINT = "synchro_tasks.checkpoint"


class DeliveryTask(Task):
    """A task whose queue and expiry are settings of synchro, read when it is published."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Publish the task. What the caller says, such as beat or a retry, goes first."""
        return super().apply_async(*args, **{**publisher.chosen_options(), **options})


#: Every task runs at least once, also when its worker is killed. Nobody asks for results.
_AT_LEAST_ONCE: dict[str, Any] = {
    "bind": True,
    "base": DeliveryTask,
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "serializer": "json",
    "max_retries": None,
    "throws": (SynchroError,),
}
#: A replicate begins no more batches after so many seconds.
_SECONDS_TO_GO_ON = 10.0
#: The models with a backlog that a replicate of this process had no more time for.
_unfinished: set[str] = set()
#: A checkpoint begins no more batches, and no more pruning, after so many seconds. The next one goes on.
_SECONDS_TO_SYNC = 30.0
_SECONDS_TO_PRUNE = 5.0
_PRUNE_BATCH = 1000
#: So many batches of a backlog at most does a checkpoint hand to the workers.
_MOST_HANDED_OUT = 100


@shared_task(name="synchro_tasks.replicate", **_AT_LEAST_ONCE)
def replicate(self: Task[Any, Any], model_label: str, pk: str) -> str:
    """Bring one object to REMOTE, and with it objects of its model that were changed later and are due.

    Where there are many it goes on with them for some seconds: the tasks of these find nothing to do and end at once.
    While REMOTE cannot be used, tasks end at once, too.

    Raises:
        PermanentError: the object cannot be copied as it is, or there is no such model or primary key.
        TransientError: a database could not be used for about a minute; the object waits for the checkpoint.
    """
    model_label, pk = str(model_label), str(pk)
    alone = lost.is_suspected(self)
    try:
        is_its_turn = engine.check(model_label)
        report = engine.sync_object(model_label, pk, alone=alone, task_id=_id(self))
        if is_its_turn and report.is_empty:
            engine.pass_on("", model_label)
    except Exception as error:
        if (verdict := _verdict(self, model_label, pk, error)) is not None:
            raise verdict from None
        return str(error)
    if not report.is_empty:
        lost.survived()
    if alone:
        _queue_rest(self, model_label, report)
    else:
        report += _go_on(self, model_label, report)
    _queue_woken(self, report)
    _queue_held(self, report)
    for failure in report.failures:
        if (failure.model, failure.object_id) == (model_label, pk):
            if failure.waits:
                return failure.error
            raise PermanentError(failure.error)
    return _summary(report)


@shared_task(name=CHECKPOINT, **_AT_LEAST_ONCE)
def checkpoint(self: Task[Any, Any]) -> str:
    """Bring to REMOTE what was never tried or whose pause is over, and delete what is older than the log is kept.

    It does so without any queued task. One runs at a time across all workers, for a bounded time.

    Raises:
        SynchroError: a database could not be used, or the settings are wrong. The next checkpoint tries again.
    """
    with _errors_explained(self), lease("checkpoint") as own:
        if own is None:
            return "Another checkpoint is running."
        try:
            report = _catch_up(self, own)
        finally:
            pruned = _prune()
            options.checkpoint_ended(timezone.now())
    return f"{_summary(report)}, {pruned} old rows deleted"


@shared_task(name="synchro_tasks.synchronize", **_AT_LEAST_ONCE)
def synchronize(
    self: Task[Any, Any],
    full: bool = False,
    request: dict[str, Any] | None = None,
    batch_size: int | None = None,
    sleep: float = 0.0,
) -> str:
    """Bring everything that is pending to REMOTE, also what waits for its next attempt.

    Args:
        full: compare all rows instead, and repair what differs. Another run with the same request, also one that was
            killed, is taken over where it is.
        request: what to compare, by the fields of ``synchro.compare.Request``; everything without it.
        batch_size: how many objects to compare at once.
        sleep: seconds to rest after each batch of a comparison.

    Raises:
        PermanentError: some objects could not be copied; all others were.
        SynchroError: a database could not be used; everything that has not arrived stays pending.
    """
    if full:
        return _compare(self, request or {}, batch_size=batch_size, sleep=sleep)
    with _errors_explained(self):
        report = engine.sync_pending(alone=lost.is_suspected(self), task_id=_id(self))
    _queue_held(self, report)
    if report.failures:
        first = report.failures[0]
        raise PermanentError(f"{_summary(report)}; first {first.model} {first.object_id}: {first.error}")
    return _summary(report)


def _compare(task: Task[Any, Any], request: dict[str, Any], **pace: Any) -> str:
    with _errors_explained(task):
        watcher = Progress(task) if _is_in_worker(task) else None
        tallies = compare.run(compare.Request.from_plain(request), watcher=watcher, task_id=_id(task), **pace)
    names = ("compared", "differences", "repaired", "failed", "skipped")
    summary = ", ".join(f"{sum(getattr(tally, name) for tally in tallies)} {name}" for name in names)
    bad = next((tally for tally in tallies if tally.is_bad), None)
    if bad is not None:
        raise PermanentError(f"{summary}; first {bad.model}: {bad.error or f'{bad.failed} could not be repaired'}")
    return summary


def _verdict(task: Task[Any, Any], label: str, pk: str, error: Exception) -> Exception | None:
    """Leave an Attempt where trying again makes sense.

    Returns:
        What ends this run of the task: a retry, a failure, or None where it just ends.
    """
    decision = decide(error, task.request.retries)
    explained = _explain(error)
    if decision.action is Action.FAIL:
        return explained
    _close_broken_connections(task)
    if decision.action is Action.LEAVE:  # it is about more than this object, and recorded as such
        return None
    # Without a worker a retry would happen at once, in the request that has saved the object.
    again = decision.action is Action.RETRY and _is_in_worker(task)
    record = engine.record_attempt if again else engine.postpone
    try:
        record(watched_model(label), pk, error, task_id=_id(task))
    except Exception as unrecorded:
        logger.warning("attempt not recorded model=%s object_id=%s error=%s", label, pk, engine.describe(unrecorded))
    if again:
        return task.retry(exc=explained, countdown=decision.seconds, throw=False)
    return TransientError(f"{explained} The object waits in the log for the checkpoint.")


def _go_on(task: Task[Any, Any], label: str, last: engine.Report) -> engine.Report:
    """Bring more objects of the model, the oldest changes first, while batches are worth it; return what was done.

    If the time is up before that, the next task of this process goes on, even if there is nothing to do for its own
    object: behind a large backlog come the messages of all that has been taken along.
    """
    more = engine.Report()
    enough = conf.batch_size / 2
    deadline = time.monotonic() + _SECONDS_TO_GO_ON
    # What another worker is bringing already makes a batch small: two of them at the same place would only wait.
    is_worth_it = last.settled > enough or label in _unfinished
    _unfinished.discard(label)
    with _others_left_alone(task, label):
        while is_worth_it and (pk := engine.next_due(label)) is not None:
            if time.monotonic() >= deadline:
                _unfinished.add(label)
                break
            last = engine.sync_object(label, pk, task_id=_id(task))
            more += last
            is_worth_it = last.settled > enough
    return more


def _queue_rest(task: Task[Any, Any], label: str, report: engine.Report) -> None:
    """Queue what could not be brought one by one in time: this task may have been the only one for it."""
    with _others_left_alone(task, label):
        if report.settled and _is_in_worker(task) and (pk := engine.next_due(label)) is not None:
            publisher.publish(replicate, [(label, pk)])


@contextmanager
def _others_left_alone(task: Task[Any, Any], label: str) -> Iterator[None]:
    """Let what goes wrong be the matter of other tasks, or of the checkpoint: the task's own object has been tried."""
    try:
        yield
    except Exception as error:
        _close_broken_connections(task)
        logger.warning("backlog left to other tasks model=%s error=%s", label, _explain(error))


def _catch_up(task: Task[Any, Any], own: Lease) -> engine.Report:
    """Synchronize until nothing is due, the time is up, or another worker has taken over the lease.

    Large backlogs are handed to all workers, in batches, when the first batch has gone well.
    """
    if conf.remote is None:
        return engine.Report()
    deadline = time.monotonic() + _SECONDS_TO_SYNC
    alone = own.is_inherited or lost.is_suspected(task)
    hands_out = _is_in_worker(task) and not alone

    def goes_on() -> bool:
        nonlocal hands_out
        if hands_out:
            publisher.publish(replicate, engine.backlog(most=_MOST_HANDED_OUT))
            hands_out = False
        return time.monotonic() < deadline and not own.is_lost

    report = engine.sync_due(goes_on=goes_on, alone=alone, task_id=_id(task))
    if not report.is_empty:
        lost.survived()
    _queue_woken(task, report)
    return report


def _queue_woken(task: Task[Any, Any], report: engine.Report) -> None:
    """Queue what waited for objects that have arrived."""
    if report.woken and _is_in_worker(task):
        publisher.publish(replicate, list(publisher.wakeups(report.woken, conf.batch_size)))


def _queue_held(task: Task[Any, Any], report: engine.Report) -> None:
    """Queue a checkpoint if something that was held back works again: its tasks have ended long ago."""
    if report.recovered and _is_in_worker(task):
        publisher.publish(checkpoint, [()])


def _prune() -> int:
    """Delete settled entries and attempts that are older than the log is kept, in small batches; return how many."""
    before = timezone.now() - conf.log_retention
    log, attempts = ChangeLog.objects.using(conf.local), Attempt.objects.using(conf.local)
    deadline = time.monotonic() + _SECONDS_TO_PRUNE
    pruned = 0
    while time.monotonic() < deadline:
        deleted = log.prune(before, limit=_PRUNE_BATCH) + attempts.prune(before, limit=_PRUNE_BATCH)
        if not deleted:
            break
        pruned += deleted
    return pruned


@contextmanager
def _errors_explained(task: Task[Any, Any]) -> Iterator[None]:
    """Turn whatever goes wrong into a sentence."""
    try:
        yield
    except Exception as error:
        _close_broken_connections(task)
        raise _explain(error) from None


def _explain(error: Exception) -> SynchroError:
    """Return the error as one whose message may be shown."""
    if isinstance(error, SynchroError):
        return error
    if not isinstance(error, AnyDatabaseError | OSError):
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.error("unexpected error=%s\n%s", type(error).__name__, frames)
    kind = TransientError if engine.is_transient(error) else PermanentError
    return kind(engine.describe(error))


def _close_broken_connections(task: Task[Any, Any]) -> None:
    """Close connections that do not work any more, so that the next try opens new ones although workers keep theirs."""
    if _is_in_worker(task):
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()


def _is_in_worker(task: Task[Any, Any]) -> bool:
    return not (task.request.called_directly or task.request.is_eager)


def _id(task: Task[Any, Any]) -> str:
    return task.request.id or ""


def _summary(report: engine.Report) -> str:
    waiting = sum(failure.waits for failure in report.failures)
    told = f"{report.synced} synced, {report.skipped} skipped, {len(report.failures) - waiting} failed"
    more = [f"{waiting} waiting"] if waiting else []
    return ", ".join([told, *more, *(f"{label or 'REMOTE'} held: {reason}" for label, reason in report.held.items())])
