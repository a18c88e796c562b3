"""Poison: a backlog in which one object of a hundred is refused by REMOTE, against the same backlog without any.

The two take turns. What counts is how fast everything else arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.content import add_rows
from benchmarks.databases import LOCAL, REMOTE, empty, execute, fetch, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from synchro import engine, touch

#: One of so many rows is refused.
_ONE_OF = 100


def measure(sizes: Sizes) -> Result:
    """Measure catch-ups of new rows with and without poison."""
    healthy: list[float] = []
    poisoned: list[float] = []
    with without_dispatch():
        for _ in range(sizes.repeat):
            healthy.append(_catch_up(sizes.rows, poison=0))
            with _choosy():
                poisoned.append(_catch_up(sizes.rows, poison=sizes.rows // _ONE_OF))
    ratio = median(poisoned) / median(healthy)
    return Result(
        name="poison",
        title=f"Catch-up of {sizes.rows:,} new rows of which REMOTE refuses one of {_ONE_OF}, in rows/s",
        rows=[{"without": median(healthy), "the others with it": median(poisoned), "ratio": ratio}],
        goals=[Goal("poison: the others, part of full speed", ratio, least=0.9)],
        details={"healthy": healthy, "poisoned": poisoned},
    )


def _catch_up(count: int, *, poison: int) -> float:
    """Bring so many new rows to REMOTE, and return how many a second have arrived."""
    empty()
    add_rows(count)
    touch(Row.objects.all())
    settle()
    took = seconds(engine.sync_pending)
    arrived = int(fetch(REMOTE, "SELECT count(*) FROM benchmarks_row")[0])
    attempts = int(fetch(LOCAL, "SELECT count(*) FROM synchro_attempt")[0])
    if (arrived, attempts) != (count - poison, poison):
        raise AssertionError(f"{arrived} rows have arrived, and {attempts} attempts are recorded.")
    return arrived / took


@contextmanager
def _choosy() -> Iterator[None]:
    """Let REMOTE refuse some rows in the block."""
    execute(REMOTE, f"ALTER TABLE benchmarks_row ADD CONSTRAINT choosy CHECK (quantity %% {_ONE_OF} <> 0) NOT VALID")
    yield
    execute(REMOTE, "ALTER TABLE benchmarks_row DROP CONSTRAINT choosy")
