"""Comparing equal rows of two sizes, one ten times the other: whether time grows with the rows, and memory does not."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.compare import Checksums, RowByRow, fill, measured
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes

_WAYS = {"checksums": Checksums(Row), "row by row": RowByRow(Row)}


def measure(sizes: Sizes) -> Result:
    """Measure a tenth of the rows, and then all of them."""
    rows = []
    with without_dispatch():
        for count in (max(sizes.rows // 10, 1), sizes.rows):
            fill(count)
            rows += [
                measured(f"{count:,} rows: {name}", way, Sizes(count, 1), expected=0) for name, way in _WAYS.items()
            ]
    return Result(
        name="compare_size",
        title=f"Comparing a tenth of {sizes.rows:,} rows, and all of them",
        rows=rows,
        goals=list(_goals(rows[: len(_WAYS)], rows[len(_WAYS) :])),
    )


def _goals(small: list[dict[str, Cell]], large: list[dict[str, Cell]]) -> Iterator[Goal]:
    for name, one, other in zip(_WAYS, small, large, strict=True):
        yield Goal(f"{name}: times the time for a row", float(one["rows/s"]) / float(other["rows/s"]), most=1.25)
        more = float(other["peak of client MB"]) - float(one["peak of client MB"])
        yield Goal(f"{name}: more MB of the client", more, most=30)
