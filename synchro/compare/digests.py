"""Which rows can differ at all, told by checksums that two PostgreSQL servers compute at the same time.

Each side reads its table once, in ranges of its own primary key, and groups the hashes of the rows by REMOTE's primary
key: LOCAL translates its keys, also foreign ones, by joining the references. Hashes can be added in any order, so it
does not matter in which order the two sides meet a group. Only the rows of groups that do not cancel each other out are
compared one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Queue
from threading import Event, Thread
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction

from synchro.compare.columns import Columns
from synchro.engine.link import Link
from synchro.natural_keys import has_natural_key
from synchro.registry import ManyToMany, ModelClass, keeps_pk, many_to_many_of

#: Rows of 2 to the power of this many neighbouring keys are one group.
SHIFT = 5
#: So long may a query take, and so many keys does the first one cover.
_SECONDS = 0.5
_FIRST_SPAN = 20_000
#: hash_record_extended and bit_xor are new in this version.
_VERSION = 140_000
#: How values of each type are hashed: by value, and text byte by byte whatever its collation.
_CASTS = {
    **dict.fromkeys(("smallint", "integer", "bigint", "serial", "bigserial", "smallserial"), "{}::bigint"),
    **dict.fromkeys(("varchar", "text", "char", "character varying"), '({}::text COLLATE "C")'),
    **dict.fromkeys(("boolean", "date", "uuid", "bytea", "jsonb", "inet", "interval", "double precision"), "{}"),
    **dict.fromkeys(("timestamp with time zone", "timestamp without time zone", "time"), "{}"),
    **dict.fromkeys(("time without time zone", "numeric"), "{}"),
}
_PROBE = """
    SELECT hash_record_extended(ROW(
        1::bigint, ('ä'::text COLLATE "C"), 1.50::numeric, 0.1::double precision, true, date '2020-02-29',
        timestamptz '2020-02-29 12:00:00.5+00', time '12:00:00.5', interval '1 day 2 hours', '\\x00ff'::bytea,
        '9d2c2f1a-0000-4000-8000-00000000cafe'::uuid, '{"a": [1, null]}'::jsonb, inet '192.0.2.1'
    ), 0)
"""
_DIGEST = """
    SELECT bucket, count(*), bit_xor(hash) FROM (
        SELECT ({key}) >> {shift} AS bucket, hash_record_extended(ROW({columns}), 0) AS hash
        FROM {table} t {joins} WHERE t.{pk} >= %s AND t.{pk} < %s OFFSET 0
    ) hashed GROUP BY bucket
"""
_BOUNDS = "SELECT min({pk}), max({pk}) FROM {table}"
_WITHOUT_REFERENCE = """
    SELECT t.{pk} FROM {table} t {joins} WHERE t.{pk} >= %s AND t.{pk} < %s AND {key} IS NULL ORDER BY t.{pk} LIMIT %s
"""


@dataclass(slots=True)
class Suspects:
    """What checksums cannot vouch for."""

    #: LOCAL objects in all.
    total: int = 0
    #: The lowest and highest key of LOCAL that was read.
    bounds: tuple[int, int] = (0, -1)
    #: Groups of REMOTE's keys that are not the same on both sides: key >> SHIFT.
    buckets: list[int] = field(default_factory=list)
    #: Whether both sides have as many rows in each of them.
    is_balanced: bool = False
    #: Ranges of LOCAL's keys that hold objects without a reference.
    unreferenced: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Join:
    """How a LOCAL key becomes REMOTE's.

    Each is looked up in the index, so that the time needed grows with the rows of a range: a join would read all the
    references for every range. It is the first one from the key on, as only one index has that order: asked for the
    very key, a planner that knows nothing of the table may choose the index of REMOTE's keys, and read all of it.
    """

    alias: str
    column: str
    content_type_id: int

    @property
    def sql(self) -> str:
        return (
            "LEFT JOIN LATERAL ("
            f"SELECT CASE WHEN local_object_id = t.{self.column}::text THEN remote_object_id::bigint END AS key FROM ("
            f"SELECT r.local_object_id, r.remote_object_id FROM synchro_reference r WHERE r.peer = %s::uuid "
            f"AND r.content_type_id = {self.content_type_id} AND r.local_object_id >= t.{self.column}::text "
            f"ORDER BY r.local_object_id LIMIT 1) nearest) {self.alias} ON true"
        )

    @property
    def key(self) -> str:
        return f"{self.alias}.key"


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of one side, ready to be asked."""

    using: str
    table: str
    pk: str
    #: REMOTE's key of the row, or of its owner.
    key: str
    columns: tuple[str, ...]
    joins: tuple[str, ...] = ()
    peer: str = ""
    #: LOCAL's content type of the rows.
    type_id: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        joins = " ".join(self.joins)
        return {"table": self.table, "pk": self.pk, "key": self.key, "joins": joins, "shift": SHIFT}

    def digest(self, cursor: Any, low: int, high: int) -> list[tuple[int | None, int, int]]:
        """Return groups, with the number and the hash of their rows, of a range of the table's own keys."""
        sql = _DIGEST.format(columns=", ".join(self.columns), **self.parameters)
        with transaction.atomic(using=self.using):
            cursor.execute("SET LOCAL jit = off")  # compiling such a statement takes longer than running it
            cursor.execute(sql, [*[self.peer] * len(self.joins), low, high])
            rows: list[tuple[int | None, int, int]] = cursor.fetchall()
        return rows

    def bounds(self, cursor: Any) -> tuple[int, int] | None:
        """Return the lowest and the highest key."""
        cursor.execute(_BOUNDS.format(**self.parameters))
        low, high = cursor.fetchone()
        return None if low is None else (low, high)

    def without_reference(self, low: int, high: int, limit: int) -> list[int]:
        """Return the keys of rows whose key cannot be translated."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(
                _WITHOUT_REFERENCE.format(**self.parameters), [*[self.peer] * len(self.joins), low, high, limit]
            )
            return [pk for (pk,) in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tables of both sides: the model's own first, then those of its many-to-many relations."""

    local: tuple[_Table, ...]
    remote: tuple[_Table, ...]
    #: LOCAL's table, joined with its references.
    referenced: _Table
    #: Whether LOCAL's and REMOTE's primary keys are different numbers.
    is_mapped: bool

    def unreferenced(self, low: int, high: int, size: int) -> Iterator[list[int]]:
        """Yield the LOCAL keys of a range that no reference translates."""
        while pks := self.referenced.without_reference(low, high, size):
            yield pks
            low = pks[-1] + 1


def plan(link: Link, model: ModelClass) -> Plan | None:
    """Return how to compare a model by checksums; None where the two sides can only be compared row by row."""
    if not _can_hash_alike(link) or link.adopts_pks:
        return None
    columns = Columns(model)
    if _number_type(model) is None or any(isinstance(each, GenericForeignKey) for each in model._meta.private_fields):
        return None
    here = _Side(link, model, "t")
    if not all(map(here.add, columns.fields)):
        return None
    throughs = [_through(link, relation) for relation in many_to_many_of(model)]
    if None in throughs:
        return None
    own = here.tables(mapped=_is_mapped(model))
    local, remote = zip(own, *(each for each in throughs if each), strict=True)
    referenced, _ = _Side(link, model, "t").tables(mapped=True)
    return Plan(local, remote, referenced, is_mapped=_is_mapped(model))


def suspects(plan: Plan, *, sleep: float, on_rows: Callable[[int], None]) -> Suspects:
    """Compare both sides by checksums, at the same time.

    Args:
        sleep: seconds to rest after each query.
        on_rows: is told how many more of LOCAL's objects have been read; what it raises ends the comparison.
    """
    found = Suspects()
    balance: dict[int, tuple[int, int]] = {}
    answers: Queue[Any] = Queue(maxsize=100)
    stop = Event()
    threads = [
        Thread(target=_read, args=(tables, sleep, answers, stop, sign), daemon=True)
        for tables, sign in ((plan.local, 1), (plan.remote, -1))
    ]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            answer = answers.get()
            if answer is None:
                running -= 1
            elif isinstance(answer, BaseException):
                raise answer
            else:
                _add(balance, found, *answer, on_rows=on_rows)
        low, high = found.bounds
        if not plan.is_mapped and low <= high and _count_references(plan.referenced) < found.total:
            found.unreferenced.append((low, high + 1))
    finally:
        stop.set()
        while any(thread.is_alive() for thread in threads):
            _drain(answers)
            for thread in threads:
                thread.join(0.01)
    found.buckets = sorted(balance)
    found.is_balanced = not any(rows for rows, _ in balance.values())
    return found


def _read(tables: tuple[_Table, ...], sleep: float, answers: Queue[Any], stop: Event, sign: int) -> None:
    """Read one side's tables in a thread with a connection of its own, in ranges that take about the same time."""
    try:
        for number, table in enumerate(tables):
            with connections[table.using].cursor() as cursor:
                low, highest = table.bounds(cursor) or (0, -1)
                span = _FIRST_SPAN
                while low <= highest and not stop.is_set():
                    started = time.monotonic()
                    groups = table.digest(cursor, low, low + span)
                    answers.put((sign, number, (low, low + span), groups))
                    low += span
                    seconds = max(time.monotonic() - started, 0.001)
                    span = max(1000, int(span * min(4, max(0.25, _SECONDS / seconds))))
                    time.sleep(sleep)
    except BaseException as error:
        answers.put(error)
    else:
        answers.put(None)
    finally:
        connections.close_all()


def _add(
    balance: dict[int, tuple[int, int]],
    found: Suspects,
    sign: int,
    number: int,
    span: tuple[int, int],
    groups: list[tuple[int | None, int, int]],
    *,
    on_rows: Callable[[int], None],
) -> None:
    """Add what one query said; a group that cancels itself out is forgotten, so that the memory needed stays small."""
    is_local = sign > 0 and number == 0
    for bucket, count, digest in groups:
        if bucket is None:
            if is_local:
                found.unreferenced.append(span)
            continue
        rows, hashes = balance.get(bucket, (0, 0))
        total = rows + sign * count, hashes ^ digest
        if total == (0, 0):
            balance.pop(bucket, None)
        else:
            balance[bucket] = total
    if is_local:
        found.bounds = (found.bounds[0] if found.total else span[0]), span[1]
        count = sum(count for _, count, _ in groups)
        found.total += count
        on_rows(count)


def _count_references(table: _Table) -> int:
    with connections[table.using].cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM synchro_reference r0 WHERE peer = %s::uuid AND content_type_id = {table.type_id}",
            [table.peer],
        )
        return int(cursor.fetchone()[0])


def _drain(answers: Queue[Any]) -> None:
    while not answers.empty():
        answers.get_nowait()


# How the tables are asked


class _Side:
    """Collects the columns of a table: as LOCAL translates them, and as REMOTE has them."""

    def __init__(self, link: Link, model: ModelClass, kind: str) -> None:
        self.link = link
        self.model = model
        self.joins: list[_Join] = []
        self.ours: list[str] = []
        self.theirs: list[str] = []
        self.kind = kind

    def add(self, field: Any) -> bool:
        """Add a column; False where its values cannot be hashed alike."""
        column = f"t.{_quoted(self.link, field.column)}"
        if field.remote_field is None:
            return self._add_value(field, column)
        target = field.related_model._meta.concrete_model
        if target is ContentType or not field.target_field.primary_key or not field.db_constraint:
            return False
        if keeps_pk(target) and not has_natural_key(target):
            return self._add_value(_end(field), column)
        if _number_type(target) is None:
            return False
        join = self._join(field.column, target)
        # A target that REMOTE is not known to have is no NULL.
        self.ours.append(f"CASE WHEN {column} IS NULL THEN NULL ELSE coalesce({join.key}, -1) END")
        self.theirs.append(f"{column}::bigint")
        return True

    def tables(self, *, mapped: bool = False, by_first: bool = False) -> tuple[_Table, _Table]:
        """Return LOCAL's and REMOTE's table.

        Args:
            mapped: translate the primary key.
            by_first: group the rows by the first column instead of the primary key.
        """
        column: Any = self.model._meta.pk.column
        pk = _quoted(self.link, column)
        ours = theirs = f"t.{pk}::bigint"
        if by_first:
            ours, theirs = self.ours[0], self.theirs[0]
        elif mapped:
            ours = self._join(column, self.model).key
        table = _quoted(self.link, self.model._meta.db_table)
        kind = f"'{self.kind}'::text"
        joins = tuple(each.sql for each in self.joins)
        peer = str(self.link.remote_identity)
        type_id = ContentType.objects.db_manager(self.link.local).get_for_model(self.model).pk
        local = _Table(self.link.local, table, pk, ours, (kind, ours, *self.ours), joins, peer, type_id)
        return local, _Table(self.link.remote, table, pk, theirs, (kind, theirs, *self.theirs))

    def _add_value(self, field: Any, column: str) -> bool:
        cast = _cast(self.link, field)
        if cast is None:
            return False
        self.ours.append(cast.format(column))
        self.theirs.append(cast.format(column))
        return True

    def _join(self, column: str, target: ModelClass) -> _Join:
        type_id = ContentType.objects.db_manager(self.link.local).get_for_model(target).pk
        join = _Join(f"r{len(self.joins)}", _quoted(self.link, column), type_id)
        self.joins.append(join)
        return join


def _through(link: Link, relation: ManyToMany) -> tuple[_Table, _Table] | None:
    if _number_type(relation.owner) is None or _number_type(relation.through) is None:
        return None
    side = _Side(link, relation.through, relation.through._meta.db_table)
    if not (side.add(relation.source) and side.add(relation.target)):
        return None
    return side.tables(by_first=True)


def _is_mapped(model: ModelClass) -> bool:
    return not keeps_pk(model) or has_natural_key(model)


def _number_type(model: ModelClass) -> str | None:
    """Return the type of a primary key that is a whole number; None for any other."""
    pk: Any = model._meta.pk
    if not hasattr(pk, "column") or pk.column is None:
        return None
    internal = _end(pk).get_internal_type()
    return str(internal) if internal.endswith(("IntegerField", "AutoField")) else None


def _end(field: Any) -> Any:
    while field.remote_field is not None:
        field = field.target_field
    return field


def _cast(link: Link, field: Any) -> str | None:
    types = {(field.db_type(connections[using]) or "").partition("(")[0] for using in (link.local, link.remote)}
    return _CASTS.get(types.pop()) if len(types) == 1 else None


def _quoted(link: Link, name: str) -> str:
    return str(connections[link.local].ops.quote_name(name))


def _can_hash_alike(link: Link) -> bool:
    """Tell whether both servers are PostgreSQL and compute the same hash of the same values."""
    pair = connections[link.local], connections[link.remote]
    if any(connection.vendor != "postgresql" for connection in pair):
        return False
    answers = set()
    for connection in pair:
        if connection.pg_version < _VERSION:  # type: ignore[attr-defined]
            return False
        with connection.cursor() as cursor:
            cursor.execute(_PROBE)
            answers.add(cursor.fetchone()[0])
    return len(answers) == 1
