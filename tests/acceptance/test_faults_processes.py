"""Processes that die or stand still at the worst moment: workers, the web process, one of two beats."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from django.db import connections

from synchro.models import ChangeLog, Reference, options
from synchro_tasks.tasks import CHECKPOINT
from tests import factories
from tests.acceptance.processes import PrivateSite, Process, wait_until
from tests.acceptance.steps import (
    held_up,
    remote_held_up,
    save_articles,
    start_beat,
    wait_until_a_worker_writes,
    wait_until_nothing_is_pending,
    waiting_backends,
)
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.celery_app import app
from tests.shop.models import Article, Product

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

#: The hook that is registered first runs first: the process dies after COMMIT and before synchro can queue anything.
DIE_AFTER_COMMIT = """
import os, signal
from django.conf import settings
from django.db import connections, transaction
from tests import factories
local = settings.SYNCHRO_LOCAL
with transaction.atomic(using=local):
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL), using=local)
    factories.article(title="committed, and never queued")
    with connections[local].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(1)")
"""


def die_after_commit(site: PrivateSite) -> Process:
    """Start a process that saves an article and dies between COMMIT and the hooks on commit."""
    return site.start("web", "django", "shell", "--no-imports", "--command", DIE_AFTER_COMMIT)


def run_checkpoint() -> None:
    """Let a worker run a checkpoint, and wait until it has done so."""
    before = options.last_checkpoint
    app.send_task(CHECKPOINT)
    wait_until(lambda: options.last_checkpoint != before, "a checkpoint has looked at everything")


def test_a_worker_that_is_killed_between_the_two_commits_doubles_nothing(private_site: PrivateSite) -> None:
    """The articles have automatic keys and no natural key: REMOTE's mirrors tell the next worker about them."""
    first = private_site.start_worker("first", concurrency=2)
    save_articles(1)
    wait_until_nothing_is_pending(private_site)

    with held_up(private_site.pair.local, Reference):
        save_articles(20)
        wait_until(lambda: Article.objects.using(private_site.pair.remote).count() > 1, "REMOTE has committed")
        wait_until(lambda: waiting_backends(private_site.pair.local), "the worker is about to tell LOCAL")
        first.kill()
    assert Reference.objects.count() == 1
    private_site.start_worker("second", concurrency=2, ready=False)
    start_beat(private_site)

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)
    assert Article.objects.using(private_site.pair.remote).count() == 21


def let_a_worker_stand_still(site: PrivateSite, **env: Any) -> None:
    """Let a worker stop between reading and writing an article until another has had the time to be faster."""
    flag = site.directory / "stand-still"
    stalled = site.start_worker("stalled", SYNCHRO_TEST_STANDS_STILL=str(flag), **env)
    article = factories.article(title="version 0")
    wait_until_nothing_is_pending(site)

    flag.touch()
    article.title = "version 1"
    article.save()
    wait_until(lambda: not flag.exists(), "the worker has read version 1")
    stalled.pause()
    article.title = "version 2"
    article.save()
    site.start_worker("other", concurrency=4, **env)
    product = factories.product()
    on_remote = Article.objects.using(site.pair.remote)
    wait_until(
        lambda: waiting_backends(site.pair.remote) or on_remote.get().title == "version 2",
        "the other worker waits for the lock, or has gone on without",
    )
    wait_until(lambda: Product.objects.using(site.pair.remote).exists(), "another model goes on meanwhile")
    assert_same_on_remote(product)
    stalled.go_on()
    wait_until(lambda: stalled.log.count(" succeeded in ") >= 2, "the worker has ended what it had begun")
    start_beat(site)

    wait_until_nothing_is_pending(site)
    assert_same_on_remote(article)
    assert_in_step(Article, Product)


def test_a_worker_that_stood_still_does_not_write_its_old_state_over_a_newer_one(private_site: PrivateSite) -> None:
    let_a_worker_stand_still(private_site)


@pytest.mark.mutants
def test_without_the_lock_a_worker_that_stood_still_does(private_site: PrivateSite) -> None:
    with pytest.raises(AssertionError, match="version"):
        let_a_worker_stand_still(private_site, SYNCHRO_TEST_MUTANT="no_lock")


def test_a_web_process_that_dies_between_commit_and_hook_loses_nothing(private_site: PrivateSite) -> None:
    web = die_after_commit(private_site)
    wait_until(lambda: not web.is_running, "the web process is dead")
    assert web.popen.returncode == -signal.SIGKILL, web.log
    assert private_site.queue_length() == 0
    assert ChangeLog.objects.pending().count() == 1

    private_site.start_worker(ready=False)
    start_beat(private_site)

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_a_transaction_that_commits_after_two_checkpoints_is_not_lost(private_site: PrivateSite) -> None:
    """Its entry has a lower number and an earlier date than everything that the checkpoints have seen."""
    local = private_site.pair.local
    private_site.start_worker(ready=False)

    with connections[local].copy().cursor() as lock:
        lock.execute("SELECT pg_advisory_lock(1)")
        web = die_after_commit(private_site)
        wait_until(lambda: waiting_backends(local), "the web process has saved and not committed")
        for _ in range(2):
            factories.article()
            run_checkpoint()
        wait_until_nothing_is_pending(private_site)
        lock.connection.close()
    wait_until(lambda: not web.is_running, "the web process is dead")
    late = Article.objects.get(title="committed, and never queued")
    assert ChangeLog.objects.pending().get().id < min(ChangeLog.objects.synced().values_list("id", flat=True))
    run_checkpoint()

    wait_until_nothing_is_pending(private_site)
    assert_same_on_remote(late)
    assert_in_step(Article)


def save_without_queueing(count: int) -> None:
    """Save articles of which only a checkpoint can know."""
    articles = Article.objects.bulk_create([Article(title=f"article {number}") for number in range(count)])
    ChangeLog.objects.append_changes(Article, [str(article.pk) for article in articles])


def test_two_beats_and_two_workers_run_one_checkpoint_at_a_time(private_site: PrivateSite) -> None:
    start_beat(private_site)
    private_site.start_beat()
    workers = [private_site.start_worker(name, concurrency=2, ready=False) for name in ("one", "two")]

    with remote_held_up(private_site):
        save_without_queueing(20)
        wait_until_a_worker_writes(private_site)
        until = time.monotonic() + 4
        while time.monotonic() < until:  # none between two attempts
            assert len(waiting_backends(private_site.pair.remote)) <= 1
        wait_until(
            lambda: sum(worker.log.count("Another checkpoint is running.") for worker in workers) >= 4,
            "all others end at once",
        )

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_a_checkpoint_that_is_killed_frees_the_way_for_the_next_one(private_site: PrivateSite) -> None:
    first = private_site.start_worker("first")
    save_without_queueing(20)
    with remote_held_up(private_site):
        app.send_task(CHECKPOINT)
        wait_until_a_worker_writes(private_site)
        first.kill()
    started = time.monotonic()
    second = private_site.start_worker("second")

    app.send_task(CHECKPOINT)
    second.wait_for("Another checkpoint is running.")
    assert ChangeLog.objects.pending().count() == 20

    def delivered() -> bool:
        app.send_task(CHECKPOINT)
        return not ChangeLog.objects.pending().exists()

    wait_until(delivered, "somebody takes over", pause=1)
    assert time.monotonic() - started > 10, "nobody may take it for dead at once"
    assert_in_step(Article)


def test_two_beats_and_two_workers_do_everything_once(private_site: PrivateSite) -> None:
    start_beat(private_site)
    private_site.start_beat()
    private_site.start_worker("one", ready=False)
    private_site.start_worker("two", ready=False)

    until = time.monotonic() + 5
    while time.monotonic() < until:
        save_articles(20)
        private_site.flush_broker()

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)
