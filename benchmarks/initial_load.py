"""The initial load of an empty REMOTE and the catch-up of the same rows, and a load that is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
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
from synchro.compare import Request, Tally, Watcher, run

#: Rows that are not loaded in one batch.
_LEAST = 3000
_REQUEST = Request(models=(Row._meta.label,))


def measure(sizes: Sizes) -> Result:
    """Measure the load of a tenth of the rows, and in turns that of all of them and their catch-up; then kill one."""
    count = max(sizes.compared, 10 * _LEAST)
    turns = []
    with without_dispatch():
        small = _load(count // 10)
        for _ in range(sizes.repeat):
            turns += [(_load(count), _catch_up(count))]
        resumed = _resumed(count)
    large, catch_up = (_middle(figures) for figures in zip(*turns, strict=True))
    more = float(large["peak of client MB"]) - float(small["peak of client MB"])
    return Result(
        name="initial_load",
        title=f"Initial load of {count:,} rows",
        rows=[small, large, catch_up, resumed],
        goals=[
            Goal("initial load: rows/s", float(large["rows/s"]), least=5000),
            Goal("initial load: part of catch-up", float(large["rows/s"]) / float(catch_up["rows/s"]), least=1.0),
            Goal("resumed: part of catch-up", float(resumed["rows/s"]) / float(catch_up["rows/s"]), least=0.9),
            Goal("initial load: MB of the client", float(large["peak of client MB"]), most=100),
            Goal("ten times the rows: more MB of the client", more, most=30),
        ],
        details={"rows_per_second": [[float(each["rows/s"]) for each in turn] for turn in turns]},
    )


def _middle(figures: Sequence[dict[str, Cell]]) -> dict[str, Cell]:
    """Return those of the turn that was neither fast nor slow."""
    return sorted(figures, key=lambda each: each["seconds"])[len(figures) // 2]


class _Deadly(Watcher):
    """Kills the process as soon as REMOTE has so many rows."""

    def __init__(self, enough: int) -> None:
        self.enough = enough

    def advance(self, count: int) -> None:
        if _count_remote() >= self.enough:
            os.kill(os.getpid(), signal.SIGKILL)


def _load(count: int) -> dict[str, Cell]:
    """Load all rows at one go."""
    _fill(count)
    forget_peak()
    started = perf_counter()
    (tally,) = run(_REQUEST)
    found = _figures(f"load, {count:,} rows", count, perf_counter() - started)
    _require_loaded(tally, count)
    return found


def _resumed(count: int) -> dict[str, Cell]:
    """Load the second half of the rows: the process that loads the first one is killed."""
    _fill(count)
    _be_killed(enough=count // 2)
    there = _count_remote()
    if not 0 < there < count:
        raise AssertionError(f"{there} rows had been loaded when the process was killed.")
    forget_peak()
    started = perf_counter()
    (tally,) = run(_REQUEST)
    found = _figures(f"load, {count:,} rows, killed and gone on with", count - there, perf_counter() - started)
    _require_loaded(tally, count)
    return found


def _fill(count: int) -> None:
    empty()
    insert(LOCAL, Row, count)
    settle()


def _require_loaded(tally: Tally, count: int) -> None:
    """Stop a run whose figures would mean nothing."""
    if tally.repaired != count or _count_remote() != count:
        raise AssertionError(f"Not all rows have been loaded: {tally}")
    if compare(Row):
        raise AssertionError("REMOTE differs after the load.")


def _be_killed(*, enough: int) -> None:
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            run(_REQUEST, watcher=_Deadly(enough))
        finally:
            os._exit(1)
    os.waitpid(child, 0)


def _count_remote() -> int:
    return int(fetch(REMOTE, "SELECT count(*) FROM benchmarks_row")[0])


def _catch_up(count: int) -> dict[str, Cell]:
    """Bring the same rows as changes that were logged one by one."""
    _fill(count)
    touch(Row.objects.all())
    settle()
    forget_peak()
    return _figures(f"catch-up, {count:,} rows", count, seconds(engine.sync_pending))


def _figures(what: str, count: int, elapsed: float) -> dict[str, Cell]:
    return {"what": what, "seconds": elapsed, "rows/s": count / elapsed, "peak of client MB": peak()}
