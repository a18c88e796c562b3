"""Publishing: what queueing a task adds to a request while the broker works, refuses, or accepts and never answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep

from celery import Celery

from benchmarks import settings
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, percentile, seconds
from benchmarks.workers import forget_messages
from synchro_tasks.publisher import Publisher

_RATE = 200  # requests a second
_WINDOW = 5.0  # seconds in which one request may be slow
_SLOW = 0.010

#: When each request began, and how long it took.
Calls = list[tuple[float, float]]


def measure(sizes: Sizes) -> Result:
    """Measure publishing in each state of the broker."""
    duration = max(sizes.trickle_seconds / 2, 6)
    found: dict[str, Calls] = {}
    with _closed_port() as refusing, _silent_port() as silent:
        for state, url in (("healthy", settings.REDIS_URL), ("refusing", refusing), ("silent", silent)):
            found[state] = _publish(url, duration)
    forget_messages()
    return Result(
        name="publishing",
        title=f"What publishing adds to a request, {_RATE} requests/s for {duration:.0f} s, in ms",
        rows=[_row(state, calls) for state, calls in found.items()],
        goals=list(_goals(found)),
    )


def _publish(url: str, duration: float) -> Calls:
    app = Celery("publishing", broker=url, set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    task = app.task(name="benchmarks.nothing", ignore_result=True)(_nothing)
    sender = Publisher()
    sender.publish(task, [("benchmarks.Row", "0")])  # imports and connects
    calls: Calls = []
    started = perf_counter()
    for number in range(int(duration * _RATE)):
        sleep(max(started + number / _RATE - perf_counter(), 0))
        began = perf_counter() - started
        calls.append((began, seconds(lambda: sender.publish(task, [("benchmarks.Row", "1")]))))
    sender.close()
    return calls


def _nothing(model_label: str, pk: str) -> None:
    """Is published here, and never run."""


@contextmanager
def _closed_port() -> Iterator[str]:
    """Yield the URL of a broker that is not there: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


@contextmanager
def _silent_port() -> Iterator[str]:
    """Yield the URL of a broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def _row(state: str, calls: Calls) -> dict[str, Cell]:
    times = _times(calls)
    return {
        "broker": state,
        "median": 1000 * median(times),
        "p99": 1000 * percentile(times, 99),
        "worst": 1000 * max(times),
        f"over {1000 * _SLOW:.0f} ms in {_WINDOW:.0f} s": _most_slow(calls),
    }


def _goals(found: dict[str, Calls]) -> Iterator[Goal]:
    yield Goal("healthy: p99 in ms", 1000 * percentile(_times(found["healthy"]), 99), most=10)
    for state, worst in (("refusing", 100), ("silent", 150)):
        yield Goal(f"{state}: worst in ms", 1000 * max(_times(found[state])), most=worst)
        yield Goal(f"{state}: slow requests in {_WINDOW:.0f} s", _most_slow(found[state]), most=1)


def _times(calls: Calls) -> list[float]:
    return [took for _, took in calls]


def _most_slow(calls: Calls) -> int:
    """Return the most slow calls that one window has seen."""
    slow = [began for began, took in calls if took > _SLOW]
    return max((_within(slow, began) for began in slow), default=0)


def _within(moments: Sequence[float], first: float) -> int:
    return sum(1 for each in moments if 0 <= each - first < _WINDOW)
