"""One synchronization: steps in an order that lets everything arrive, and what to do when something does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic

from django.db import IntegrityError, connections

from synchro.conf import conf
from synchro.engine import errors, holds, values
from synchro.engine.batch import needed_by, replicate, replicate_circle
from synchro.engine.link import Link, open_link
from synchro.engine.record import Failed, begin_attempt, end_attempt, postpone, record_failures, record_waiting
from synchro.engine.relations import Target, missing_parents
from synchro.engine.report import Failure, Report
from synchro.engine.steps import Outcome, Step
from synchro.engine.uniques import may_make_way, together
from synchro.exceptions import Held, PermanentError, PointToEachOther, WaitsForOther
from synchro.models import ChangeLog, Wait
from synchro.registry import ModelClass, model_label, watched_models
from synchro.rows import batched
from synchro.signals import object_synced

#: Objects are brought one by one for so many seconds where a worker was lost; what is left has tasks of its own.
_SECONDS_ALONE = 10.0
#: How often a batch that met a deadlock is tried again at once.
_CONTENTION_TRIES = 3
#: How often something that an object waits for is brought forward before the object is given up for this run.
_MAX_TRIES = 3
#: So many objects of a model does a run find locked by others before it leaves the model to the next one.
_MOST_OBSTRUCTED = 3
#: What another object of the same run may cure: it gives up a unique value or a row, or it arrives.
_CURABLE = (IntegrityError, PermanentError)

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of a model with pending entries, and those among them that are suspected to kill who brings them."""

    model: ModelClass
    ids: list[str]
    suspects: list[str]


@contextmanager
def open_run(*, task_id: str, on_progress: Progress | None = None) -> Iterator[Run]:
    """Open a run; whatever ends it, its failures are recorded. If REMOTE cannot be used, all workers learn of it."""
    try:
        run = Run(open_link(), task_id=task_id, on_progress=on_progress)
        try:
            yield run
        finally:
            run.record_failures()
    except Exception as error:
        if (held := holds.hold_remote(error)) is None:
            raise
        raise held from error


class Run:
    """One synchronization: brings steps, remembers what failed, and counts."""

    def __init__(self, link: Link, *, task_id: str, on_progress: Progress | None = None) -> None:
        self.link = link
        self.task_id = task_id
        self.on_progress = on_progress
        self.failures: dict[Target, Failure] = {}
        #: What those have to say that wait for an object which does not come.
        self.hopeless: dict[Target, str] = {}
        #: Failures that may be cured before the run ends, and so are not recorded yet.
        self.curable: dict[Target, Failed] = {}
        #: Objects that something on REMOTE is in the way of for now, which is not their fault.
        self.obstructed: dict[Target, Exception] = {}
        #: Those that nothing cures, to be recorded together.
        self.incurable: dict[Target, Failed] = {}
        #: Models that lack a table or a column, and those of which it is known that they do not.
        self.held: dict[ModelClass, Held] = {}
        self.complete: set[ModelClass] = set()
        #: What the run was asked for, and not what comes along because something depends on it.
        self.asked: Step | None = None
        self.led_in: set[Target] = set()
        #: Whether an object waits for another one, so that those which arrive may have to wake it.
        self.anybody_waits = False
        self.woken: list[Target] = []
        #: Objects that were logged meanwhile and are brought, too.
        self.logged: set[Target] = set()
        #: Whether each attempt was counted before it was made.
        self.is_cautious = False
        #: How often an object was settled, or became known on REMOTE.
        self.moves = 0

    def result(self, report: Report) -> Report:
        """Record the failures that are left, and return the report with what is left at the end."""
        self.record_failures()
        return replace(
            report,
            failures=tuple(self.failures.values()),
            held={model_label(model): held.reason for model, held in self.held.items()},
            woken=tuple((model_label(model), object_id) for model, object_id in self.woken),
        )

    def record_failures(self) -> None:
        """Record the failed attempts that nothing has cured, and let those wait whose time comes by itself."""
        self._record_incurable()
        waiting = record_waiting(self.curable)
        for target in waiting:
            self.failures[target] = replace(self.failures[target], waits=True)
            del self.curable[target]
        record_failures(self.curable, task_id=self.task_id)
        self.curable.clear()
        for (model, object_id), error in self.obstructed.items():
            postpone(model, object_id, error, task_id=self.task_id)
        self.obstructed.clear()

    def _record_incurable(self) -> None:
        record_failures(self.incurable, task_id=self.task_id)
        self.incurable.clear()

    def try_failures_again(self, report: Report) -> Report:
        """Try objects again that were in each other's way, while that helps: one took over a unique value, say."""
        retried = Report()
        newest = report
        while self.curable and newest.settled:
            targets = list(self.curable)
            self.led_in |= {target for target, failed in self.curable.items() if not failed.is_own}
            for target in targets:
                del self.failures[target], self.hopeless[target], self.curable[target]
            newest = Report()
            for model in watched_models():
                ids = [object_id for each, object_id in targets if each is model]
                for batch in batched(ids, conf.batch_size):
                    newest += self.bring(Step(model, batch))
            retried += newest
        return retried

    def bring_page(self, page: Page, *, alone: bool) -> Report:
        """Bring a page's objects: together, but for those that may kill the process."""
        if alone:
            return self.bring_alone(page.model, page.ids + page.suspects)
        report = self.bring(Step(page.model, page.ids)) if page.ids else Report()
        return report + self.bring_alone(page.model, page.suspects)

    def bring_alone(self, model: ModelClass, ids: Iterable[str]) -> Report:
        """Bring objects one by one for some seconds, and count each attempt first: it may kill the process."""
        report = Report()
        deadline = monotonic() + _SECONDS_ALONE
        for each in ids:
            if monotonic() > deadline or model in self.held:
                break
            begun = begin_attempt((model, each), task_id=self.task_id)
            if begun is None:
                continue
            self.is_cautious = True
            try:
                report += self.bring(Step(model, [each]))
            finally:
                self.is_cautious = False
                end_attempt(begun)
        return report

    def bring(self, first: Step) -> Report:
        """Bring a step to REMOTE, and before it what it depends on, to any depth."""
        report = Report()
        self.asked = replace(first)
        stack = [first]
        tries: Counter[Target] = Counter()
        while stack or self.logged:
            if not stack:
                stack.extend(_steps(self.logged, self.logged))
                self.logged.clear()
            step = stack[-1]
            if step.is_stuck:
                stack.pop()
                report += self._bring_circle(step)
                continue
            if step.model in self.held:
                stack.remove(step)
                self._leave(step)
                continue
            try:
                outcome = self._replicate(step)
            except Exception as error:
                is_obstructed = errors.is_obstructed(error)
                if errors.is_outage(error) and not is_obstructed:
                    raise
                if is_obstructed and self._is_jammed(step.model, error):
                    continue
                if self._is_held(step.model, error):
                    continue
                stack.pop()
                if may_make_way(step, error):
                    stack.append(self._making_way(step, step.ids))
                    continue
                stack.extend(_halves(step))
                if len(step.ids) == 1:
                    self._fail(step, step.ids[0], error)
                continue
            clashing = [each for each, error in outcome.failures.items() if may_make_way(step, error)]
            for each in clashing:
                del outcome.failures[each]
            report += self._settle(step, outcome)
            self._next(stack, outcome, tries)
            if clashing:
                stack.append(self._making_way(step, clashing))
        self._record_incurable()
        return report

    def _making_way(self, step: Step, object_ids: list[str]) -> Step:
        """Return the step that brings objects which a unique value has stopped, together with those that have it."""
        group = together(self.link, step.model, object_ids)
        return Step(step.model, group, wanted=step.wanted, makes_way=True)

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
        self.logged |= outcome.logged
        arrived = sum(1 for each, ids in outcome.arrived.items() if ids and each not in outcome.again)
        label = model_label(step.model)
        report = Report(synced=arrived, skipped=len(outcome.lost), by_model={label: arrived} if arrived else {})
        for each in outcome.absent:
            self.hopeless[(step.model, each)] = f"Waits for {label} {each}: it does not exist on LOCAL."
        for each, error in outcome.failures.items():
            if self._is_held(step.model, error):
                self.hopeless[(step.model, each)] = _waits_for((step.model, each), self.held[step.model].reason)
            else:
                self._fail(step, each, error)
        self._announce(step.model, [each for each, ids in outcome.arrived.items() if ids and each not in outcome.again])
        if self.anybody_waits:
            settled = [*outcome.arrived, *outcome.lost]
            woken = Wait.objects.using(self.link.local).settle(step.model, settled)
            self.woken += woken[: Wait.NAMED - len(self.woken)]
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
            stack.extend(_steps(self._with_parents(wanted - outcome.holders), ()))
            stack.extend(_steps(wanted & outcome.holders, outcome.holders))
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
                stack.append(replace(step, is_stuck=True))

    def _with_parents(self, targets: set[Target]) -> set[Target]:
        """Add what the targets need of their own model, in turn: a batch of a long chain arrives at once."""
        found = set(targets)
        newest = targets
        while newest and len(found) < conf.batch_size:
            needed = [
                self._missing_parents(model, [each for of_model, each in newest if of_model is model])
                for model in {model for model, _ in newest}
            ]
            newest = set().union(*needed) - found
            found |= newest
        return found

    def _missing_parents(self, model: ModelClass, ids: list[str]) -> set[Target]:
        try:
            return missing_parents(self.link, model, ids)
        except Exception as error:
            if errors.is_outage(error) or not self._is_held(model, error):
                raise
            return set()

    def _give_up_waiting(self, step: Step, outcome: Outcome, tries: Counter[Target]) -> None:
        """Fail the objects that wait for something that failed, or that does not come although it was tried."""
        for each, targets in list(outcome.blocked.items()):
            for target in targets:
                reason = self.hopeless.get(target)
                if reason is None and tries[target] >= _MAX_TRIES:
                    reason = f"Waits for {model_label(target[0])} {target[1]}: it does not arrive on REMOTE."
                if reason is not None:
                    self._fail(step, each, WaitsForOther(reason), waits_for=target)
                    del outcome.blocked[each]
                    break

    def _break_cycle(self, step: Step) -> None:
        """Let the next round write NULL for foreign keys that cannot be filled yet.

        Objects without pending entries get one first, so that a crash cannot leave the NULL behind unnoticed.
        """
        step.breaks_cycle = True
        self._log_unlogged(step)

    def _log_unlogged(self, step: Step) -> None:
        log = ChangeLog.objects.using(self.link.local)
        logged = set(log.pending().of_objects(step.model, step.ids).values_list("object_id", flat=True))
        log.append_changes(step.model, [each for each in step.ids if each not in logged])

    def _bring_circle(self, step: Step) -> Report:
        """Bring objects that need each other, with all that they need, in one transaction if the vendor allows it."""
        if not connections[self.link.remote].features.can_defer_constraint_checks:
            return self._fail_all([step], PointToEachOther())
        steps = self._circle(step)
        for each in steps:
            self._log_unlogged(each)
        try:
            outcomes = replicate_circle(self.link, steps)
        except Exception as error:
            if errors.is_outage(error) and not errors.is_obstructed(error):
                raise
            return self._fail_all(steps, error)
        return sum(map(self._settle, steps, outcomes), Report())

    def _circle(self, step: Step) -> list[Step]:
        """Return steps for the objects of a step and for everything that they need, in turn."""
        found: dict[Target, None] = {(step.model, each): None for each in step.ids}
        newest = _steps(found, ())
        while newest:
            needed = set().union(*(needed_by(self.link, each) for each in newest)) - found.keys()
            found |= dict.fromkeys(needed)
            newest = _steps(needed, ())
        return [replace(each, circle=frozenset(found)) for each in _steps(found, ())]

    def _fail_all(self, steps: Iterable[Step], error: Exception) -> Report:
        for step in steps:
            for each in step.ids:
                self._fail(step, each, error)
        return Report()

    def _is_jammed(self, model: ModelClass, error: Exception) -> bool:
        """Whether so many objects of a model are locked by others that the run leaves it; the rest may go through."""
        self.link = self.link.impatient
        if sum(each is model for each, _ in self.obstructed) < _MOST_OBSTRUCTED:
            return False
        self.held[model] = holds.left_alone(model_label(model), errors.describe(error))
        return True

    def _fail(self, step: Step, object_id: str, error: Exception, *, waits_for: Target | None = None) -> None:
        """Note a failed attempt at one object."""
        model = step.model
        error = values.named(self.link, model, object_id, error)
        target, label = (model, object_id), model_label(model)
        asked = self.asked
        is_asked = asked is not None and model is asked.model and object_id in asked.ids
        is_own = is_asked and target not in self.led_in
        failed = Failed(errors.account(error), is_own, waits_for, step.newest.get(object_id))
        message = failed.account.message
        self.failures[target] = Failure(label, object_id, message)
        if errors.is_obstructed(error):
            self.failures[target] = replace(self.failures[target], waits=True)
            self.obstructed[target] = error
            self.hopeless[target] = _waits_for(target, message)
            return
        # Who waits for an object that itself waits says for what, not through how many others.
        self.hopeless[target] = message if isinstance(error, WaitsForOther) else _waits_for(target, message)
        is_curable = isinstance(error, _CURABLE) and not errors.is_of_one_row(error)
        (self.curable if is_curable or self.is_cautious else self.incurable)[target] = failed

    def _is_held(self, model: ModelClass, error: Exception) -> bool:
        """Whether an error is the fault of a model that lacks a table or a column, and not of one object."""
        if errors.kind(error) is not errors.Kind.SCHEMA or model in self.complete:
            return False
        if model not in self.held:
            held = holds.hold_model(model)
            if held is None:
                if (remote_held := holds.hold_remote(error)) is not None:
                    raise remote_held from error
                self.complete.add(model)
                return False
            self.held[model] = held
        return True

    def _leave(self, step: Step) -> None:
        """Leave the objects of a held model as they are; who needs them waits."""
        reason = self.held[step.model].reason
        self.hopeless |= {(step.model, each): _waits_for((step.model, each), reason) for each in step.ids}

    def _announce(self, model: ModelClass, object_ids: Collection[str]) -> None:
        if object_ids and object_synced.has_listeners(ChangeLog):
            objects = [(model_label(model), each) for each in object_ids]
            object_synced.send_robust(sender=ChangeLog, using=self.link.local, objects=objects)


def _waits_for(target: Target, reason: str) -> str:
    return f"Waits for {model_label(target[0])} {target[1]}: {reason}"


def _halves(step: Step) -> list[Step]:
    """Halve a step that failed as a whole, so that in the end only the culprit fails."""
    if len(step.ids) == 1:
        return []
    middle = len(step.ids) // 2
    halves = step.ids[middle:], step.ids[:middle]
    return [Step(step.model, ids, wanted=step.wanted, makes_way=step.makes_way) for ids in halves]


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
