"""The request's side: what one save() in a transaction of its own costs, with a new log and with an old one.

The kinds of save take turns, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from django.db import transaction

from benchmarks.content import values
from benchmarks.databases import empty, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.history import add_synced_entries
from benchmarks.models import Columns, Row, Unwatched
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, percentile, seconds
from benchmarks.workers import forget_messages

#: The kinds of save: of which model, and who hears of it.
KINDS: dict[str, tuple[type[Columns], Callable[[], AbstractContextManager[object]]]] = {
    "plain": (Unwatched, without_dispatch),
    "log": (Row, without_dispatch),
    "log and dispatch": (Row, nullcontext),
}
_ROWS = 100

#: Seconds of the saves of each kind.
Times = Mapping[str, list[float]]


def measure(sizes: Sizes) -> Result:
    """Measure saves that change a row."""
    empty()
    models: tuple[type[Columns], ...] = (Row, Unwatched)
    objects = {model: [model.objects.create(**values(number)) for number in range(_ROWS)] for model in models}
    try:
        new = _saves(objects, sizes.saves)
        add_synced_entries(sizes.synced_entries)
        old = _saves(objects, sizes.saves)
    finally:
        forget_messages()
    entries = f"{sizes.synced_entries:,}"
    return Result(
        name="request_save",
        title=f"One save() in its own transaction, median of {sizes.saves:,}, in ms",
        rows=[*_rows("new", new, new), *_rows(f"{entries} synced entries", old, new)],
        goals=list(_goals(new, old)),
    )


def _saves(objects: Mapping[type[Columns], list[Columns]], count: int) -> Times:
    """Time so many saves of each kind."""
    settle()
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(count):
        for kind, (model, audience) in KINDS.items():
            row = objects[model][number % _ROWS]
            row.quantity += 1
            with audience():
                took[kind].append(seconds(partial(_save, row)))
    return took


def _save(row: Columns) -> None:
    with transaction.atomic():
        row.save()


def _rows(log: str, took: Times, new: Times) -> Iterator[dict[str, Cell]]:
    for kind, times in took.items():
        yield {
            "log": log,
            "save": kind,
            "median": 1000 * median(times),
            "p95": 1000 * percentile(times, 95),
            "/ plain": _ratio(took, kind),
            "/ new log": _ratio(took, kind) / _ratio(new, kind),
        }


def _goals(new: Times, old: Times) -> Iterator[Goal]:
    for kind, most in (("log", 1.4), ("log and dispatch", 2.2)):
        yield Goal(f"{kind} / plain", _ratio(new, kind), most=most)
        yield Goal(f"{kind}: growth with the log", _ratio(old, kind) / _ratio(new, kind), most=1.1)


def _ratio(took: Times, kind: str) -> float:
    return median(took[kind]) / median(took["plain"])
