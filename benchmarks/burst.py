"""Burst: many single commits while no worker runs, then two workers.

The workers are started, connected and warmed up before the clock starts; it starts when they are told to take what was
dispatched.
"""

from __future__ import annotations

from time import perf_counter

from benchmarks.content import values
from benchmarks.databases import REMOTE, empty, fetch, settle
from benchmarks.models import Row
from benchmarks.report import Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median
from benchmarks.workers import is_idle, let_loose, queue_length, wait_until, workers

_WORKERS = 2


def measure(sizes: Sizes) -> Result:
    """Measure how fast two workers drain a burst of new rows."""
    turns = [_drain(sizes.burst) for _ in range(sizes.repeat)]
    there, idle, messages = (median(column) for column in zip(*turns, strict=True))
    return Result(
        name="burst",
        title=f"Burst of {sizes.burst:,} single commits, drained by {_WORKERS} workers",
        rows=[
            {"until": until, "seconds": took, "objects/s": sizes.burst / took, "messages": int(messages)}
            for until, took in (("all rows are on REMOTE", there), ("the queue is empty, too", idle))
        ],
        goals=[Goal("burst: objects/s", sizes.burst / there, least=1500)],
        details={"turns": [dict(zip(("there", "idle", "messages"), turn, strict=True)) for turn in turns]},
    )


def _drain(count: int) -> tuple[float, float, float]:
    """Return the seconds until all rows are there and until the queue is empty, and how long the queue was."""
    empty()
    with workers(_WORKERS):
        known = _rows_on_remote()
        for number in range(1, count + 1):
            Row.objects.create(**values(number))
        messages = queue_length()
        settle()
        started = perf_counter()
        let_loose()
        wait_until(lambda: _rows_on_remote() == known + count, "all rows are on REMOTE")
        there = perf_counter() - started
        wait_until(is_idle, "the queue is empty")
        return there, perf_counter() - started, messages


def _rows_on_remote() -> int:
    return int(fetch(REMOTE, "SELECT count(*) FROM benchmarks_row")[0])
