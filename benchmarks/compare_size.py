"""Comparing equal rows of two sizes, one ten times the other: whether time grows with the rows, and memory does not."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.compare import Checksums, ValueByValue, fill, measured
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row, Shuffled
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes

_WAYS = {
    "checksums": Checksums(Row),
    "checksums, keys in another order": Checksums(Shuffled),
    "row by row by value": ValueByValue(Row),
}


def measure(sizes: Sizes) -> Result:
    """Measure as many rows as elsewhere, and then ten times as many."""
    rows: list[dict[str, Cell]] = []
    with without_dispatch():
        for count in (sizes.compared, sizes.compared * 10):
            fill(count, Row, Shuffled)
            ways = {f"{count:,} rows: {name}": way for name, way in _WAYS.items()}
            rows += measured(ways, count, repeat=1, expected=set())
    return Result(
        name="compare_size",
        title=f"Comparing {sizes.compared:,} rows, and ten times as many",
        rows=rows,
        goals=list(_goals(rows[: len(_WAYS)], rows[len(_WAYS) :])),
    )


def _goals(small: list[dict[str, Cell]], large: list[dict[str, Cell]]) -> Iterator[Goal]:
    for name, one, other in zip(_WAYS, small, large, strict=True):
        yield Goal(f"{name}: times the time for a row", float(one["rows/s"]) / float(other["rows/s"]), most=1.25)
        more = float(other["peak of client MB"]) - float(one["peak of client MB"])
        yield Goal(f"{name}: more MB of the client", more, most=30)
        yield Goal(f"{name}: MB of the client", float(other["peak of client MB"]), most=100)
