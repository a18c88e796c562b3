"""The Celery app of the test project: in memory inside pytest, on Redis in the processes of the acceptance tests."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from celery import Celery, signals
from django.db.models.signals import pre_save

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("tests", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_init.connect
def mutate(**kwargs: Any) -> None:
    """Let a worker break the protocol, or stand still now and then, where a test of the tests wants that."""
    from tests import mutants  # needs the models

    mutants.mutate_worker()


@signals.worker_init.connect
def hurry(**kwargs: Any) -> None:
    """Let a worker wait less long, by the names of what it waits for, where a test has no time for it."""
    from synchro.engine import timeouts  # needs the settings

    for name, seconds in json.loads(os.environ.get("SYNCHRO_TEST_TIMEOUTS", "{}")).items():
        assert hasattr(timeouts, name)
        setattr(timeouts, name, seconds)


KILLER = os.environ.get("SYNCHRO_TEST_KILLER")


def kill(instance: Any, **kwargs: Any) -> None:
    """End the process as the kernel does that is short of memory, when it copies a certain shipment."""
    if instance.number == KILLER:
        os.kill(os.getpid(), signal.SIGKILL)


if KILLER:
    pre_save.connect(kill, sender="handlers.Shipment")
