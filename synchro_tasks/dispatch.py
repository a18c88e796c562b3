"""From the log to the queue: on commit, one task for each changed object, or a few tasks for many objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import current_app

from synchro.conf import conf
from synchro.signals import changes_logged, comparison_requested
from synchro_tasks import publisher
from synchro_tasks.publisher import Named, wakeups
from synchro_tasks.tasks import checkpoint, replicate, synchronize

logger = logging.getLogger(__name__)


def connect() -> None:
    """Queue what is logged from now on."""
    publisher.import_transport()
    changes_logged.connect(queue_changes)
    comparison_requested.connect(queue_comparison)


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


def queue_comparison(request: dict[str, Any], pace: dict[str, Any], **kwargs: Any) -> bool:
    """Queue a comparison and return whether that worked; receiver of ``comparison_requested``."""
    if current_app.conf.task_always_eager:
        synchronize.apply((True, request, *pace.values()), throw=False)
        return True
    return publisher.publish(synchronize, [(True, request, *pace.values())])
