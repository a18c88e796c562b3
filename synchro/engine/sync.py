"""Bringing objects to REMOTE: steps in an order that lets everything arrive, and what to do when something does not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.contrib.contenttypes.models import ContentType
from django.db.models import Max, Min
from django.utils import timezone

from synchro.conf import conf
from synchro.engine import errors
from synchro.engine.batch import Outcome, Step, replicate
from synchro.engine.link import Link, open_link
from synchro.engine.relations import Target
from synchro.exceptions import WaitsForOther
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
_IN_A_CIRCLE = (
    "The object and others point to each other, and none of the foreign keys may be NULL for a moment. "
    "Make one of them nullable, or copy the objects by hand."
)

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
    """Bring one object to REMOTE, and with it objects of its model that were changed later and are due, up to the batch size.

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
    log = ChangeLog.objects.using(conf.local)
    first = log.pending().of_objects(model, [object_id]).aggregate(first=Min("id"))["first"]
    if first is None:
        return Report()
    # Each task looks onwards from its own object, so that tasks for different parts of a backlog do not meet.
    later = log.due(timezone.now()).of(model).filter(id__gt=first).order_by("id").values_list("object_id", flat=True)
    size = conf.batch_size
    ids = list(dict.fromkeys([object_id, *later[: size * _ENTRIES_OF_AN_OBJECT]]))[:size]
    return _Run(open_link(), task_id=task_id).bring(Step(model, ids))


def sync_due(*, limit: int | None = None, task_id: str = "") -> Report:
    """Bring objects to REMOTE whose entries were never tried or whose pause is over, at most about ``limit`` of them."""
    return _sync_all(due_only=True, limit=limit, task_id=task_id)


def sync_pending(*, on_progress: Progress | None = None, task_id: str = "") -> Report:
    """Bring everything that is pending to REMOTE, also what waits for its next attempt."""
    return _sync_all(due_only=False, limit=None, on_progress=on_progress, task_id=task_id)


def count_pending() -> int:
    """Return the number of pending entries."""
    return ChangeLog.objects.using(conf.local).pending().count()


def _sync_all(*, due_only: bool, limit: int | None, task_id: str, on_progress: Progress | None = None) -> Report:
    started = timezone.now()
    run = _Run(open_link(), task_id=task_id, on_progress=on_progress)
    report = Report()
    log = ChangeLog.objects.using(run.link.local)
    newest = log.aggregate(newest=Max("id"))["newest"] or 0
    waiting = log.models_with_pending()
    for model in [each for each in watched_models() if each in waiting]:
        for ids in _pending_ids(run, model, newest, due_only=due_only):
            report += run.bring(Step(model, ids))
            if limit is not None and report.settled + len(report.failures) >= limit:
                return report
    report = run.try_failures_again(report)
    options.checked(started)
    return report


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
            each for each in dict.fromkeys(object_id for _, object_id in page) if (model, each) not in run.failed
        ]:
            yield ids


class _Run:
    """One synchronization: brings steps, remembers what failed, and counts."""

    def __init__(self, link: Link, *, task_id: str, on_progress: Progress | None = None) -> None:
        self.link = link
        self.task_id = task_id
        self.on_progress = on_progress
        self.failed: dict[Target, str] = {}
        self._recorded: set[Target] = set()

    def try_failures_again(self, report: Report) -> Report:
        """Try objects again that were in each other's way, such as one that takes over a unique value, while that helps."""
        while report.failures and report.settled:
            failed, self.failed = self.failed, {}
            retried = Report()
            for model in watched_models():
                ids = [object_id for each, object_id in failed if each is model]
                for batch in batched(ids, conf.batch_size):
                    retried += self.bring(Step(model, batch))
            report = replace(report, failures=()) + retried
            if not retried.settled:
                break
        return report

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
                if errors.is_transient(error):
                    raise
                stack.pop()
                stack.extend(_halves(step))
                if len(step.ids) == 1:
                    report += self._fail(step.model, step.ids[0], error)
                continue
            report += self._settle(step, outcome)
            report += self._next(stack, outcome, tries)
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
            self.failed[(step.model, each)] = f"{label} {each} does not exist on LOCAL."
        for each, error in outcome.failures.items():
            report += self._fail(step.model, each, error)
        entries = sum(map(len, outcome.arrived.values())) + sum(len(ids) for ids, _ in outcome.lost.values())
        if self.on_progress is not None and entries:
            self.on_progress(entries)
        return report

    def _next(self, stack: list[Step], outcome: Outcome, tries: Counter[Target]) -> Report:
        """Decide what comes next: what the top step waits for, its next round, or, when objects wait in a circle, a break."""
        step = stack[-1]
        was_breaking, step.breaks_cycle = step.breaks_cycle, False
        report = self._give_up_waiting(step, outcome, tries)
        step.ids = [*outcome.blocked, *(each for each in outcome.again if each not in outcome.blocked)]
        if outcome.postponed:
            stack.insert(0, Step(step.model, sorted(outcome.postponed)))
        if not step.ids:
            stack.remove(step)
            return report
        under_way = {(other.model, each) for other in stack for each in other.ids}
        wanted = set().union(*outcome.blocked.values()) - under_way
        if outcome.again or outcome.progress and not wanted:
            return report
        if wanted and (outcome.progress or not was_breaking):
            tries.update(wanted)
            stack.extend(_steps(wanted, outcome.holders))
        elif not was_breaking:
            self._break_cycle(step)
        else:
            stack.remove(step)
            if stack:
                self._break_cycle(stack[-1])
            else:
                for each in step.ids:
                    report += self._fail(step.model, each, WaitsForOther(_IN_A_CIRCLE))
        return report

    def _give_up_waiting(self, step: Step, outcome: Outcome, tries: Counter[Target]) -> Report:
        """Fail the objects that wait for something that failed, or that does not come although it was tried."""
        report = Report()
        for each, targets in list(outcome.blocked.items()):
            for model, object_id in targets:
                reason = self.failed.get((model, object_id))
                if reason is None and tries[(model, object_id)] < _MAX_TRIES:
                    continue
                sentence = f"Waits for {model_label(model)} {object_id}: {reason or 'it does not arrive on REMOTE.'}"
                report += self._fail(step.model, each, WaitsForOther(sentence))
                del outcome.blocked[each]
                break
        return report

    def _break_cycle(self, step: Step) -> None:
        """Let the next round write NULL for foreign keys that cannot be filled yet.

        Objects without pending entries get one first, so that a crash cannot leave the NULL behind unnoticed.
        """
        step.breaks_cycle = True
        log = ChangeLog.objects.using(self.link.local)
        logged = set(log.pending().of_objects(step.model, step.ids).values_list("object_id", flat=True))
        log.append_changes(step.model, [each for each in step.ids if each not in logged])

    def _fail(self, model: ModelClass, object_id: str, error: Exception) -> Report:
        """Record a failed attempt at one object, at most one in a run."""
        sentence = errors.describe(error)
        target = (model, object_id)
        self.failed[target] = sentence
        if target not in self._recorded:
            self._recorded.add(target)
            record_failure(model, object_id, error, task_id=self.task_id)
        return Report(failures=(Failure(model_label(model), object_id, sentence),))


def _halves(step: Step) -> list[Step]:
    """Halve a step that failed as a whole, so that in the end only the culprit fails."""
    if len(step.ids) == 1:
        return []
    middle = len(step.ids) // 2
    return [Step(step.model, ids, wanted=step.wanted) for ids in (step.ids[middle:], step.ids[:middle])]


def _steps(targets: Iterable[Target], holders: Collection[Target]) -> list[Step]:
    """Return the steps that bring the targets; one that only has to let go of something is not copied for its own sake."""
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
    local = conf.local
    sentence = errors.describe(error)
    logger.warning("object failed model=%s object_id=%s error=%s", model_label(model), object_id, sentence)
    record_attempt(model, object_id, error, task_id=task_id)
    entries = ChangeLog.objects.using(local).of_objects(model, [object_id])
    attempts = max(entries.pending().values_list("attempts", flat=True), default=0) + 1
    entries.record_failure(
        max_attempts=conf.max_attempts, next_attempt_at=timezone.now() + errors.pause(attempts), reason=sentence
    )


def postpone(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt, and let the object's pending entries wait for a minute. It does not count: nothing is wrong with them."""
    record_attempt(model, object_id, error, task_id=task_id)
    entries = ChangeLog.objects.using(conf.local).of_objects(model, [object_id])
    entries.postpone(next_attempt_at=timezone.now() + _POSTPONED, reason=errors.describe(error))


def record_attempt(model: ModelClass, object_id: str, error: BaseException, *, task_id: str = "") -> None:
    """Leave an Attempt and let the entries be."""
    content_type = ContentType.objects.db_manager(conf.local).get_for_model(model)
    Attempt.objects.using(conf.local).create(
        content_type=content_type,
        object_id=object_id,
        error=type(error).__name__,
        message=errors.describe(error),
        traceback=errors.frames(error),
        task_id=task_id,
    )
