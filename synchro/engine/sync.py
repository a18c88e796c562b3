"""Bringing objects to REMOTE: steps in an order that lets everything arrive, and what to do when something does not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError
from django.db.models import Max
from django.utils import timezone

from synchro.conf import conf
from synchro.engine import errors
from synchro.engine.batch import Outcome, Step, replicate
from synchro.engine.link import Link, open_link
from synchro.engine.relations import Target
from synchro.exceptions import PermanentError, PointToEachOther, WaitsForOther
from synchro.keys import pk_from_text
from synchro.models import Attempt, ChangeLog, options
from synchro.registry import ModelClass, model_label, watched_model, watched_models
from synchro.rows import batched

logger = logging.getLogger(__name__)

#: So many entries are read for each object of a batch: one that is saved and gets its relations has several.
_ENTRIES_OF_AN_OBJECT = 4
#: How long entries wait after a failure that nobody has to do anything about.
_POSTPONED = timedelta(minutes=1)
#: How often a batch that met a deadlock is tried again at once.
_CONTENTION_TRIES = 3
#: How often something that an object waits for is brought forward before the object is given up for this run.
_MAX_TRIES = 3
#: What another object of the same run may cure: it gives up a unique value or a row, or it arrives.
_CURABLE = (IntegrityError, PermanentError)

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that could not be brought to REMOTE, and why."""

    model: str
    object_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a synchronization did."""

    synced: int = 0
    skipped: int = 0
    failures: tuple[Failure, ...] = ()
    #: Synced objects by model label.
    by_model: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Report) -> Report:
        labels = {**self.by_model, **other.by_model}
        return Report(
            self.synced + other.synced,
            self.skipped + other.skipped,
            self.failures + other.failures,
            {label: self.by_model.get(label, 0) + other.by_model.get(label, 0) for label in labels},
        )

    @property
    def settled(self) -> int:
        """The objects that need nothing more: synced, or skipped because REMOTE is newer."""
        return self.synced + self.skipped

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.synced or self.skipped or self.failures)


def sync_object(label: str, object_id: str, *, task_id: str = "") -> Report:
    """Bring one object to REMOTE, and with it due objects of its model that were changed later, up to the batch size.

    An object without a pending entry costs one query on LOCAL and nothing else.

    Args:
        label: 'app_label.ModelName' of a watched model.
        object_id: the object's primary key as text.
        task_id: noted with failed attempts.

    Raises:
        PermanentError: the model is not watched, or the id is no primary key of it.
        TransientError or a database error: one of the databases cannot be used; everything stays pending.
    """
    model = watched_model(label)
    pk_from_text(model, object_id)
    size = conf.batch_size
    # Each task looks onwards from its own object, so that tasks for different parts of a backlog do not meet.
    log = ChangeLog.objects.using(conf.local)
    ids = log.onwards(model, object_id, now=timezone.now(), limit=size * _ENTRIES_OF_AN_OBJECT)[:size]
    if not ids:
        return Report()
    with _run(task_id=task_id) as run:
        return run.result(run.bring(Step(model, ids)))


def next_due(label: str) -> str | None:
    """Return the object of a model that has been due for the longest time; None where none is."""
    log = ChangeLog.objects.using(conf.local)
    due = log.due(timezone.now()).of(watched_model(label)).order_by("id")
    return due.values_list("object_id", flat=True).first()


def sync_due(*, limit: int | None = None, task_id: str = "") -> Report:
    """Bring objects to REMOTE whose entries were never tried or whose pause is over, at most about ``limit``."""
    return _sync_all(due_only=True, limit=limit, task_id=task_id)


def sync_pending(*, on_progress: Progress | None = None, task_id: str = "") -> Report:
    """Bring everything that is pending to REMOTE, also what waits for its next attempt."""
    return _sync_all(due_only=False, limit=None, on_progress=on_progress, task_id=task_id)


def count_pending() -> int:
    """Return the number of pending entries."""
    return ChangeLog.objects.using(conf.local).pending().count()


def _sync_all(*, due_only: bool, limit: int | None, task_id: str, on_progress: Progress | None = None) -> Report:
    started = timezone.now()
    with _run(task_id=task_id, on_progress=on_progress) as run:
        report = Report()
        log = ChangeLog.objects.using(run.link.local)
        newest = log.aggregate(newest=Max("id"))["newest"] or 0
        waiting = log.models_with_pending()
        for model in [each for each in watched_models() if each in waiting]:
            for ids in _pending_ids(run, model, newest, due_only=due_only):
                report += run.bring(Step(model, ids))
                if limit is not None and report.settled + len(run.failures) >= limit:
                    return run.result(report)
        report += run.try_failures_again(report)
        options.checked(started)
        return run.result(report)


def _pending_ids(run: _Run, model: ModelClass, newest: int, *, due_only: bool) -> Iterator[list[str]]:
    """Yield batches of a model's objects with pending entries, oldest first, that did not fail in this run."""
    last = 0
    while True:
        log = ChangeLog.objects.using(run.link.local)
        selected = (log.due(timezone.now()) if due_only else log.pending()).of(model)
        page = list(
            selected.filter(id__gt=last, id__lte=newest)
            .order_by("id")
            .values_list("id", "object_id")[: conf.batch_size]
        )
        if not page:
            return
        last = page[-1][0]
        if ids := [
            each for each in dict.fromkeys(object_id for _, object_id in page) if (model, each) not in run.failures
        ]:
            yield ids


@contextmanager
def _run(*, task_id: str, on_progress: Progress | None = None) -> Iterator[_Run]:
    """Open a run; whatever ends it, its failures are recorded."""
    run = _Run(open_link(), task_id=task_id, on_progress=on_progress)
    try:
        yield run
    finally:
        run.record_failures()


class _Run:
    """One synchronization: brings steps, remembers what failed, and counts."""

    def __init__(self, link: Link, *, task_id: str, on_progress: Progress | None = None) -> None:
        self.link = link
        self.task_id = task_id
        self.on_progress = on_progress
        self.failures: dict[Target, Failure] = {}
        #: What those have to say that wait for an object which does not come.
        self.hopeless: dict[Target, str] = {}
        #: Failures that may be cured before the run ends, and so are not recorded yet.
        self.curable: dict[Target, errors.Account] = {}
        #: How often an object was settled, or became known on REMOTE.
        self.moves = 0

    def result(self, report: Report) -> Report:
        """Return the report with the failures that are left."""
        return replace(report, failures=tuple(self.failures.values()))

    def record_failures(self) -> None:
        """Record the failed attempts that nothing has cured."""
        for (model, object_id), account in self.curable.items():
            _record_failure(model, object_id, account, task_id=self.task_id)
        self.curable.clear()

    def try_failures_again(self, report: Report) -> Report:
        """Try objects again that were in each other's way, while that helps: one took over a unique value, say."""
        retried = Report()
        newest = report
        while self.curable and newest.settled:
            targets = list(self.curable)
            for target in targets:
                del self.failures[target], self.hopeless[target], self.curable[target]
            newest = Report()
            for model in watched_models():
                ids = [object_id for each, object_id in targets if each is model]
                for batch in batched(ids, conf.batch_size):
                    newest += self.bring(Step(model, batch))
            retried += newest
        return retried

    def bring(self, first: Step) -> Report:
        """Bring a step to REMOTE, and before it what it depends on, to any depth."""
        report = Report()
        stack = [first]
        tries: Counter[Target] = Counter()
        while stack:
            step = stack[-1]
            try:
                outcome = self._replicate(step)
            except Exception as error:
                if errors.is_outage(error):
                    raise
                stack.pop()
                stack.extend(_halves(step))
                if len(step.ids) == 1:
                    self._fail(step.model, step.ids[0], error)
                continue
            report += self._settle(step, outcome)
            self._next(stack, outcome, tries)
        return report

    def _replicate(self, step: Step) -> Outcome:
        for _ in range(_CONTENTION_TRIES - 1):
            try:
                return replicate(self.link, step)
            except Exception as error:
                if not errors.is_contention(error):
                    raise
        return replicate(self.link, step)

    def _settle(self, step: Step, outcome: Outcome) -> Report:
        """Count what arrived and record what failed."""
        arrived = sum(1 for each, ids in outcome.arrived.items() if ids and each not in outcome.again)
        label = model_label(step.model)
        report = Report(synced=arrived, skipped=len(outcome.lost), by_model={label: arrived} if arrived else {})
        for each in outcome.absent:
            self.hopeless[(step.model, each)] = f"Waits for {label} {each}: it does not exist on LOCAL."
        for each, error in outcome.failures.items():
            self._fail(step.model, each, error)
        entries = sum(map(len, outcome.arrived.values())) + sum(len(ids) for ids, _ in outcome.lost.values())
        if self.on_progress is not None and entries:
            self.on_progress(entries)
        return report

    def _next(self, stack: list[Step], outcome: Outcome, tries: Counter[Target]) -> None:
        """Decide what comes next: what the top step waits for, its next round, or a break in a circle."""
        step = stack[-1]
        was_breaking, step.breaks_cycle = step.breaks_cycle, False
        self._give_up_waiting(step, outcome, tries)
        left = [*outcome.blocked, *(each for each in outcome.again if each not in outcome.blocked)]
        settled = {(step.model, each) for each in set(step.ids).difference(left)}
        step.ids = left
        self.moves += len(settled) + sum(map(len, outcome.references.values()))
        if outcome.postponed:
            stack.insert(0, Step(step.model, sorted(outcome.postponed)))
        if not step.ids:
            stack.remove(step)
            return
        waits_for = set().union(*outcome.blocked.values())
        if outcome.again or waits_for & settled:
            return
        wanted = waits_for - {(other.model, each) for other in stack for each in other.ids}
        if wanted and (outcome.progress or not was_breaking):
            tries.update(wanted)
            stack.extend(_steps(wanted, outcome.holders))
        elif outcome.progress and len(stack) > 1 and step.stepped_aside_at != self.moves:
            # What it waits for may itself have waited for what was just written: let it come first.
            step.stepped_aside_at = self.moves
            stack.remove(step)
            stack.insert(0, step)
        elif not was_breaking:
            self._break_cycle(step)
        else:
            stack.remove(step)
            if stack:
                self._break_cycle(stack[-1])
            else:
                for each in step.ids:
                    self._fail(step.model, each, PointToEachOther())

    def _give_up_waiting(self, step: Step, outcome: Outcome, tries: Counter[Target]) -> None:
        """Fail the objects that wait for something that failed, or that does not come although it was tried."""
        for each, targets in list(outcome.blocked.items()):
            for target in targets:
                reason = self.hopeless.get(target)
                if reason is None and tries[target] >= _MAX_TRIES:
                    reason = f"Waits for {model_label(target[0])} {target[1]}: it does not arrive on REMOTE."
                if reason is not None:
                    self._fail(step.model, each, WaitsForOther(reason))
                    del outcome.blocked[each]
                    break

    def _break_cycle(self, step: Step) -> None:
        """Let the next round write NULL for foreign keys that cannot be filled yet.

        Objects without pending entries get one first, so that a crash cannot leave the NULL behind unnoticed.
        """
        step.breaks_cycle = True
        log = ChangeLog.objects.using(self.link.local)
        logged = set(log.pending().of_objects(step.model, step.ids).values_list("object_id", flat=True))
        log.append_changes(step.model, [each for each in step.ids if each not in logged])

    def _fail(self, model: ModelClass, object_id: str, error: Exception) -> None:
        """Note a failed attempt at one object."""
        account = errors.account(error)
        target, label = (model, object_id), model_label(model)
        self.failures[target] = Failure(label, object_id, account.message)
        # Who waits for an object that itself waits says for what, not through how many others.
        waits = isinstance(error, WaitsForOther)
        self.hopeless[target] = account.message if waits else f"Waits for {label} {object_id}: {account.message}"
        if isinstance(error, _CURABLE):
            self.curable[target] = account
        else:
            _record_failure(model, object_id, account, task_id=self.task_id)


def _halves(step: Step) -> list[Step]:
    """Halve a step that failed as a whole, so that in the end only the culprit fails."""
    if len(step.ids) == 1:
        return []
    middle = len(step.ids) // 2
    return [Step(step.model, ids, wanted=step.wanted) for ids in (step.ids[middle:], step.ids[:middle])]


def _steps(targets: Iterable[Target], holders: Collection[Target]) -> list[Step]:
    """Return the steps that bring the targets; one that only has to let go of something is not copied for itself."""
    groups: dict[tuple[ModelClass, bool], list[str]] = {}
    for model, object_id in sorted(targets, key=lambda target: (model_label(target[0]), target[1])):
        groups.setdefault((model, (model, object_id) not in holders), []).append(object_id)
    return [
        Step(model, ids, wanted=wanted)
        for (model, wanted), all_ids in groups.items()
        for ids in batched(all_ids, conf.batch_size)
    ]


def record_failure(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt, and let the object's pending entries wait for the next one or, after too many, give them up."""
    _record_failure(model, object_id, errors.account(error), task_id=task_id)


def postpone(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt, and let the object's pending entries wait for a minute.

    The attempt does not count: nothing is wrong with them.
    """
    account = errors.account(error)
    _record_attempt(model, object_id, account, task_id=task_id)
    entries = ChangeLog.objects.using(conf.local).of_objects(model, [object_id])
    entries.postpone(next_attempt_at=timezone.now() + _POSTPONED, reason=account.message)


def record_attempt(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt and let the entries be."""
    _record_attempt(model, object_id, errors.account(error), task_id=task_id)


def _record_failure(model: ModelClass, object_id: str, account: errors.Account, *, task_id: str) -> None:
    logger.warning("object failed model=%s object_id=%s error=%s", model_label(model), object_id, account.message)
    _record_attempt(model, object_id, account, task_id=task_id)
    entries = ChangeLog.objects.using(conf.local).of_objects(model, [object_id])
    attempts = max(entries.pending().values_list("attempts", flat=True), default=0) + 1
    entries.record_failure(
        max_attempts=conf.max_attempts,
        next_attempt_at=timezone.now() + errors.pause(attempts),
        reason=account.message,
    )


def _record_attempt(model: ModelClass, object_id: str, account: errors.Account, *, task_id: str) -> None:
    content_type = ContentType.objects.db_manager(conf.local).get_for_model(model)
    Attempt.objects.using(conf.local).create(
        content_type=content_type,
        object_id=object_id,
        error=account.error,
        message=account.message,
        traceback=account.traceback,
        task_id=task_id,
    )
