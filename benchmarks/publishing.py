"""Publishing: what queueing a task adds to a request while the broker works, refuses, keeps silent, or falls silent.

Requests come one at a time, and then from several threads of a process at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from time import perf_counter, sleep
from typing import Any

from celery import Celery
from kombu import Connection

from benchmarks import settings
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, percentile, seconds
from benchmarks.workers import forget_messages
from synchro_tasks.publisher import Publisher
from tests.proxy import Proxy

_RATE = 200  # requests a second
_THREADS = (1, 8)
_WINDOW = 5.0  # seconds in which one request may be slow
_SLOW = 0.010
_QUEUE = f"synchro-benchmark-{settings.RUN}"

#: When each request began, and how long it took.
Calls = list[tuple[float, float]]


@dataclass(frozen=True)
class Broker:
    """A broker, and what happens to it when it has been talked to."""

    state: str
    url: str
    #: What one request in five seconds may wait, in ms; none may where the broker works.
    worst: float | None = None
    then: Callable[[Proxy, Publisher], object] | None = None


@dataclass(frozen=True)
class Turn:
    """What requests to a broker have waited."""

    broker: Broker
    threads: int
    calls: Calls

    @property
    def name(self) -> str:
        return f"{self.broker.state}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def times(self) -> list[float]:
        return [took for _, took in self.calls]


def measure(sizes: Sizes) -> Result:
    """Measure publishing in each state of the broker."""
    duration = max(sizes.trickle_seconds / 3, 1)
    with _rabbitmq() as rabbitmq:
        brokers = [
            Broker("healthy Redis", settings.REDIS_URL),
            *(Broker("healthy RabbitMQ", url) for url in rabbitmq),
            Broker("refusing", settings.REDIS_URL, worst=100, then=_refuse),
            Broker("silent", settings.REDIS_URL, worst=150, then=_answer_no_new_connection),
            Broker("falls silent", settings.REDIS_URL, worst=150, then=_fall_silent),
        ]
        turns = [
            Turn(broker, threads, _publish(broker, threads, duration)) for threads in _THREADS for broker in brokers
        ]
    forget_messages()
    return Result(
        name="publishing",
        title=f"What publishing adds to a request, {_RATE} requests/s for {duration:.0f} s, in ms",
        rows=[_row(turn) for turn in turns],
        goals=list(chain.from_iterable(map(_goals, turns))),
    )


def _refuse(proxy: Proxy, sender: Publisher) -> None:
    proxy.refuse()


def _answer_no_new_connection(proxy: Proxy, sender: Publisher) -> None:
    sender.close()
    proxy.silent = True


def _fall_silent(proxy: Proxy, sender: Publisher) -> None:
    proxy.silent = True


def _publish(broker: Broker, threads: int, duration: float) -> Calls:
    """Publish from so many threads, which all begin at the same moment, again and again."""
    with ExitStack() as stack:
        sender = Publisher()
        stack.callback(sender.close)
        proxy = stack.enter_context(closing(Proxy(broker.url)))
        task = _task(proxy.url if broker.then else broker.url)

        def publish() -> bool:
            return sender.publish(task, [("benchmarks.Row", "1")], after_gap=task)

        def requests(thread: int) -> Calls:
            calls: Calls = []
            for number in range(int(duration * _RATE / threads)):
                sleep(max(started + number * threads / _RATE - perf_counter(), 0))
                began = perf_counter() - started
                calls.append((began, seconds(publish)))
            return calls

        publish()  # imports and connects
        if broker.then:
            broker.then(proxy, sender)
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        started = perf_counter()
        return list(chain.from_iterable(pool.map(requests, range(threads))))


def _task(url: str) -> Any:
    app = Celery("publishing", broker=url, set_as_current=False)
    app.conf.task_default_queue = _QUEUE
    if url != settings.RABBITMQ_URL:
        app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    return app.task(name="benchmarks.nothing", ignore_result=True)(_nothing)


def _nothing(model_label: str, pk: str) -> None:
    """Is published here, and never run."""


@contextmanager
def _rabbitmq() -> Iterator[list[str]]:
    """Yield the URL of RabbitMQ if it answers, and leave nothing there."""
    try:
        connection = Connection(settings.RABBITMQ_URL, connect_timeout=2)
        connection.connect()
    except OSError:
        yield []
        return
    with connection:
        yield [settings.RABBITMQ_URL]
        channel: Any = connection.channel()
        channel.queue_delete(_QUEUE)


def _row(turn: Turn) -> dict[str, Cell]:
    return {
        "broker": turn.broker.state,
        "threads": turn.threads,
        "median": 1000 * median(turn.times),
        "p99": 1000 * percentile(turn.times, 99),
        "worst": 1000 * max(turn.times),
        f"over {1000 * _SLOW:.0f} ms in {_WINDOW:.0f} s": _most_slow(turn.calls),
    }


def _goals(turn: Turn) -> Iterator[Goal]:
    if turn.broker.worst is None:
        yield Goal(f"{turn.name}: p99 in ms", 1000 * percentile(turn.times, 99), most=10)
    else:
        yield Goal(f"{turn.name}: worst in ms", 1000 * max(turn.times), most=turn.broker.worst)
        yield Goal(f"{turn.name}: slow requests in {_WINDOW:.0f} s", _most_slow(turn.calls), most=1)


def _most_slow(calls: Calls) -> int:
    """Return the most slow calls that one window has seen."""
    slow = [began for began, took in calls if took > _SLOW]
    return max((_within(slow, began) for began in slow), default=0)


def _within(moments: Sequence[float], first: float) -> int:
    return sum(1 for each in moments if 0 <= each - first < _WINDOW)
