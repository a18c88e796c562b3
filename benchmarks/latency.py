"""Latency: from the commit on LOCAL until another connection sees the change on REMOTE, at light load.

Beside synchro stands a bare task that saves the one row on REMOTE; they take turns of some seconds. The clock starts in
the first on-commit hook, right after COMMIT and before anything is queued. It stops when a poll of REMOTE has seen the
new value. A poll and the pause after it take about 0.7 ms: the figures are at most so much too high.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from threading import Event, Thread
from time import perf_counter, sleep

from django.db import connections, transaction

from benchmarks.content import values
from benchmarks.databases import LOCAL, REMOTE, empty, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Columns, Row, Unwatched
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.tasks import copy
from benchmarks.timing import percentile
from benchmarks.workers import let_loose, wait_until, workers
from synchro import engine, touch

_RATE = 20  # commits a second
_TURN = 5  # seconds
_ROWS = 1000  # rows of each kind that are changed in turn
_POLL = 0.0005  # seconds between two looks

#: Seconds from commit to visible of all commits.
Times = list[float]


def measure(sizes: Sizes) -> Result:
    """Measure the latency of single commits with one worker."""
    _prepare()
    with ExitStack() as stack:
        stack.enter_context(workers(1))
        watches = {
            name: stack.enter_context(Watch(model)) for name, model in (("synchro", Row), ("bare task", Unwatched))
        }
        let_loose()
        for watch in watches.values():
            _trickle(watch, 2)
            watch.seen.clear()
        for _ in range(round(sizes.trickle_seconds / _TURN) or 1):
            for watch in watches.values():
                _trickle(watch, min(_TURN, sizes.trickle_seconds))
    seen = {name: watch.seen for name, watch in watches.items()}
    return Result(
        name="latency",
        title=f"Latency from commit to visible, {_RATE} commits/s, one worker, in ms",
        rows=list(_rows(seen)),
        goals=list(_goals(seen)),
        details={name: [round(1000 * each, 2) for each in times] for name, times in seen.items()},
    )


class Watch:
    """Looks at one table of REMOTE until what was committed is there."""

    def __init__(self, model: type[Columns]) -> None:
        self.model = model
        self.seen: Times = []
        #: What is on its way: the value to come, and when it was committed, by primary key.
        self._expected: dict[int, tuple[int, float]] = {}
        self._is_needed = Event()
        self._is_over = False
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._is_over = True
        self._is_needed.set()
        self._thread.join()

    def expect(self, pk: int, value: int) -> None:
        """Start the clock for a change that has just been committed."""
        self._expected[pk] = value, perf_counter()
        self._is_needed.set()

    def wait(self) -> None:
        """Wait until everything has come."""
        wait_until(lambda: not self._expected, f"all {self.model.__name__}s are on REMOTE")

    def _run(self) -> None:
        try:
            while self._is_needed.wait() and not self._is_over:
                self._is_needed.clear()
                while self._expected and not self._is_over:
                    self._look()
                    sleep(_POLL)
        finally:
            connections.close_all()

    def _look(self) -> None:
        with connections[REMOTE].cursor() as cursor:
            table = self.model._meta.db_table
            cursor.execute(f"SELECT id, quantity FROM {table} WHERE id = ANY(%s)", [list(self._expected)])
            there = dict(cursor.fetchall())
        now = perf_counter()
        for pk, (value, committed) in list(self._expected.items()):
            if there.get(pk) == value:
                del self._expected[pk]
                self.seen.append(now - committed)


def _prepare() -> None:
    """Put the same rows on both sides; filled in this order, both give them the same primary keys."""
    empty()
    for using in (LOCAL, REMOTE):
        Unwatched.objects.using(using).bulk_create(Unwatched(**values(number)) for number in range(_ROWS))
    with without_dispatch():
        Row.objects.bulk_create(Row(**values(number)) for number in range(_ROWS))
        touch(Row.objects.all())
        engine.sync_pending()
    settle()


def _trickle(watch: Watch, seconds: float) -> None:
    """Change one row after the other, each in a transaction of its own, at a steady rate."""
    started = perf_counter()
    for number in range(int(seconds * _RATE)):
        row = watch.model.objects.get(pk=1 + number % _ROWS)
        row.quantity += 1_000_000
        with transaction.atomic():
            transaction.on_commit(partial(watch.expect, row.pk, row.quantity))
            row.save()
            if watch.model is Unwatched:
                transaction.on_commit(partial(copy.delay, row.pk))
        sleep(max(started + (number + 1) / _RATE - perf_counter(), 0))
    watch.wait()


def _rows(seen: Mapping[str, Times]) -> Iterator[dict[str, Cell]]:
    for name, times in seen.items():
        found: dict[str, Cell] = {f"p{each}": 1000 * percentile(times, each) for each in (50, 95, 99)}
        ratio = percentile(times, 50) / percentile(seen["bare task"], 50)
        yield {"by": name, "commits": len(times), **found, "most": 1000 * max(times), "p50 / bare task": ratio}


def _goals(seen: Mapping[str, Times]) -> Iterator[Goal]:
    for percent, most in ((50, 12), (95, 25)):
        yield Goal(f"p{percent} in ms", 1000 * percentile(seen["synchro"], percent), most=most)
