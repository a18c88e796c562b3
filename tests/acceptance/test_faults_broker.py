"""A broker that dies, forgets, refuses, keeps silent, or delivers what nobody has sent."""

from __future__ import annotations

import random
import statistics
import time

import pytest
from redis import Redis

from synchro.models import ChangeLog
from tests import factories
from tests.acceptance.processes import PrivateSite, wait_until
from tests.acceptance.steps import save_articles, start_beat, wait_for_attempts, wait_until_nothing_is_pending
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.celery_app import app
from tests.shop.models import Article

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

REPLICATE = "synchro_tasks.replicate"
#: Publishing may cost a request more than this only now and then; what is promised is less, for a machine at rest.
NOTICEABLE = 0.1
#: The publisher tries a broker that is away every five seconds.
SECONDS_BETWEEN_TRIES = 5


def push(site: PrivateSite, *messages: bytes) -> None:
    """Put something into the queue that Celery has not made."""
    with Redis.from_url(site.broker) as redis:
        redis.lpush(f"{site.prefix}celery", *messages)


def seconds_of_saves(count: int) -> list[float]:
    """Save so many articles in requests of their own; return how long each took, the shortest first."""
    took = []
    for _ in range(count):
        started = time.monotonic()
        factories.article()
        took.append(time.monotonic() - started)
    return sorted(took)


def assert_hardly_noticed(took: list[float]) -> None:
    """Only the few saves that look whether the broker is back may be slow, and a few by bad luck."""
    tries = 1 + sum(took) / SECONDS_BETWEEN_TRIES
    slow = [each for each in took if each > NOTICEABLE]
    assert len(slow) <= tries + len(took) / 50, slow
    assert statistics.median(took) < NOTICEABLE / 2


def test_messages_that_die_with_redis_are_not_needed(private_site: PrivateSite) -> None:
    worker = private_site.start_worker()
    start_beat(private_site)
    worker.pause()

    save_articles(500)
    assert private_site.queued_tasks().count(REPLICATE) > 400
    private_site.servers.redis.kill()
    private_site.servers.redis.start()
    assert REPLICATE not in private_site.queued_tasks()
    worker.go_on()

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_a_broker_that_forgets_everything_again_and_again_loses_nothing(private_site: PrivateSite) -> None:
    private_site.start_worker("one", concurrency=2)
    private_site.start_worker("two", "--pool=threads", ready=False)
    start_beat(private_site)

    until = time.monotonic() + 4
    while time.monotonic() < until:
        for article in save_articles(10):
            article.title += ", changed"
            article.save()
        private_site.flush_broker()

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_saving_hardly_notices_that_redis_refuses(private_site: PrivateSite) -> None:
    save_articles(5)
    private_site.servers.redis.kill()

    assert_hardly_noticed(seconds_of_saves(200))

    assert ChangeLog.objects.pending().count() == 205


def test_saving_hardly_notices_that_redis_keeps_silent_and_delivery_resumes_when_it_speaks(
    private_site: PrivateSite,
) -> None:
    worker = private_site.start_worker()
    save_articles(5)
    with private_site.servers.redis.frozen():
        took = seconds_of_saves(200)
    assert_hardly_noticed(took)

    def delivered() -> bool:
        factories.article()
        time.sleep(0.3)
        return Article.objects.using(private_site.pair.remote).count() > 205

    wait_until(delivered, f"a save is queued again: {worker.log[-2000:]}", timeout=20)
    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_duplicates_in_any_order_change_nothing(private_site: PrivateSite) -> None:
    articles = save_articles(40)
    private_site.flush_broker()
    calls = [(Article._meta.label, str(each.pk)) for each in articles] * 5
    random.Random(1).shuffle(calls)
    for call in calls:
        app.send_task(REPLICATE, call)

    private_site.start_worker("one", concurrency=2)
    private_site.start_worker("two", "--pool=threads", ready=False)

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)
    wait_until(lambda: private_site.queue_length() == 0, "the duplicates are gone")
    wait_for_attempts(0)


def test_garbage_in_the_queue_is_survived_by_a_supervised_worker(private_site: PrivateSite) -> None:
    """Some of it ends a worker of Celery 5.7, which has then taken it out of the queue: the next one goes on."""
    workers = [private_site.start_worker(ready=False)]
    push(
        private_site, b"garbage", b"{}", b"[]", b'{"body": "e30=", "headers": {}, "properties": {}}', b"\x00\xff" * 100
    )
    article = factories.article()

    def supervise() -> bool:
        if not workers[-1].is_running:
            workers.append(private_site.start_worker(f"worker{len(workers)}", ready=False))
        return not ChangeLog.objects.pending().exists()

    wait_until(supervise, f"nothing is pending after {len(workers)} workers")
    assert_same_on_remote(article)
    assert len(workers) <= 6


def test_forged_and_oversized_tasks_do_nothing(private_site: PrivateSite) -> None:
    worker = private_site.start_worker(concurrency=2)
    own = factories.product(using=private_site.pair.remote)
    forged = [
        ("auth.User", "1"),
        ("shop.Product", str(own.pk)),
        ("shop.Product", "1); DROP TABLE shop_product"),
        ("shop.NoSuchModel", "1"),
        ("no label", ""),
        ("shop.Product", "9" * 1_000_000),
        ("shop.Tag", "x" * 5_000_000),
        ("shop.Product", None),
        ({"shop": ["Product"]}, [1, 2]),
        (),
        ("shop.Product", "1", "2", "3"),
    ]
    for arguments in forged:
        app.send_task(REPLICATE, arguments)
    app.send_task(REPLICATE, kwargs={"model_label": "shop.Product", "pk": str(own.pk), "more": "x" * 1_000_000})
    app.send_task("synchro_tasks.no_such_task", ["1"])
    article = factories.article()

    wait_until_nothing_is_pending(private_site)
    wait_until(lambda: private_site.queue_length() == 0, "everything was taken")
    assert_same_on_remote(article)
    assert worker.is_running
    wait_for_attempts(0)
    own.refresh_from_db()
    assert max(map(len, worker.log.splitlines())) < 20_000
