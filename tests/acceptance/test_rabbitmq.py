"""The same road with RabbitMQ as the broker, in a queue of the test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.test import override_settings
from kombu import Connection

from synchro.models import Attempt, ChangeLog
from synchro_tasks.tasks import CHECKPOINT
from tests import factories, servers
from tests.acceptance.conftest import give_up
from tests.acceptance.processes import Process, Site, connect_app, wait_until
from tests.acceptance.steps import let_pauses_end
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.celery_app import app
from tests.databases import Pair
from tests.handlers.models import Shipment
from tests.proxy import Proxy
from tests.shop.models import Article

pytestmark = [pytest.mark.postgres]

RABBITMQ_URL = os.environ.get("SYNCHRO_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")


@dataclass
class RabbitSite(Site):
    """A site whose tasks have a queue of their own."""

    queue: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "SYNCHRO_TEST_QUEUE": self.queue}

    def work(self, name: str = "worker", **env: str) -> Process:
        options = ["--hostname", f"{name}@{self.queue}", "--concurrency", "2", "--loglevel", "INFO", "-Q", self.queue]
        worker = self.start(name, "celery", "-A", "tests.celery_app", "worker", *options, **env)
        worker.wait_for(f"{name}@{self.queue} ready.")
        return worker

    def queue_length(self, queue: str = "") -> int:
        with Connection(self.broker) as connection:
            channel: Any = connection.channel()
            return int(channel.queue_declare(queue or self.queue, passive=True).message_count)

    def forget_messages(self) -> int:
        with Connection(self.broker) as connection:
            channel: Any = connection.channel()
            return int(channel.queue_delete(self.queue) or 0)


def connected() -> bool:
    try:
        with Connection(RABBITMQ_URL, connect_timeout=servers.PATIENCE) as connection:
            connection.connect()
    except OSError:
        return False
    return True


@pytest.fixture
def broker() -> Iterator[Proxy]:
    """RabbitMQ as the site sees it, which may stop and start while others use the server."""
    if not connected():
        give_up("RabbitMQ does not answer; its address is in SYNCHRO_RABBITMQ")
    proxy = Proxy(RABBITMQ_URL)
    yield proxy
    proxy.close()


@pytest.fixture
def rabbit_site(postgres_pair: Pair, tmp_path: Path, broker: Proxy) -> Iterator[RabbitSite]:
    site = RabbitSite(postgres_pair, broker.url, tmp_path, queue=f"synchro-test-{uuid.uuid4().hex}")
    connect_app(app, site.broker)
    with override_settings(SYNCHRO_TASK_QUEUE=site.queue):
        yield site
    site.close()
    connect_app(app, settings.CELERY_BROKER_URL, **settings.CELERY_BROKER_TRANSPORT_OPTIONS)


@contextmanager
def remote_held_up(site: Site) -> Iterator[None]:
    """Let every write of an article on REMOTE wait until the block ends."""
    other: Any = connections[site.pair.remote].copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE shop_article IN EXCLUSIVE MODE")
    yield
    other.rollback()
    other.close()


def a_worker_waits(site: Site) -> bool:
    with connections[site.pair.remote].cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return cursor.fetchone() is not None


def wait_until_nothing_is_pending() -> None:
    wait_until(lambda: not ChangeLog.objects.pending().exists(), "nothing is pending")


def test_what_is_saved_arrives_in_the_queue_of_the_setting(rabbit_site: RabbitSite) -> None:
    rabbit_site.work()
    article = factories.article()
    with transaction.atomic(using=rabbit_site.pair.local):
        for _ in range(50):
            factories.article()

    wait_until_nothing_is_pending()

    assert_same_on_remote(article)
    assert_in_step(Article)
    wait_until(lambda: rabbit_site.queue_length() == 0, "every message was taken")


def test_a_worker_that_is_killed_while_it_writes_loses_and_doubles_nothing(rabbit_site: RabbitSite) -> None:
    first = rabbit_site.work("first")
    with remote_held_up(rabbit_site):
        for _ in range(100):
            factories.article()
        wait_until(lambda: a_worker_waits(rabbit_site), "a worker is in the middle of writing")
        first.kill()
    assert ChangeLog.objects.pending().count() == 100

    rabbit_site.work("second")

    wait_until(lambda: ChangeLog.objects.pending().count() <= 2, "all have arrived but the two that were in its hands")
    let_pauses_end()
    app.send_task(CHECKPOINT, queue=rabbit_site.queue)
    wait_until_nothing_is_pending()
    assert_in_step(Article)
    assert Article.objects.using(rabbit_site.pair.remote).count() == 100


def test_a_broker_that_stops_and_starts_again_loses_nothing_and_ends_no_worker(
    rabbit_site: RabbitSite, broker: Proxy
) -> None:
    worker = rabbit_site.work()
    factories.article()
    wait_until_nothing_is_pending()

    with remote_held_up(rabbit_site):
        for _ in range(10):
            factories.article()
        wait_until(lambda: a_worker_waits(rabbit_site), "a worker is in the middle of writing")
        broker.refuse()
        for _ in range(50):
            factories.article()
    wait_until(lambda: "Connection to broker lost" in worker.log, "the worker has noticed")
    assert ChangeLog.objects.pending().count() >= 50
    broker.come_back()

    def is_queued_again() -> bool:
        factories.article()
        return f"Task {CHECKPOINT}" in worker.log

    wait_until(is_queued_again, "a save is queued again, and with it a checkpoint", pause=1)
    wait_until_nothing_is_pending()
    assert_in_step(Article)
    assert worker.is_running


def test_an_object_that_kills_its_worker_stops_only_itself(rabbit_site: RabbitSite) -> None:
    shipments = [factories.make(Shipment, number=number) for number in ("1", "killer", "3")]

    rabbit_site.work(SYNCHRO_TEST_KILLER="killer")

    wait_until(lambda: ChangeLog.objects.pending().count() == 1, "all others arrive")
    wait_until(lambda: Attempt.objects.exists(), "the attempt is counted")
    assert {each.error for each in Attempt.objects.all()} == {"WorkerLost"}
    assert_same_on_remote(shipments[0])
    assert_same_on_remote(shipments[2])
