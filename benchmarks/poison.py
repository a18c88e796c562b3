"""Poison: a backlog in which one object of a hundred is refused by REMOTE, against the same backlog without any.

The two take turns. What counts is how fast everything else arrives: in the foreground, where the server finds the
refused rows; there again, where it cannot and ever smaller parts are tried from here; and with workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest import mock

from benchmarks.content import add_rows
from benchmarks.databases import LOCAL, REMOTE, empty, execute, fetch, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from benchmarks.workers import let_loose, wait_until, workers
from synchro import engine, staging, touch
from synchro_tasks.tasks import checkpoint

#: One of so many rows is refused.
_ONE_OF = 100
_WORKERS = 2

#: Brings everything that REMOTE takes; is given the number of rows that will be there.
Drain = Callable[[int], object]


def measure(sizes: Sizes) -> Result:
    """Measure catch-ups of new rows with and without poison."""
    found = {name: _turns(way, sizes) for name, way in _WAYS.items()}
    speeds = {name: {kind: median(each) for kind, each in turns.items()} for name, turns in found.items()}
    ratios = {name: speed["poisoned"] / speed["healthy"] for name, speed in speeds.items()}
    return Result(
        name="poison",
        title=f"Catch-up of {sizes.rows:,} new rows of which REMOTE refuses one of {_ONE_OF}, in rows/s",
        rows=[
            {"by": name, "without": speed["healthy"], "the others with it": speed["poisoned"], "ratio": ratios[name]}
            for name, speed in speeds.items()
        ],
        goals=[
            Goal(f"poison, {name}: the others, part of full speed", each, least=0.9) for name, each in ratios.items()
        ],
        details=found,
    )


def _turns(way: Callable[[], AbstractContextManager[Drain]], sizes: Sizes) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {"healthy": [], "poisoned": []}
    for _ in range(sizes.repeat):
        found["healthy"].append(_catch_up(way, sizes.rows, nullcontext(), poison=0))
        found["poisoned"].append(_catch_up(way, sizes.rows, _choosy(), poison=sizes.rows // _ONE_OF))
    return found


def _catch_up(
    way: Callable[[], AbstractContextManager[Drain]], count: int, remote: AbstractContextManager[None], *, poison: int
) -> float:
    """Bring so many new rows to REMOTE, and return how many a second have arrived."""
    empty()
    with way() as drain:
        known = _count(REMOTE, "benchmarks_row")
        with without_dispatch():
            add_rows(count)
            touch(Row.objects.filter(quantity__gt=0))
        settle()
        with remote:
            took = seconds(lambda: drain(known + count - poison))
            wait_until(lambda: _count(LOCAL, "synchro_attempt") == poison, f"{poison} attempts are recorded")
        arrived = _count(REMOTE, "benchmarks_row") - known
    if arrived != count - poison:
        raise AssertionError(f"{arrived} rows have arrived.")
    return arrived / took


@contextmanager
def _in_foreground() -> Iterator[Drain]:
    yield lambda expected: engine.sync_pending()


@contextmanager
def _without_search() -> Iterator[Drain]:
    """Write as to a server that lets nobody make temporary tables: it does not look for refused rows."""
    with mock.patch.object(staging, "can_stage", return_value=False), _in_foreground() as drain:
        yield drain


@contextmanager
def _by_workers() -> Iterator[Drain]:
    """Let a checkpoint hand the backlog to workers."""

    def drain(expected: int) -> None:
        let_loose()
        checkpoint.delay()
        wait_until(lambda: _count(REMOTE, "benchmarks_row") == expected, "all others are on REMOTE")

    with workers(_WORKERS):
        yield drain


_WAYS = {
    "foreground": _in_foreground,
    "foreground, halving": _without_search,
    f"{_WORKERS} workers": _by_workers,
}


@contextmanager
def _choosy() -> Iterator[None]:
    """Let REMOTE refuse some rows in the block."""
    execute(REMOTE, f"ALTER TABLE benchmarks_row ADD CONSTRAINT choosy CHECK (quantity %% {_ONE_OF} <> 0) NOT VALID")
    yield
    execute(REMOTE, "ALTER TABLE benchmarks_row DROP CONSTRAINT choosy")


def _count(alias: str, table: str) -> int:
    return int(fetch(alias, f"SELECT count(*) FROM {table}")[0])
