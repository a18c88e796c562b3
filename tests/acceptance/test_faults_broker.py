"""A broker that dies, forgets, refuses, keeps silent, or delivers what nobody has sent."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from synchro.models import ChangeLog
from synchro_tasks.publisher import Publisher
from synchro_tasks.tasks import CHECKPOINT
from tests import factories
from tests.acceptance.processes import PrivateSite, wait_until
from tests.acceptance.steps import save_articles, start_beat, wait_for_attempts, wait_until_nothing_is_pending
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.celery_app import app
from tests.shop.models import Article

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

REPLICATE = "synchro_tasks.replicate"
#: Seconds that a request may wait for its tasks to be queued.
NOTICEABLE = 0.01
#: And one that talks to a broker that is away. What is promised is a tenth of it, and measured by the benchmarks.
LONG = 1.5
#: The publisher tries a broker that is away every five seconds.
SECONDS_BETWEEN_TRIES = 5
#: Within so many seconds it finds a broker back that has refused.
SOON = 15


def push(site: PrivateSite, *messages: bytes) -> None:
    """Put something into the queue that Celery has not made."""
    with Redis.from_url(site.broker) as redis:
        redis.lpush(f"{site.prefix}celery", *messages)


@dataclass
class Publishing:
    """What queueing has added to requests: how long each waited, and when and how long one talked to the broker."""

    waits: list[float] = field(default_factory=list)
    tries: list[tuple[float, float]] = field(default_factory=list)

    def assert_hardly_noticed(self) -> None:
        """One request in five seconds talks to a broker that is away, and waits for an answer once; no other does.

        What it costs is bounded for a machine at rest; one that is busy may interrupt anybody.
        """
        starts = [start for start, _ in self.tries]
        pauses = [after - before for before, after in pairwise(starts)]
        assert all(pause >= SECONDS_BETWEEN_TRIES for pause in pauses), pauses
        assert max(seconds for _, seconds in self.tries) < LONG
        assert statistics.median(self.waits) < NOTICEABLE


@contextmanager
def publishing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publishing]:
    """Watch what is published in the block."""
    found = Publishing()

    def timed(function: Callable[..., Any], note: Callable[[float, float], None]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                note(started, time.monotonic() - started)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", timed(Publisher.publish, lambda _, took: found.waits.append(took)))
        patched.setattr(Publisher, "_publish", timed(Publisher._publish, lambda *both: found.tries.append(both)))
        yield found


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


def test_saving_hardly_notices_that_redis_refuses_and_delivery_resumes_within_seconds(
    private_site: PrivateSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_articles(5)
    private_site.servers.redis.kill()

    with publishing(monkeypatch) as published:
        save_articles(200)

    published.assert_hardly_noticed()
    assert len(published.waits) == 200
    assert ChangeLog.objects.pending().count() == 205
    private_site.servers.redis.start()
    wait_until(lambda: save_articles(1) and private_site.queued_tasks(), "a save is queued again", timeout=SOON)
    assert set(private_site.queued_tasks()) == {REPLICATE, CHECKPOINT}, "and what finds the others"
    private_site.start_worker(ready=False)
    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)


def test_saving_hardly_notices_that_redis_keeps_silent_and_delivery_resumes_when_it_speaks(
    private_site: PrivateSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = private_site.start_worker()
    save_articles(5)
    with private_site.servers.redis.frozen(), publishing(monkeypatch) as published:
        save_articles(200)
    published.assert_hardly_noticed()

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
