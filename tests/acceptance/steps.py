"""What tests of delivery do, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.core.management.sql import emit_post_migrate_signal
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.models import Model
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from synchro.models import Attempt, ChangeLog
from tests import factories
from tests.acceptance.processes import PATIENCE, Process, Site, wait_until
from tests.assertions import describe
from tests.shop.models import Article


def save_articles(count: int) -> list[Article]:
    """Save objects, each in a transaction of its own."""
    return [factories.article() for _ in range(count)]


def wait_until_nothing_is_pending(site: Site, *, timeout: float = PATIENCE) -> None:
    """Wait until nothing is left to do; what is, and what the processes say, goes with the failure."""
    try:
        wait_until(lambda: not ChangeLog.objects.pending().exists(), "nothing is pending", timeout=timeout)
    except AssertionError as error:
        error.add_note("\n".join(map(describe, ChangeLog.objects.pending().order_by("id")[:20])))
        for process in site.processes:
            error.add_note(f"{process.name}:\n{process.log[-3000:]}")
        raise


def wait_for_attempts(number: int) -> None:
    """Wait until so many attempts are kept: one that is counted before it is made is taken back a moment after it."""
    wait_until(lambda: Attempt.objects.count() == number, f"{number} attempts are kept")


def let_pauses_end() -> None:
    """Let every pending entry be due, as it will be when enough time has passed."""
    ChangeLog.objects.pending().exclude(next_attempt_at=None).update(next_attempt_at=timezone.now())


@contextmanager
def held_up(alias: str, model: type[Model]) -> Iterator[None]:
    """Let every write of a model's rows wait until the block ends."""
    other = connections[alias].copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {model._meta.db_table} IN EXCLUSIVE MODE")
    try:
        yield
    finally:
        with suppress(AnyDatabaseError):  # the server may have ended, and with it the lock
            other.rollback()
        other.close()


@contextmanager
def remote_held_up(site: Site) -> Iterator[None]:
    """Let every write of an article on REMOTE wait until the block ends."""
    with held_up(site.pair.remote, Article):
        yield


def waiting_backends(alias: str) -> list[int]:
    """Return the processes of the server that wait for a lock."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def wait_until_a_worker_writes(site: Site) -> None:
    """Wait until a worker is held up on REMOTE."""
    wait_until(lambda: waiting_backends(site.pair.remote), "a worker is in the middle of writing")


def children(process: Process) -> list[int]:
    """Return the pids of a process's children."""
    pid = process.popen.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start_beat(site: Site) -> Process:
    """Start beat with the entry that migrate makes, every second instead of every minute."""
    emit_post_migrate_signal(verbosity=0, interactive=False, db=site.pair.local)
    every_second = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    assert PeriodicTask.objects.update(interval=every_second) == 1
    PeriodicTasks.update_changed()
    return site.start_beat()
