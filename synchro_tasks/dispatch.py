"""From the log to the queue: on commit, one task for each changed object, or a few tasks for many objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from celery import current_app

from synchro.conf import conf
from synchro.signals import changes_logged
from synchro_tasks import publisher
from synchro_tasks.tasks import checkpoint, replicate

logger = logging.getLogger(__name__)

Named = tuple[str, str]

#: Up to so many objects of a model get a task each. Of more only some do: a task takes along what was changed later.
_FEW = 20


def connect() -> None:
    """Queue what is logged from now on."""
    publisher.import_transport()
    changes_logged.connect(queue_changes)


def queue_changes(objects: Sequence[Named], **kwargs: Any) -> None:
    """Queue the objects that a transaction has changed; receiver of ``changes_logged``.

    Where that fails the objects wait in the log for the next checkpoint. One is queued as soon as queueing works again.
    """
    if conf.remote is None:
        return
    calls = list(wakeups(objects, conf.batch_size))
    if current_app.conf.task_always_eager:
        for call in calls:
            replicate.apply(call, throw=False)
    else:
        publisher.publish(replicate, calls, after_gap=checkpoint)


def wakeups(objects: Sequence[Named], batch_size: int) -> Iterator[Named]:
    """Yield the arguments of the tasks that bring the objects to REMOTE."""
    by_model: dict[str, list[Named]] = {}
    for each in objects:
        by_model.setdefault(each[0], []).append(each)
    for of_model in by_model.values():
        yield from of_model if len(of_model) <= _FEW else of_model[::batch_size]
