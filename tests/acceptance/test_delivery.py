"""From a save to REMOTE by real processes: a worker, beat and Redis, killed and restarted at the worst moment."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from django.db import connections, transaction
from django.test import override_settings

from synchro.models import Attempt, ChangeLog
from synchro_tasks.tasks import CHECKPOINT
from tests import factories
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.steps import (
    children,
    remote_held_up,
    save_articles,
    start_beat,
    wait_for_attempts,
    wait_until_a_worker_writes,
    wait_until_nothing_is_pending,
    waiting_backends,
)
from tests.assertions import assert_in_step, assert_same_objects, assert_same_on_remote
from tests.celery_app import app
from tests.shop.models import Article, Tag

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


def test_what_is_saved_changed_and_deleted_arrives(site: Site) -> None:
    site.start_worker()

    article, other = factories.article(), factories.article()
    wait_until_nothing_is_pending(site)
    assert_same_on_remote(article)

    article.title = "changed"
    article.save()
    other.delete()
    wait_until_nothing_is_pending(site)
    assert_in_step(Article)


def test_large_transactions_arrive_whole_with_two_workers_and_no_checkpoint(site: Site) -> None:
    for name in ("one", "two"):
        site.start_worker(name, ready=False)

    with transaction.atomic(using=site.pair.local):
        for _ in range(1200):
            factories.article()
        for _ in range(30):
            factories.tag()

    wait_until_nothing_is_pending(site)
    assert_in_step(Article, Tag)


def test_a_worker_that_is_killed_while_it_writes_loses_and_doubles_nothing(site: Site) -> None:
    start_beat(site)
    first = site.start_worker("first", concurrency=2)
    save_articles(100)
    wait_until_nothing_is_pending(site)

    with remote_held_up(site):
        save_articles(200)
        wait_until_a_worker_writes(site)
        first.kill()
    assert ChangeLog.objects.pending().count() >= 200
    site.start_worker("second", concurrency=2, ready=False)
    save_articles(20)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)
    assert Article.objects.using(site.pair.remote).count() == 320


@pytest.mark.parametrize("killed", [1, 2])
def test_children_of_a_worker_that_are_killed_lose_and_double_nothing(site: Site, killed: int) -> None:
    start_beat(site)
    worker = site.start_worker(concurrency=2)
    before = children(worker)

    with remote_held_up(site):
        save_articles(50)
        wait_until_a_worker_writes(site)
        for pid in before[:killed]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: worker.log.count("exited with 'signal 9 (SIGKILL)'") == killed, "the worker has noticed")
    save_articles(20)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)
    assert set(before[killed:]) <= set(children(worker)), "the others go on"
    assert len(children(worker)) == 2


def test_the_checkpoint_brings_what_an_emptied_broker_has_lost(site: Site) -> None:
    site.start_worker(concurrency=2)

    with remote_held_up(site):
        save_articles(200)
        wait_until_a_worker_writes(site)
        assert site.forget_messages() > 0
    start_beat(site)
    save_articles(20)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)


def test_beat_starts_a_checkpoint_that_needs_no_queued_task(site: Site) -> None:
    save_articles(10)
    site.forget_messages()

    site.start_worker()
    start_beat(site)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_asked_to_stop_finishes_and_leaves_the_rest_to_the_next_one(site: Site, pool: str) -> None:
    first = site.start_worker("first", f"--pool={pool}")

    with remote_held_up(site):
        save_articles(50)
        wait_until_a_worker_writes(site)
        first.popen.send_signal(signal.SIGTERM)
        first.wait_for("Warm shutdown")
    wait_until(lambda: not first.is_running, "the worker has ended")
    assert first.popen.returncode == 0
    save_articles(20)
    site.start_worker("second", ready=False)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)


def test_a_task_that_nobody_took_in_time_is_dropped_and_its_object_is_brought_by_a_checkpoint(site: Site) -> None:
    with override_settings(SYNCHRO_TASK_EXPIRES=1):
        save_articles(3)
    time.sleep(1.1)

    worker = site.start_worker()
    wait_until(lambda: worker.log.count("Discarding revoked task: synchro_tasks.replicate") == 3, "all are dropped")
    assert ChangeLog.objects.pending().count() == 3
    app.send_task(CHECKPOINT)

    wait_until_nothing_is_pending(site)
    assert_in_step(Article)


def test_all_workers_take_part_in_a_backlog_that_only_the_checkpoint_knows(site: Site) -> None:
    workers = [site.start_worker(name, ready=False) for name in ("one", "two")]
    # What a worker does first is done with care, and by itself.
    wait_until(lambda: save_articles(1) and all("1 synced" in each.log for each in workers), "both have worked")
    wait_until_nothing_is_pending(site)
    articles = Article.objects.bulk_create([Article(title=f"article {number}") for number in range(6000)])
    ChangeLog.objects.append_changes(Article, [str(article.pk) for article in articles])

    app.send_task(CHECKPOINT)

    wait_until_nothing_is_pending(site)
    assert_same_objects(Article)
    by_others = [int(each) for worker in workers for each in re.findall(r"replicate\[.*: '(\d+) synced", worker.log)]
    assert max(by_others) >= 1000, "what was handed out came in batches"


def test_a_connection_to_remote_that_is_lost_while_writing_is_retried(site: Site) -> None:
    worker = site.start_worker()

    with remote_held_up(site):
        (article,) = save_articles(1)
        wait_until_a_worker_writes(site)
        with connections[site.pair.remote].cursor() as cursor:
            for pid in waiting_backends(site.pair.remote):
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        worker.wait_for("retry: Retry in")

    wait_until_nothing_is_pending(site)
    assert_same_on_remote(article)
    wait_for_attempts(1)
    attempt = Attempt.objects.get()
    assert attempt.object_id == str(article.pk)
    assert attempt.task_id in worker.log
    assert "Traceback" not in worker.log.partition("retry: Retry in")[2]
