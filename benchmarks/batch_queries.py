"""How many statements a batch costs: as many for 500 objects as for 10."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from django.db import connections
from django.test.utils import CaptureQueriesContext

from benchmarks.content import add_rows, change_rows
from benchmarks.databases import LOCAL, REMOTE, empty
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from synchro import engine, touch

_BATCHES = (1, 10, 500)
#: Statements that frame a transaction.
_FRAME = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")

Bring = Callable[[], object]


def measure(sizes: Sizes) -> Result:
    """Count the statements of batches of new and of changed rows, with ``synchronize`` and in a task."""
    with without_dispatch():
        rows = [row for size in _BATCHES for row in _rows(size)]
    return Result(
        name="batch_queries",
        title="Statements of one batch, without BEGIN and COMMIT",
        rows=rows,
        goals=list(_goals(rows)),
    )


def _rows(size: int) -> Iterator[dict[str, Cell]]:
    for name, bring in (("synchronize", engine.sync_pending), ("task", _bring_first)):
        empty()
        add_rows(size)
        yield {"by": name, "objects": size, "changes": "insert", **_count(bring)}
        change_rows()
        yield {"by": name, "objects": size, "changes": "update", **_count(bring)}


def _bring_first() -> object:
    """Do what a task for the first row does; it takes the others along."""
    return engine.sync_object(Row._meta.label, "1")


def _count(bring: Bring) -> dict[str, Cell]:
    touch(Row.objects.order_by("id"))
    with ExitStack() as stack:
        sent = {alias: stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in (LOCAL, REMOTE)}
        bring()
    counts = {
        name: sum(not query["sql"].startswith(_FRAME) for query in sent[alias].captured_queries)
        for name, alias in (("LOCAL", LOCAL), ("REMOTE", REMOTE))
    }
    if engine.count_pending():
        raise AssertionError("One batch was not enough.")
    return {**counts, "together": sum(counts.values())}


def _goals(rows: list[dict[str, Cell]]) -> Iterator[Goal]:
    """Ten and five hundred objects cost the same."""
    together = {(row["by"], row["changes"], row["objects"]): int(row["together"]) for row in rows}
    small, large = _BATCHES[1:]
    for by, changes, size in together:
        if size == large:
            more = together[by, changes, large] - together[by, changes, small]
            yield Goal(f"{by}, {changes}: more for {large} objects than for {small}", more, most=0)
