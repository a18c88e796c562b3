"""How fast objects of each kind of model are brought, beside plain ones.

The kinds take turns, so that whatever else the machine does hits all of them. Besides the rate by the clock there is
the processor time of this process, which other programs hardly change; that of the two servers is not in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from time import perf_counter, process_time

from benchmarks.databases import empty, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.kinds import (
    GENERIC,
    HANDLERS,
    HANDLERS_AND_INHERITANCE,
    HANDLERS_AND_MEMBERS,
    INHERITANCE,
    MANY_TO_MANY,
    PLAIN,
    THROUGH,
    Kind,
    at_once,
)
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median
from synchro import engine

_KINDS = (
    *(PLAIN, INHERITANCE, MANY_TO_MANY, THROUGH, GENERIC),
    *(HANDLERS, HANDLERS_AND_MEMBERS, HANDLERS_AND_INHERITANCE),
)
_LEAST = 800

#: Objects by the clock, and milliseconds of processor time for each.
Speed = tuple[float, float]


def measure(sizes: Sizes) -> Result:
    """Measure how fast new and changed objects arrive."""
    speeds: dict[tuple[str, str], list[Speed]] = defaultdict(list)
    with without_dispatch():
        for _ in range(sizes.repeat):
            for kind in _KINDS:
                for change, speed in _speeds(kind, sizes.objects):
                    speeds[kind.name, change].append(speed)
    medians = {
        key: (median(rate for rate, _ in each), median(cost for _, cost in each)) for key, each in speeds.items()
    }
    return Result(
        name="by_kind",
        title=f"{sizes.objects:,} objects of each kind of model",
        rows=[_row(kind, change, medians) for kind in _KINDS for change in ("add", "change")],
        goals=list(_goals(medians)),
        details={"speeds": {" ".join(key): values for key, values in speeds.items()}},
    )


def _speeds(kind: Kind, count: int) -> Iterator[tuple[str, Speed]]:
    empty()
    with kind.listened():
        for change, act in (("add", lambda: kind.add(count)), ("change", lambda: kind.change(kind.model))):
            with at_once():
                act()
            settle()
            clock, processor = perf_counter(), process_time()
            report = engine.sync_pending()
            took, used = perf_counter() - clock, process_time() - processor
            if report.failures or engine.count_pending():
                raise AssertionError("Not everything has arrived.")
            yield change, (count / took, used * 1000 / count)


def _row(kind: Kind, change: str, medians: Mapping[tuple[str, str], Speed]) -> dict[str, Cell]:
    rate, cost = medians[kind.name, change]
    return {
        "model": kind.name,
        "change": change,
        "objects/s": rate,
        "part of plain": rate / medians[PLAIN.name, change][0],
        "ms of processor time each": cost,
    }


def _goals(medians: Mapping[tuple[str, str], Speed]) -> Iterator[Goal]:
    for (name, change), (rate, _) in medians.items():
        if name != PLAIN.name:
            yield Goal(f"{name}, {change}: objects/s", rate, least=_LEAST)
