"""Latency: from the commit on LOCAL until another connection sees the change on REMOTE, at light load.

The clock starts in the first on-commit hook, right after COMMIT and before anything is dispatched. It stops when a poll
of REMOTE by primary key has seen the new value. A poll and the pause after it take about 0.7 ms, so the figures are at
most so much too high.
"""

from __future__ import annotations

from functools import partial
from threading import Event, Thread
from time import perf_counter, sleep

from django.db import connections, transaction

from benchmarks.content import add_rows
from benchmarks.databases import REMOTE, empty, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import percentile
from benchmarks.workers import let_loose, wait_until, workers
from synchro import engine, touch

_RATE = 20  # commits a second
_ROWS = 1000  # rows that are changed in turn
_POLL = 0.0005  # seconds between two looks
_PERCENTILES = (50, 95, 99)


def measure(sizes: Sizes) -> Result:
    """Measure the latency of single commits with one worker."""
    _prepare()
    with workers(1), Watch() as watch:
        let_loose()
        _trickle(watch, 2)
        watch.seen.clear()
        _trickle(watch, sizes.trickle_seconds)
    found = {f"p{each}": 1000 * percentile(watch.seen, each) for each in _PERCENTILES}
    return Result(
        name="latency",
        title=f"Latency from commit to visible, {_RATE} commits/s, one worker, in ms",
        rows=[{"commits": len(watch.seen), **found, "most": 1000 * max(watch.seen)}],
        goals=[Goal("latency: p50 in ms", found["p50"], most=12), Goal("latency: p95 in ms", found["p95"], most=25)],
        details={"milliseconds": [round(1000 * each, 2) for each in watch.seen]},
    )


class Watch:
    """Looks at REMOTE until what was committed is there."""

    def __init__(self) -> None:
        #: Seconds from commit to visible.
        self.seen: list[float] = []
        #: What is on its way: the primary key on REMOTE, the value to come, and when it was committed.
        self._expected: dict[int, tuple[int, float]] = {}
        self._is_over = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._is_over.set()
        self._thread.join()

    def expect(self, pk: int, value: int) -> None:
        """Start the clock for a change that has just been committed."""
        self._expected[pk] = value, perf_counter()

    def wait(self) -> None:
        """Wait until everything has come."""
        wait_until(lambda: not self._expected, "the changes are on REMOTE")

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                if self._expected:
                    self._look()
                sleep(_POLL)
        finally:
            connections.close_all()

    def _look(self) -> None:
        with connections[REMOTE].cursor() as cursor:
            cursor.execute("SELECT id, quantity FROM benchmarks_row WHERE id = ANY(%s)", [list(self._expected)])
            there = dict(cursor.fetchall())
        now = perf_counter()
        for pk, (value, committed) in list(self._expected.items()):
            if there.get(pk) == value:
                del self._expected[pk]
                self.seen.append(now - committed)


def _prepare() -> None:
    """Bring some rows to REMOTE; filled in this order, both sides give them the same primary keys."""
    empty()
    with without_dispatch():
        add_rows(_ROWS)
        touch(Row.objects.all())
        engine.sync_pending()
    settle()


def _trickle(watch: Watch, seconds: float) -> None:
    """Change one row after the other, each in a transaction of its own, at a steady rate."""
    started = perf_counter()
    for number in range(int(seconds * _RATE)):
        row = Row.objects.get(pk=1 + number % _ROWS)
        row.quantity += 1_000_000
        with transaction.atomic():
            transaction.on_commit(partial(watch.expect, row.pk, row.quantity))
            row.save()
        sleep(max(started + (number + 1) / _RATE - perf_counter(), 0))
    watch.wait()
