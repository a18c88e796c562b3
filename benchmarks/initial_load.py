"""The initial load of an empty REMOTE, killed in the middle and gone on with; and the catch-up of the same rows."""

from __future__ import annotations

import os
import signal
from time import perf_counter

from django.db import connections

from benchmarks.compare import compare, insert
from benchmarks.databases import LOCAL, REMOTE, empty, fetch, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.memory import forget_peak, peak
from benchmarks.models import Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import seconds
from synchro import engine, touch
from synchro.compare import Request, Watcher, run

#: Rows that are not loaded in one batch.
_LEAST = 3000


def measure(sizes: Sizes) -> Result:
    """Measure the load of a tenth of the rows, of all of them, and the catch-up."""
    with without_dispatch():
        rows = [_load(max(sizes.rows // 10, _LEAST)), _load(sizes.rows), _catch_up(sizes.rows)]
    small, large, catch_up = rows
    more = float(large["peak of client MB"]) - float(small["peak of client MB"])
    return Result(
        name="initial_load",
        title=f"Initial load of {sizes.rows:,} rows, killed in the middle",
        rows=rows,
        goals=[
            Goal("initial load: rows/s", float(large["rows/s"]), least=5000),
            Goal("initial load: part of catch-up", float(large["rows/s"]) / float(catch_up["rows/s"]), least=0.9),
            Goal("ten times the rows: more MB of the client", more, most=30),
        ],
    )


class _Deadly(Watcher):
    """Kills the process as soon as REMOTE has so many rows."""

    def __init__(self, enough: int) -> None:
        self.enough = enough

    def advance(self, count: int) -> None:
        if _count_remote() >= self.enough:
            os.kill(os.getpid(), signal.SIGKILL)


def _load(count: int) -> dict[str, Cell]:
    """Load the second half of the rows: the process that loads the first one is killed."""
    empty()
    insert(LOCAL, Row, count)
    settle()
    request = Request(models=(Row._meta.label,))
    _be_killed(request, enough=count // 2)
    there = _count_remote()
    if not 0 < there < count:
        raise AssertionError(f"{there} rows had been loaded when the process was killed.")
    forget_peak()
    started = perf_counter()
    (tally,) = run(request)
    elapsed = perf_counter() - started
    if tally.repaired != count or _count_remote() != count:
        raise AssertionError(f"Not all rows have been loaded: {tally}")
    found = _figures(f"load, {count:,} rows", count - there, elapsed)
    if compare(Row):
        raise AssertionError("REMOTE differs after the load.")
    return found


def _be_killed(request: Request, *, enough: int) -> None:
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            run(request, watcher=_Deadly(enough))
        finally:
            os._exit(1)
    os.waitpid(child, 0)


def _count_remote() -> int:
    return int(fetch(REMOTE, "SELECT count(*) FROM benchmarks_row")[0])


def _catch_up(count: int) -> dict[str, Cell]:
    """Bring the same rows as changes that were logged one by one."""
    empty()
    insert(LOCAL, Row, count)
    touch(Row.objects.all())
    settle()
    forget_peak()
    return _figures(f"catch-up, {count:,} rows", count, seconds(engine.sync_pending))


def _figures(what: str, count: int, elapsed: float) -> dict[str, Cell]:
    return {"what": what, "seconds": elapsed, "rows/s": count / elapsed, "peak of client MB": peak()}
