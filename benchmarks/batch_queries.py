"""How many statements a batch costs: as many for 500 objects as for 10, whatever their model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import connections

from benchmarks.databases import LOCAL, REMOTE, empty
from benchmarks.dispatching import without_dispatch
from benchmarks.kinds import KINDS, PLAIN, Kind, at_once
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from synchro import engine
from synchro.models import ChangeLog
from tests.queries import queries

_SMALL, _LARGE = 10, 500
#: A statement or two more in all: from ten rows on they go through a temporary table.
_TOLERATED = 2 / (_LARGE - _SMALL)

Bring = Callable[[], object]
#: Statements on LOCAL and on REMOTE.
Counts = tuple[int, int]


def measure(sizes: Sizes) -> Result:
    """Count the statements that bring new, changed and deleted objects of every kind, and plain ones in a task."""
    with without_dispatch():
        rows = [row for kind in KINDS for row in _rows(kind, "synchronize", engine.sync_pending)]
        rows += _rows(PLAIN, "task", _bring_first)
    return Result(
        name="batch_queries",
        title=f"Statements of one batch of {_SMALL} and of {_LARGE} objects, without those that frame transactions",
        rows=rows,
        goals=list(_goals(rows)),
    )


def _rows(kind: Kind, by: str, bring: Bring) -> Iterator[dict[str, Cell]]:
    empty()
    with kind.listened():
        _counts(kind, 2, bring)  # what is asked once and remembered
        small, large = (_counts(kind, size, bring) for size in (_SMALL, _LARGE))
    for change in small:
        yield {
            "model": kind.name,
            "by": by,
            "change": change,
            **_columns("LOCAL", small[change][0], large[change][0]),
            **_columns("REMOTE", small[change][1], large[change][1]),
        }


def _columns(side: str, small: int, large: int) -> dict[str, Cell]:
    return {f"{side}, {_SMALL}": small, f"{side}, {_LARGE}": large}


def _counts(kind: Kind, size: int, bring: Bring) -> dict[str, Counts]:
    """Add, change and delete so many objects; return what bringing each of that costs."""
    found = {}
    for change, act in (
        ("add", lambda: kind.add(size)),
        ("change", kind.change_all),
        ("delete", kind.delete_all),
    ):
        with at_once():
            act()
        found[change] = _count(bring)
    return found


def _bring_first() -> object:
    """Do what a task for the first object does; it takes the others along."""
    return engine.sync_object(PLAIN.model._meta.label, ChangeLog.objects.pending().order_by("pk")[0].object_id)


def _count(bring: Bring) -> Counts:
    for alias in (LOCAL, REMOTE):
        connections[alias].queries_log.clear()  # Django keeps the last 9,000 statements
    with queries(LOCAL) as here, queries(REMOTE) as there:
        bring()
    if engine.count_pending():
        raise AssertionError("Not everything has arrived.")
    return len(here), len(there)


def _goals(rows: list[dict[str, Cell]]) -> Iterator[Goal]:
    """Ten and five hundred objects cost the same, but for what has to be asked or done object by object."""
    for kind in KINDS:
        more = [_more(row, side) for row in rows if row["model"] == kind.name for side in ("LOCAL", "REMOTE")]
        yield Goal(f"{kind.name}: more statements for each more object", max(more), most=kind.for_each + _TOLERATED)


def _more(row: dict[str, Cell], side: str) -> float:
    return (float(row[f"{side}, {_LARGE}"]) - float(row[f"{side}, {_SMALL}"])) / (_LARGE - _SMALL)
