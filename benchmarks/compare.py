"""Comparing two databases: how long it takes to say that they are equal, to find what differs, and to repair it.

The other contender is reladiff, which compares tables by checksums too, on the same tables in the same run. It knows
nothing of references, so it can only compare rows that have the same key on both sides. The contenders take turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from unittest import mock

from django.contrib.contenttypes.models import ContentType
from django.db import connections

from benchmarks.databases import LOCAL, REMOTE, empty, execute, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Numbered, Row, Shuffled
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from synchro import engine, touch
from synchro.compare import Difference, Request, Watcher, digests, objects, repair, run
from synchro.engine import identity

#: Returns the keys of the rows that differ.
Contender = Callable[[], set[int]]

#: REMOTE's primary key of a row with an automatic one is LOCAL's and so many more.
_SHIFT = 7_000_000
#: Where REMOTE has the rows in another order, the next one is so many further on, and begins anew after the last.
_STRIDE = 15_485_863


def measure(sizes: Sizes) -> Result:
    """Measure all of it on as many rows as asked for."""
    with without_dispatch():
        fill(sizes.compared, Numbered, Row, Shuffled)
        rows = [*_equal(sizes), *_scattered(sizes), *_repaired(sizes)]
    figures = {str(row["what"]): row for row in rows}
    return Result(
        name="compare",
        title=f"Comparing {sizes.compared:,} rows of 12 columns",
        rows=rows,
        goals=list(_goals(figures)),
        details={"seconds": {name: row["seconds"] for name, row in figures.items()}},
    )


def _equal(sizes: Sizes) -> list[dict[str, Cell]]:
    contenders: dict[str, Contender] = {
        "equal, same keys: synchro": Checksums(Numbered),
        "equal, same keys: reladiff": _reladiff,
        "equal, mapped keys: synchro": Checksums(Row),
        "equal, keys in another order: synchro": Checksums(Shuffled),
        "equal, same keys, row by row as text": RowByRow(Numbered),
        "equal, mapped keys, row by row as text": RowByRow(Row),
        "equal, same keys, row by row by value": ValueByValue(Numbered),
        "equal, mapped keys, row by row by value": ValueByValue(Row),
    }
    return measured(contenders, sizes.compared, repeat=sizes.repeat, expected=set())


def _scattered(sizes: Sizes) -> list[dict[str, Cell]]:
    """Change every thousandth row."""
    for model in (Numbered, Row, Shuffled):
        _change(model, quantity=-1)
    contenders: dict[str, Contender] = {
        "0.1% differ, same keys: synchro": Checksums(Numbered),
        "0.1% differ, same keys: reladiff": _reladiff,
        "0.1% differ, mapped keys: synchro": Checksums(Row),
        "0.1% differ, keys in another order: synchro": Checksums(Shuffled),
    }
    return measured(contenders, sizes.compared, repeat=sizes.repeat, expected=_changed(sizes.compared))


def _repaired(sizes: Sizes) -> Iterator[dict[str, Cell]]:
    """Repair the rows, change them again and bring them as logged changes, and so on in turns."""
    keys = _changed(sizes.compared)
    repairs, catch_ups = [], []
    for turn in range(max(sizes.repeat, 3)):
        _change(Row, quantity=-2 * turn - 2)
        with _spent_on_repairs() as spent:
            _require("repair", compare(Row, dry_run=False), keys)
        repairs.append(sum(spent))
        _change(Row, quantity=-2 * turn - 3)
        touch(Row.objects.filter(pk__in=keys))
        settle()
        catch_ups.append(seconds(engine.sync_pending))
    _require("repair and catch-up", compare(Row), set())
    for what, times in ((_REPAIRED, repairs), (_CAUGHT_UP, catch_ups)):
        yield {
            "what": what,
            "seconds": median(times),
            "rows/s": len(keys) / median(times),
            "peak of client MB": "",
        }


_REPAIRED, _CAUGHT_UP = "0.1% differ, mapped keys: repaired", "0.1% differ, mapped keys: logged and caught up with"


@contextmanager
def _spent_on_repairs() -> Iterator[list[float]]:
    """Note how long all takes that a comparison does beyond finding differences: to log and to bring them."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            started = perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent.append(perf_counter() - started)

        return call

    with ExitStack() as stack:
        for module, name in ((repair, "log_objects"), (engine, "sync_objects"), (engine, "sync_pending")):
            stack.enter_context(mock.patch.object(module, name, timed(getattr(module, name))))
        yield spent


def _change(model: type[Any], *, quantity: int) -> None:
    """Change every thousandth row of LOCAL unseen."""
    execute(LOCAL, f"UPDATE {model._meta.db_table} SET quantity = %s WHERE id %% 1000 = 500", quantity)
    settle()


def _changed(count: int) -> set[int]:
    return set(range(500, count + 1, 1000))


def measured(
    contenders: Mapping[str, Contender], count: int, *, repeat: int, expected: set[int]
) -> list[dict[str, Cell]]:
    """Let contenders take turns, and see that each finds what it should. Memory is that of a process of its own."""
    times: dict[str, list[float]] = {what: [] for what in contenders}
    for _ in range(repeat):
        for what, contender in contenders.items():
            started = perf_counter()
            found = contender()
            times[what].append(perf_counter() - started)
            _require(what, found, expected)
    rows: list[dict[str, Cell]] = []
    for what, contender in contenders.items():
        megabytes: Cell = ""
        if isinstance(contender, Checksums):
            found, megabytes = contender.in_own_process()
            _require(what, found, expected)
        elapsed = median(times[what])
        rows.append({"what": what, "seconds": elapsed, "rows/s": count / elapsed, "peak of client MB": megabytes})
    return rows


def _require(what: str, found: set[int], expected: set[int]) -> None:
    """Stop a run whose figures would mean nothing."""
    if wrong := found ^ expected:
        raise AssertionError(f"{what}: {len(wrong)} rows too many or too few, {min(wrong)} is one of them.")


@dataclass(frozen=True)
class Checksums:
    """A comparison as it is."""

    model: type[Any]

    def __call__(self) -> set[int]:
        return compare(self.model)

    def in_own_process(self) -> tuple[set[int], float]:
        """Compare in a process that does nothing else; return which rows differ, and the most MB it has had."""
        command = [sys.executable, "-m", "benchmarks.client", type(self).__name__, self.model._meta.label]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        keys, megabytes = json.loads(answer.splitlines()[-1])
        return set(keys), megabytes


class RowByRow(Checksums):
    """A comparison without checksums: of the texts that PostgreSQL makes of rows."""

    def __call__(self) -> set[int]:
        with mock.patch.object(digests, "plan", return_value=None):
            return super().__call__()


class ValueByValue(RowByRow):
    """A comparison of Django's values, as between different vendors."""

    def __call__(self) -> set[int]:
        with mock.patch.object(objects, "write_alike", return_value=False):
            return super().__call__()


class _Keys(Watcher):
    def __init__(self) -> None:
        self.found: set[int] = set()

    def differ(self, difference: Difference) -> None:
        self.found.add(int(difference.key))


def compare(model: type[Any], *, dry_run: bool = True) -> set[int]:
    """Compare, and return the keys of the rows that differ."""
    keys = _Keys()
    (tally,) = run(Request(models=(model._meta.label,), dry_run=dry_run), watcher=keys, restart=True)
    if tally.error or tally.failed or tally.skipped or tally.differences != len(keys.found):
        raise AssertionError(str(tally))
    return keys.found


def _reladiff() -> set[int]:
    import reladiff  # only here: the processes whose memory is measured have nothing to do with it

    names = tuple(field.column for field in Numbered._meta.local_concrete_fields if not field.primary_key)
    tables = [
        reladiff.connect_to_table(_url(alias), "benchmarks_numbered", "id", extra_columns=names)
        for alias in (LOCAL, REMOTE)
    ]
    try:
        return {int(key) for _, (key, *_) in reladiff.diff_tables(*tables)}
    finally:
        for table in tables:
            table.database.close()


def _url(alias: str) -> str:
    options = connections[alias].settings_dict
    login = f"{options['USER']}:{options['PASSWORD']}" if options["PASSWORD"] else options["USER"]
    return f"postgresql://{login}@{options['HOST'] or 'localhost'}:{options['PORT'] or 5432}/{options['NAME']}"


# The rows


def fill(count: int, *models: type[Any]) -> None:
    """Let both sides have the same rows, and remember which row of REMOTE is whose."""
    empty()
    for model in models:
        key = _remote_key(model, count)
        insert(LOCAL, model, count)
        insert(REMOTE, model, count, key=key)
        _refer(LOCAL, REMOTE, model, count, own="n", other=key)
        _refer(REMOTE, LOCAL, model, count, own=key, other="n")
    settle()


def _remote_key(model: type[Any], count: int) -> str:
    """Return REMOTE's key of the row with the number n."""
    if model is Numbered:
        return "n"
    return f"n + {_SHIFT}" if model is Row else f"n * {_STRIDE} % {count} + 1 + {_SHIFT}"


def insert(alias: str, model: type[Any], count: int, *, key: str = "n") -> None:
    """Have the server make rows, in the order of their keys."""
    table = model._meta.db_table
    execute(
        alias,
        f"""
        INSERT INTO {table}
            (id, code, name, email, description, quantity, price, weight, active, day, created, changed)
        SELECT {_escaped(key)}, 'article-' || n, 'An article with the number ' || n,
            'supplier-' || n %% 500 || '@example.com', n || repeat(' Some words about this article.', 6), n,
            n %% 100000 / 100.0, n / 7.0::float8, n %% 3 > 0, date '2026-01-01' + (n %% 365)::integer,
            timestamptz '2026-01-01 12:00+00' + n * interval '1.000001 s',
            timestamptz '2026-06-01 12:00+00' + n * interval '1.000001 s'
        FROM generate_series(1, %s::bigint) n ORDER BY 1
        """,
        count,
    )
    if model is not Numbered:
        execute(alias, f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")


def _refer(alias: str, peer: str, model: type[Any], count: int, *, own: str, other: str) -> None:
    execute(
        alias,
        f"""
        INSERT INTO synchro_reference (content_type_id, peer, local_object_id, remote_object_id)
        SELECT %s, %s::uuid, ({_escaped(own)})::text, ({_escaped(other)})::text FROM generate_series(1, %s::bigint) n
        """,
        ContentType.objects.db_manager(alias).get_for_model(model).pk,
        str(identity(peer)),
        count,
    )


def _escaped(sql: str) -> str:
    return sql.replace("%", "%%")


def _goals(figures: Mapping[str, dict[str, Cell]]) -> Iterator[Goal]:
    def figure(what: str, name: str = "seconds") -> float:
        return float(figures[what][name])

    equal, scattered = figure("equal, same keys: reladiff"), figure("0.1% differ, same keys: reladiff")
    yield Goal("equal, same keys: times reladiff", figure("equal, same keys: synchro") / equal, most=1.0)
    yield Goal("equal, mapped keys: times reladiff", figure("equal, mapped keys: synchro") / equal, most=1.5)
    yield Goal("0.1% differ: times reladiff", figure("0.1% differ, same keys: synchro") / scattered, most=0.5)
    for keys in ("same", "mapped"):
        rate = figure(f"equal, {keys} keys, row by row by value", "rows/s")
        yield Goal(f"{keys} keys, row by row by value: rows/s", rate, least=50_000)
    peaks = [float(row["peak of client MB"]) for row in figures.values() if row["peak of client MB"]]
    yield Goal("MB of any client", max(peaks), most=100)
    part = figure(_REPAIRED, "rows/s") / figure(_CAUGHT_UP, "rows/s")
    yield Goal("repaired: part of catch-up", part, least=1.0)
