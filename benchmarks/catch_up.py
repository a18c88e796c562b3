"""Catch-up: a backlog of logged changes, brought to REMOTE in the foreground, against what Django alone would need.

The contenders write the same rows to the same server; only synchro also reads them from LOCAL, keeps references on both
sides and settles its log. They take turns, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.content import add_rows, change_rows
from benchmarks.databases import LOCAL, REMOTE, empty, execute, fetch, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row, Unwatched
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from synchro import engine, touch

#: Which rows REMOTE has before the change: those whose number leaves one of these remainders when divided by 2.
KINDS: dict[str, list[int]] = {"insert": [], "update": [0, 1], "mixed": [0]}

_NUMBER = "right(code, 8)::integer"


def measure(sizes: Sizes) -> Result:
    """Measure catch-ups of new, changed and mixed rows."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    with without_dispatch():
        _prepare(sizes.rows)
        for _ in range(sizes.repeat):
            for kind in KINDS:
                for contender in (synchro, bulk_create, save):
                    rates[kind, contender.__name__].append(contender(kind, sizes))
    medians = {key: median(values) for key, values in rates.items()}
    return Result(
        name="catch_up",
        title=f"Catch-up of {sizes.rows:,} changes, in rows/s",
        rows=[_row(kind, medians) for kind in KINDS],
        goals=list(_goals(medians)),
        details={"rows_per_second": {" ".join(key): values for key, values in rates.items()}},
    )


def synchro(kind: str, sizes: Sizes) -> float:
    """Log a change of every row and bring all of them to REMOTE with synchro; return rows/s."""
    change_rows()
    _forget_others(KINDS[kind])
    execute(LOCAL, "TRUNCATE synchro_changelog")
    touch(Row.objects.all())
    settle()
    rate = sizes.rows / seconds(engine.sync_pending)
    _require_equal()
    return rate


def bulk_create(kind: str, sizes: Sizes) -> float:
    """Write the objects, which are in memory already, with Django's bulk upsert; return rows/s."""
    objects = _unwatched(kind, sizes.rows)
    names = [field.name for field in Unwatched._meta.local_concrete_fields if not field.primary_key]
    settle()
    return sizes.rows / seconds(
        lambda: Unwatched.objects.using(REMOTE).bulk_create(
            objects, batch_size=1000, update_conflicts=True, unique_fields=["id"], update_fields=names
        )
    )


def save(kind: str, sizes: Sizes) -> float:
    """Save each object to REMOTE by itself, for fewer of them; return rows/s."""
    objects = _unwatched(kind, sizes.naive_rows)
    settle()
    return len(objects) / seconds(lambda: _save_each(objects))


def _save_each(objects: Sequence[Unwatched]) -> None:
    for each in objects:
        each.save(using=REMOTE)


def _prepare(count: int) -> None:
    """Fill LOCAL and bring it to REMOTE."""
    empty()
    add_rows(count)
    touch(Row.objects.all())
    engine.sync_pending()
    _require_equal()


def _forget_others(remainders: list[int]) -> None:
    """Let REMOTE have only the rows with these remainders, as if the others had never been there."""
    execute(REMOTE, f"DELETE FROM benchmarks_row WHERE NOT {_NUMBER} %% 2 = ANY(%s)", remainders)
    for alias, column in ((LOCAL, "local_object_id"), (REMOTE, "remote_object_id")):
        execute(alias, f"DELETE FROM synchro_reference WHERE NOT {column}::integer %% 2 = ANY(%s)", remainders)


def _unwatched(kind: str, count: int) -> list[Unwatched]:
    """Return copies of LOCAL's rows, changed since REMOTE got them as far as the kind of change wants them there."""
    execute(REMOTE, "TRUNCATE benchmarks_unwatched")
    copies = [Unwatched(**_values(row)) for row in Row.objects.order_by("id")[:count]]
    there = [each for each in copies if each.pk % 2 in KINDS[kind]]
    Unwatched.objects.using(REMOTE).bulk_create(there, batch_size=1000)
    change_rows()
    return [Unwatched(**_values(row)) for row in Row.objects.order_by("id")[:count]]


def _values(row: Row) -> dict[str, object]:
    return {field.attname: getattr(row, field.attname) for field in Row._meta.local_concrete_fields}


def _require_equal() -> None:
    """Stop a run whose figures would mean nothing."""
    digest = "SELECT md5(string_agg(concat(code, quantity, price, changed), '' ORDER BY code)) FROM benchmarks_row"
    if fetch(LOCAL, digest) != fetch(REMOTE, digest):
        raise AssertionError("REMOTE differs from LOCAL after the catch-up.")


def _row(kind: str, medians: Mapping[tuple[str, str], float]) -> dict[str, Cell]:
    ours, bulk, single = (medians[kind, name] for name in ("synchro", "bulk_create", "save"))
    return {
        "changes": kind,
        "synchro": ours,
        "bulk_create": bulk,
        "save": single,
        "synchro / bulk_create": ours / bulk,
        "synchro / save": ours / single,
    }


def _goals(medians: Mapping[tuple[str, str], float]) -> Iterator[Goal]:
    for kind in KINDS:
        ours = medians[kind, "synchro"]
        yield Goal(f"{kind}: changes/s", ours, least=5000)
        yield Goal(f"{kind}: part of bulk_create", ours / medians[kind, "bulk_create"], least=0.35)
