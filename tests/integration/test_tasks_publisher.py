"""Publishing to brokers that work, refuse, keep silent, or come back: never an exception, never a long wait."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from django.conf import settings
from kombu import Connection

from synchro.models import ChangeLog
from synchro_tasks import publisher
from synchro_tasks.breaker import Breaker
from synchro_tasks.publisher import Publisher
from tests import factories, servers
from tests.acceptance.processes import connect_app, wait_until
from tests.celery_app import app
from tests.databases import Pair
from tests.proxy import LOCALHOST, Proxy
from tests.unit.test_tasks_breaker import Clock

RABBITMQ_URL = os.environ.get("SYNCHRO_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
CALL = ("shop.Article", "1")
#: What is promised is less; a test run on a busy machine needs room.
AT_ONCE = 0.5
#: So much longer than the publisher waits for a silent broker that it must have waited for something else.
LONG = 2.0


def redis_url() -> str:
    url = servers.redis()
    if url is None:
        if os.environ.get("CI") == "true":
            pytest.fail(servers.missing["redis"])
        pytest.skip(servers.missing["redis"])
    return url


def rabbitmq_url() -> str:
    try:
        with Connection(RABBITMQ_URL, connect_timeout=servers.PATIENCE) as connection:
            connection.connect()
    except Exception as error:
        reason = f"RabbitMQ at {urlsplit(RABBITMQ_URL).hostname}: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return RABBITMQ_URL


def replicate(model_label: str, pk: str) -> None:
    """Is published here, and never run."""


class Broker(Proxy):
    """A broker that can be made to fail, with a queue of its own, and the task that is published there."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        app = Celery("publisher", broker=self.url, set_as_current=False)
        app.conf.task_default_queue = f"synchro-test-{uuid.uuid4().hex}"
        self.task: Any = app.task(name="publisher.task", ignore_result=True)(replicate)
        self._direct = Connection(target)

    def take(self, count: int) -> list[list[str]]:
        """Take so many messages, no more and no less, and return the arguments in them."""
        queue = self.task.app.amqp.default_queue(self._direct.default_channel)
        found: list[Any] = []

        def arrived() -> bool:
            while (message := queue.get(no_ack=True)) is not None:
                found.append(message.payload[0])
            return len(found) >= count

        wait_until(arrived, f"{count} messages arrive")
        assert len(found) == count
        return found

    def clean_up(self) -> None:
        self.task.app.amqp.default_queue(self._direct.default_channel).delete()
        self._direct.close()
        self.close()


BROKERS = [pytest.param(redis_url, marks=pytest.mark.redis, id="redis"), pytest.param(rabbitmq_url, id="rabbitmq")]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    broker = Broker(request.param())
    yield broker
    broker.clean_up()


@pytest.fixture
def sender() -> Iterator[Publisher]:
    sender = Publisher()
    yield sender
    sender.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that breakers made from now on believe in."""
    clock = Clock()
    monkeypatch.setattr(publisher, "Breaker", partial(Breaker, clock=clock))
    return clock


@dataclass
class Timed:
    """Whether publishing worked, and how long the caller waited."""

    published: bool
    seconds: float


def publish(sender: Publisher, task: Any, count: int = 1) -> Timed:
    started = time.monotonic()
    published = sender.publish(task, [CALL] * count)
    return Timed(published, time.monotonic() - started)


def test_what_is_published_arrives(broker: Broker, sender: Publisher) -> None:

    assert publish(sender, broker.task).published
    assert publish(sender, broker.task).published

    assert broker.take(2) == [list(CALL)] * 2


def test_many_at_once_arrive_in_their_order(broker: Broker, sender: Publisher) -> None:
    calls = [("shop.Article", str(number)) for number in range(300)]

    assert sender.publish(broker.task, calls)

    assert broker.take(300) == [list(call) for call in calls]


def test_the_connection_is_used_again(broker: Broker, sender: Publisher) -> None:
    publish(sender, broker.task)
    before = broker.connections
    for _ in range(10):
        publish(sender, broker.task)

    assert broker.connections == before


def test_threads_take_turns_and_publish_everything(broker: Broker, sender: Publisher) -> None:

    with ThreadPoolExecutor(4) as threads:
        timed = list(threads.map(lambda _: publish(sender, broker.task), range(160)))

    assert all(each.published for each in timed)
    broker.take(160)


def test_a_broker_that_refuses_costs_nearly_nothing(
    broker: Broker, sender: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    broker.refuse()

    with caplog.at_level(logging.INFO):
        timed = [publish(sender, broker.task) for _ in range(50)]

    assert not any(each.published for each in timed)
    assert timed[0].seconds < AT_ONCE
    assert sum(each.seconds for each in timed[1:]) < AT_ONCE
    assert [record.getMessage().partition(" error=")[0] for record in ours(caplog)] == ["broker does not take tasks"]


def test_a_broker_that_never_answers_costs_one_caller_a_moment(broker: Broker, sender: Publisher) -> None:
    broker.silent = True

    timed = [publish(sender, broker.task) for _ in range(50)]

    assert not any(each.published for each in timed)
    assert timed[0].seconds < LONG
    assert sum(each.seconds for each in timed[1:]) < AT_ONCE


def test_a_broker_that_falls_silent_costs_one_caller_a_moment(broker: Broker, sender: Publisher) -> None:
    publish(sender, broker.task)
    broker.silent = True

    timed = [publish(sender, broker.task, count) for count in (1, 100, 1)]

    # RabbitMQ answers nothing to what is published, so its silence goes unnoticed here.
    assert all(each.seconds < LONG for each in timed)
    assert sum(each.seconds for each in timed[1:]) < AT_ONCE


def test_a_connection_that_the_broker_has_closed_is_replaced(broker: Broker, sender: Publisher) -> None:
    publish(sender, broker.task)
    broker.take(1)
    broker.cut()

    assert publish(sender, broker.task).published

    broker.take(1)


def test_after_a_pause_one_caller_sees_that_the_broker_is_back(
    broker: Broker, clock: Clock, sender: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    publish(sender, broker.task)
    broker.take(1)
    broker.refuse()
    assert not publish(sender, broker.task).published
    broker.come_back()
    assert not publish(sender, broker.task).published

    clock.now += 60
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert publish(sender, broker.task).published
    assert publish(sender, broker.task).published

    assert [record.getMessage() for record in ours(caplog)] == ["broker takes tasks again"]
    broker.take(2)


def test_after_a_gap_a_task_is_published_that_finds_what_was_missed(
    broker: Broker, clock: Clock, sender: Publisher
) -> None:
    def publish_something() -> bool:
        return sender.publish(broker.task, [CALL], after_gap=broker.task)

    broker.refuse()
    assert not publish_something()
    assert not publish_something()
    broker.come_back()
    clock.now += 60
    assert publish_something()
    assert publish_something()

    assert broker.take(3) == [list(CALL), [], list(CALL)]


def test_a_broker_that_stays_away_is_logged_once(
    broker: Broker, clock: Clock, sender: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    broker.refuse()

    with caplog.at_level(logging.INFO):
        for _ in range(5):
            publish(sender, broker.task)
            clock.now += 600

    assert len(ours(caplog)) == 1


def test_a_child_process_leaves_its_parent_s_connection_alone(broker: Broker) -> None:
    publisher.start_afresh()
    publisher.publish(broker.task, [CALL])
    before = broker.connections

    pid = os.fork()
    if pid == 0:
        worked = publisher.publish(broker.task, [CALL])
        os._exit(0 if worked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert broker.connections > before
    assert publisher.publish(broker.task, [CALL])
    broker.take(3)
    publisher.start_afresh()


# Without a broker


@pytest.mark.parametrize(
    "url",
    [
        "redis://:se/cret@127.0.0.1:6379/0",
        "redis://:secret@127.0.0.1:1/0",
        "rediss://:secret@127.0.0.1:1/0",
        "redis://:secret@no-such-host.invalid:6379/0",
        "amqp://user:secret@127.0.0.1:1//",
        "nonsense://user:secret@127.0.0.1",
    ],
)
def test_a_wrong_address_is_no_error_and_shows_no_password(
    sender: Publisher, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    task: Any = Celery("wrong", broker=url, set_as_current=False).task(name="wrong.task")(replicate)

    with caplog.at_level(logging.DEBUG):
        assert not publish(sender, task).published

    assert [each.getMessage() for each in ours(caplog)]
    assert "secret" not in caplog.text
    assert "cret@" not in caplog.text


def test_silence_of_a_broker_with_tls_is_bounded_too(sender: Publisher) -> None:
    with closing(socket.create_server((LOCALHOST, 0))) as listener:
        url = f"rediss://{LOCALHOST}:{listener.getsockname()[1]}/0"
        task: Any = Celery("silent", broker=url, set_as_current=False).task(name="silent.task")(replicate)

        timed = publish(sender, task)

    assert not timed.published
    assert timed.seconds < LONG


def test_what_goes_wrong_in_handlers_of_others_is_no_error(sender: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    task: Any = Celery("memory", broker="memory://", set_as_current=False).task(name="memory.task")(replicate)
    task.app.amqp.__dict__["create_task_message"] = broken

    with caplog.at_level(logging.WARNING):
        assert not publish(sender, task).published

    assert "ZeroDivisionError" in caplog.text


def broken(*args: Any, **kwargs: Any) -> None:
    raise ZeroDivisionError


class SlowBroker:
    """A broker in memory that one caller waits for until it is told to answer, and that counts who calls it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task: Any = Celery("slow", broker="memory://", set_as_current=False).task(name="slow.task")(replicate)
        self.sent: list[tuple[Any, ...]] = []
        self.is_called = Event()
        self.answer = Event()
        self.is_silent = False
        monkeypatch.setattr(publisher, "_send", self._send)

    def _send(self, producer: Any, task: Any, args: tuple[Any, ...]) -> None:
        self.sent.append(args)
        self.is_called.set()
        assert self.answer.wait(30)
        if self.is_silent:
            raise TimeoutError


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowBroker:
    return SlowBroker(monkeypatch)


def test_of_many_threads_one_waits_for_a_broker_that_keeps_silent(slow: SlowBroker, sender: Publisher) -> None:
    def request(number: int) -> bool:
        return sender.publish(slow.task, [("shop.Article", str(number))], after_gap=slow.task)

    slow.is_silent = True
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(request, 1)
        assert slow.is_called.wait(30)
        # They end although the first one has not.
        others = [threads.submit(request, number).result(30) for number in range(2, 6)]
        slow.answer.set()

    assert [first.result(), *others] == [False] * 5
    assert slow.sent == [("shop.Article", "1")]


def test_what_nobody_waited_to_publish_is_made_up_for_at_once(slow: SlowBroker, sender: Publisher) -> None:
    def request(number: int) -> bool:
        return sender.publish(slow.task, [("shop.Article", str(number))], after_gap=slow.task)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(request, 1)
        assert slow.is_called.wait(30)
        assert not threads.submit(request, 2).result(30)
        slow.answer.set()

    assert first.result()
    assert slow.sent == [("shop.Article", "1"), ()]
    assert request(3)
    assert slow.sent[2:] == [("shop.Article", "3")]


def test_what_nothing_makes_up_for_waits_for_its_turn(slow: SlowBroker, sender: Publisher) -> None:
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(publish, sender, slow.task)
        assert slow.is_called.wait(30)
        second = threads.submit(publish, sender, slow.task)
        time.sleep(0.1)
        slow.answer.set()

    assert first.result().published
    assert second.result().published


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "synchro_tasks.publisher"]


# In a request


def test_a_save_does_not_notice_that_the_broker_is_away(sqlite_pair: Pair) -> None:
    with closing(socket.create_server((LOCALHOST, 0))) as silent:
        connect_app(app, f"redis://{LOCALHOST}:{silent.getsockname()[1]}/0")
        try:
            started = time.monotonic()
            articles = [factories.article() for _ in range(20)]
            seconds = time.monotonic() - started
        finally:
            connect_app(app, settings.CELERY_BROKER_URL, **settings.CELERY_BROKER_TRANSPORT_OPTIONS)

    assert seconds < LONG
    assert ChangeLog.objects.pending().count() == len(articles)
