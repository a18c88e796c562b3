"""Comparing two databases: how long it takes to say that they are equal, to find what differs, and to repair it.

The other contender is reladiff, which compares tables by checksums too, on the same tables in the same run. It knows
nothing of references, so it can only compare rows that have the same key on both sides.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from unittest import mock

import reladiff
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from benchmarks.databases import LOCAL, REMOTE, empty, execute, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Numbered, Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from synchro import engine
from synchro.compare import Request, digests, run
from synchro.engine import identity

Contender = Callable[[], int]

#: REMOTE's primary key of a row with an automatic one is LOCAL's and so many more.
_SHIFT = 7_000_000


def measure(sizes: Sizes) -> Result:
    """Measure all of it on as many rows as asked for."""
    with without_dispatch():
        fill(sizes.rows)
        rows = [*_equal(sizes), *_scattered(sizes)]
    figures = {str(row["what"]): row for row in rows}
    return Result(
        name="compare",
        title=f"Comparing {sizes.rows:,} rows of 12 columns",
        rows=rows,
        goals=list(_goals(figures)),
        details={"seconds": {name: row["seconds"] for name, row in figures.items()}},
    )


def _equal(sizes: Sizes) -> Iterator[dict[str, Cell]]:
    contenders: dict[str, Contender] = {
        "equal, same keys: synchro": Checksums(Numbered),
        "equal, same keys: reladiff": _reladiff,
        "equal, mapped keys: synchro": Checksums(Row),
        "equal, same keys, row by row": RowByRow(Numbered),
        "equal, mapped keys, row by row": RowByRow(Row),
    }
    for what, contender in contenders.items():
        yield measured(what, contender, sizes, expected=0)


def _scattered(sizes: Sizes) -> Iterator[dict[str, Cell]]:
    """Change every thousandth row."""
    for model in (Numbered, Row):
        _change(model, quantity=-1)
    expected = len(range(500, sizes.rows + 1, 1000))
    contenders: dict[str, Contender] = {
        "0.1% differ, same keys: synchro": Checksums(Numbered),
        "0.1% differ, same keys: reladiff": _reladiff,
        "0.1% differ, mapped keys: synchro": Checksums(Row),
    }
    for what, contender in contenders.items():
        yield measured(what, contender, sizes, expected=expected)
    yield _repaired(sizes, expected)


def _repaired(sizes: Sizes, expected: int) -> dict[str, Cell]:
    """Repair the rows, change them again and repair them again, and tell how fast that alone is."""
    spent: list[float] = []
    real = engine.sync_objects

    def timed(*args: Any, **options: Any) -> engine.Report:
        started = perf_counter()
        try:
            return real(*args, **options)
        finally:
            spent[-1] += perf_counter() - started

    def change_and_repair() -> int:
        spent.append(0.0)
        _change(Row, quantity=-len(spent) - 1)
        return compare(Row, dry_run=False)

    with mock.patch.object(engine, "sync_objects", timed):
        what = "0.1% differ, mapped keys: repaired"
        found = measured(what, change_and_repair, Sizes(sizes.rows, max(sizes.repeat, 3)), expected=expected)
    return {**found, "rows/s": expected / median(spent)}


def _change(model: type[Any], *, quantity: int) -> None:
    """Change every thousandth row of LOCAL unseen."""
    execute(LOCAL, f"UPDATE {model._meta.db_table} SET quantity = %s WHERE id %% 1000 = 500", quantity)
    settle()


def measured(what: str, contender: Contender, sizes: Sizes, *, expected: int) -> dict[str, Cell]:
    """Measure a contender, and see that it finds what it should. Memory is measured in a process of its own."""
    times, found = [], []
    for _ in range(sizes.repeat):
        times.append(seconds(lambda: found.append(contender())))
    megabytes: Cell = ""
    if isinstance(contender, Checksums):
        differences, megabytes = contender.in_own_process()
        found.append(differences)
    if set(found) != {expected}:
        raise AssertionError(f"{what}: found {found} differences, not {expected}.")
    return {
        "what": what,
        "seconds": median(times),
        "rows/s": sizes.rows / median(times),
        "peak of client MB": megabytes,
    }


@dataclass(frozen=True)
class Checksums:
    """A comparison as it is."""

    model: type[Any]

    def __call__(self) -> int:
        return compare(self.model)

    def in_own_process(self) -> tuple[int, float]:
        """Compare in a process that does nothing else; return how many rows differ, and the most MB it has had."""
        command = [sys.executable, "-m", "benchmarks.client", *self.arguments()]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        return int(answer[-2]), float(answer[-1])

    def arguments(self) -> list[str]:
        """Return what tells the other process what to do."""
        return [self.model._meta.label]


class RowByRow(Checksums):
    """A comparison without checksums."""

    def __call__(self) -> int:
        with mock.patch.object(digests, "plan", return_value=None):
            return compare(self.model)

    def arguments(self) -> list[str]:
        return [*super().arguments(), "by-rows"]


def compare(model: type[Any], *, dry_run: bool = True) -> int:
    """Compare, and return how many rows differ."""
    (tally,) = run(Request(models=(model._meta.label,), dry_run=dry_run), restart=True)
    if tally.error or tally.failed or tally.skipped:
        raise AssertionError(str(tally))
    return tally.differences


def _reladiff() -> int:
    names = tuple(field.column for field in Numbered._meta.local_concrete_fields if not field.primary_key)
    tables = [
        reladiff.connect_to_table(_url(alias), "benchmarks_numbered", "id", extra_columns=names)
        for alias in (LOCAL, REMOTE)
    ]
    try:
        return len({key for _, (key, *_) in reladiff.diff_tables(*tables)})
    finally:
        for table in tables:
            table.database.close()


def _url(alias: str) -> str:
    options = connections[alias].settings_dict
    login = f"{options['USER']}:{options['PASSWORD']}" if options["PASSWORD"] else options["USER"]
    return f"postgresql://{login}@{options['HOST'] or 'localhost'}:{options['PORT'] or 5432}/{options['NAME']}"


# The rows


def fill(count: int) -> None:
    """Let both sides have the same rows, and remember which row of REMOTE is whose."""
    empty()
    for model, shift in ((Numbered, 0), (Row, _SHIFT)):
        insert(LOCAL, model, count)
        insert(REMOTE, model, count, shift=shift)
        _refer(LOCAL, REMOTE, model, count, own=0, other=shift)
        _refer(REMOTE, LOCAL, model, count, own=shift, other=0)
    settle()


def insert(alias: str, model: type[Any], count: int, *, shift: int = 0) -> None:
    """Have the server make rows."""
    execute(
        alias,
        f"""
        INSERT INTO {model._meta.db_table}
            (id, code, name, email, description, quantity, price, weight, active, day, created, changed)
        SELECT n + %s, 'article-' || n, 'An article with the number ' || n, 'supplier-' || n %% 500 || '@example.com',
            n || repeat(' Some words about this article.', 6), n, n %% 100000 / 100.0, n / 7.0::float8, n %% 3 > 0,
            date '2026-01-01' + n %% 365, timestamptz '2026-01-01 12:00+00' + n * interval '1.000001 s',
            timestamptz '2026-06-01 12:00+00' + n * interval '1.000001 s'
        FROM generate_series(1, %s) n
        """,
        shift,
        count,
    )
    if shift == 0 and model is Row:
        execute(alias, "SELECT setval(pg_get_serial_sequence('benchmarks_row', 'id'), %s)", count)


def _refer(alias: str, peer: str, model: type[Any], count: int, *, own: int, other: int) -> None:
    execute(
        alias,
        """
        INSERT INTO synchro_reference (content_type_id, peer, local_object_id, remote_object_id)
        SELECT %s, %s::uuid, (n + %s)::text, (n + %s)::text FROM generate_series(1, %s) n
        """,
        ContentType.objects.db_manager(alias).get_for_model(model).pk,
        str(identity(peer)),
        own,
        other,
        count,
    )


def _goals(figures: dict[str, dict[str, Cell]]) -> Iterator[Goal]:
    def time(what: str) -> float:
        return float(figures[what]["seconds"])

    equal, scattered = time("equal, same keys: reladiff"), time("0.1% differ, same keys: reladiff")
    yield Goal("equal, same keys: times reladiff", time("equal, same keys: synchro") / equal, most=1.0)
    yield Goal("equal, mapped keys: times reladiff", time("equal, mapped keys: synchro") / equal, most=1.5)
    yield Goal("0.1% differ: times reladiff", time("0.1% differ, same keys: synchro") / scattered, most=0.5)
    rate = float(figures["equal, same keys, row by row"]["rows/s"])
    yield Goal("row by row: rows/s", rate, least=50_000)
    checksums = [figures[what] for what in figures if what.startswith("equal") and what.endswith("synchro")]
    yield Goal("checksums: MB of the client", max(float(row["peak of client MB"]) for row in checksums), most=100)
    yield Goal("repaired: rows/s", float(figures["0.1% differ, mapped keys: repaired"]["rows/s"]), least=5000)
