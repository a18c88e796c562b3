"""Bringing objects to REMOTE: one that has just changed, those that are due, or everything that is pending."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from django.db.models import Max
from django.utils import timezone

from synchro.conf import conf
from synchro.engine import holds
from synchro.engine.report import Report
from synchro.engine.run import Page, Progress, Run, open_run
from synchro.engine.steps import Step
from synchro.keys import pk_from_text
from synchro.models import ChangeLog, Option, Wait, options
from synchro.registry import ModelClass, model_label, watched_model, watched_models
from synchro.rows import batched

#: So many entries are read for each object of a batch: one that is saved and gets its relations has several.
_ENTRIES_OF_AN_OBJECT = 4


def sync_object(label: str, object_id: str, *, alone: bool = False, task_id: str = "") -> Report:
    """Bring one object to REMOTE, and with it due objects of its model that were changed later, up to the batch size.

    An object without a pending entry costs one query on LOCAL and nothing else.

    Args:
        label: 'app_label.ModelName' of a watched model.
        object_id: the object's primary key as text.
        alone: bring them one by one, and count each attempt before it is made: one of them may kill the process.
        task_id: noted with failed attempts.

    Raises:
        PermanentError: the model is not watched, or the id is no primary key of it.
        Held: REMOTE cannot be used, or the model lacks a table or a column; everything stays pending.
        TransientError or a database error: one of the databases cannot be used; everything stays pending.
    """
    model = watched_model(label)
    pk_from_text(model, object_id)
    size = conf.batch_size
    # Each task looks onwards from its own object, so that tasks for different parts of a backlog do not meet.
    log = ChangeLog.objects.using(conf.local)
    ids, anybody_waits = log.onwards(model, object_id, now=timezone.now(), limit=size * _ENTRIES_OF_AN_OBJECT)
    if not ids:
        return Report()
    with open_run(task_id=task_id) as run:
        run.anybody_waits = anybody_waits
        report = run.bring_alone(model, ids[:size]) if alone else run.bring(Step(model, ids[:size]))
        obstruction = run.obstructed.pop((model, object_id), None)
        report = run.result(report)
    if obstruction is not None:
        raise obstruction
    if label in report.held:
        raise run.held[model]
    if report.settled or report.failures:
        report = replace(report, recovered=holds.recovered(label))
    return report


def next_due(label: str) -> str | None:
    """Return the object of a model that has been due for the longest time; None where none is."""
    log = ChangeLog.objects.using(conf.local)
    due = log.due(timezone.now()).oldest_first(watched_model(label))
    return due.values_list("object_id", flat=True).first()


def backlog(*, most: int) -> list[tuple[str, str]]:
    """Return where large backlogs can be taken up by others: the first object of each batch but the first.

    Reads one row for each, however large the backlog is. What is held back is left alone.

    Args:
        most: how many to return, of all models together.
    """
    log = ChangeLog.objects.using(conf.local)
    pending = log.models_with_pending()
    held = holds.labels() if pending else set()
    if holds.REMOTE in held:
        return []
    waiting = [each for each in watched_models() if each in pending and model_label(each) not in held]
    size = conf.batch_size
    found = []
    for model in waiting:
        due = log.due(timezone.now()).oldest_first(model).values_list("id", "object_id")
        row = due[size : size + 1].first()
        for _ in range(max(most // len(waiting), 1)):
            if row is None:
                break
            found.append((model_label(model), row[1]))
            row = due.filter(id__gt=row[0])[size - 1 : size].first()
    return found[:most]


def sync_objects(model: ModelClass, object_ids: Sequence[str], *, task_id: str = "") -> Report:
    """Bring objects of one model to REMOTE that have just been logged, and with them what they depend on."""
    with open_run(task_id=task_id) as run:
        report = Report()
        for ids in batched(object_ids, conf.batch_size):
            report += run.bring(Step(model, ids))
        report += run.try_failures_again(report)
        return run.result(report)


def sync_due(*, goes_on: Callable[[], bool] = lambda: True, alone: bool = False, task_id: str = "") -> Report:
    """Bring objects to REMOTE whose entries were never tried or whose pause is over, and leave alone what is held.

    Models take turns, a batch each. What ends early goes on with the next model's turn the next time.

    Args:
        goes_on: asked after each batch.
        alone: as in ``sync_object``.
    """
    others, ours = holds.look()
    if holds.REMOTE in others:
        return Report(held=others)
    Wait.objects.using(conf.local).wake_forgotten(limit=conf.batch_size)
    report = _sync_all(due_only=True, goes_on=goes_on, alone=alone, task_id=task_id, leaves=others)
    report = replace(report, held={**others, **report.held})
    return replace(report, recovered=_release_working(ours, report) or report.recovered)


def sync_pending(*, on_progress: Progress | None = None, alone: bool = False, task_id: str = "") -> Report:
    """Bring everything that is pending to REMOTE, also what waits for its next attempt or is held."""
    report = _sync_all(due_only=False, alone=alone, on_progress=on_progress, task_id=task_id)
    others, ours = holds.look()
    return replace(report, recovered=_release_working({*others, *ours}, report) or report.recovered)


def count_pending() -> int:
    """Return the number of pending entries."""
    return ChangeLog.objects.using(conf.local).pending().count()


def _release_working(labels: Collection[str], report: Report) -> bool:
    """Let go of what was held and has just worked, or works as far as can be seen where there was nothing to do."""
    working = [label for label in labels if label not in report.held and _works(label, report)]
    return holds.release(*working) if working else False


def _works(label: str, report: Report) -> bool:
    if label == holds.REMOTE:
        return bool(report.settled or report.failures) or holds.remote_works()
    model = {model_label(model): model for model in watched_models()}.get(label)
    return model is None or holds.missing(model) is None


def _sync_all(
    *,
    due_only: bool,
    task_id: str,
    goes_on: Callable[[], bool] = lambda: True,
    alone: bool = False,
    leaves: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Report:
    started = timezone.now()
    with open_run(task_id=task_id, on_progress=on_progress) as run:
        report = Report()
        log = ChangeLog.objects.using(run.link.local)
        newest = log.aggregate(newest=Max("id"))["newest"] or 0
        waiting = log.models_with_pending()
        run.anybody_waits = bool(waiting) and Wait.objects.using(run.link.local).exists()
        chosen = [each for each in watched_models() if each in waiting and model_label(each) not in leaves]
        for page in _in_turn([_pages(run, model, newest, due_only=due_only) for model in _from_last(chosen)]):
            brought = run.bring_page(page, alone=alone)
            if brought.settled:  # all workers may go on, not only this one
                brought = replace(brought, recovered=holds.recovered(model_label(page.model)))
            report += brought
            if not goes_on():
                _remember_last(page.model)
                return run.result(report)
        report += run.try_failures_again(report)
        options.checked(started)
        return run.result(report)


def _in_turn(all_pages: Iterable[Iterator[Page]]) -> Iterator[Page]:
    """Yield a page of each, again and again, until none is left."""
    waiting = deque(all_pages)
    while waiting:
        pages = waiting.popleft()
        if (page := next(pages, None)) is not None:
            yield page
            waiting.append(pages)


def _pages(run: Run, model: ModelClass, newest: int, *, due_only: bool) -> Iterator[Page]:
    """Yield batches of a model's objects with pending entries, oldest first, that did not fail in this run."""
    last = 0
    while model not in run.held:
        log = ChangeLog.objects.using(run.link.local)
        selected = (log.due(timezone.now()) if due_only else log.pending()).oldest_first(model)
        found = selected.filter(id__gt=last, id__lte=newest).values_list("id", "object_id", "reason")
        rows = list(found[: conf.batch_size])
        if not rows:
            return
        last = rows[-1][0]
        suspects = {object_id for _, object_id, reason in rows if reason == ChangeLog.WORKER_LOST}
        ids = [
            each for each in dict.fromkeys(object_id for _, object_id, _ in rows) if (model, each) not in run.failures
        ]
        yield Page(model, [each for each in ids if each not in suspects], [each for each in ids if each in suspects])


def _from_last(models: list[ModelClass]) -> list[ModelClass]:
    """Let the models begin behind the one at which the last run ended early."""
    if len(models) < 2:
        return models
    row = Option.objects.using(conf.local).filter(key=Option.LAST_MODEL).first()
    order = {model_label(each): number for number, each in enumerate(watched_models())}
    last = order.get(row.value, -1) if row is not None else -1
    return sorted(models, key=lambda model: (order[model_label(model)] <= last, order[model_label(model)]))


def _remember_last(model: ModelClass) -> None:
    Option.objects.using(conf.local).update_or_create(key=Option.LAST_MODEL, defaults={"value": model_label(model)})
