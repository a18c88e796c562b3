"""Which rows can differ at all, told by checksums that two servers of one vendor compute at the same time.

Each side reads its table once, in ranges of its own primary key, and groups the hashes of the rows by REMOTE's primary
key: LOCAL translates its keys, also foreign ones, by joining the references. Hashes can be added in any order, so it
does not matter in which order the two sides meet a group. Only the rows of groups that do not cancel each other out are
compared one by one.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple, Self

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction

from synchro.compare.columns import Columns
from synchro.compare.dialects import SHIFT, Dialect, common
from synchro.compare.threads import produced, see_the_same
from synchro.engine.link import Link
from synchro.engine.timeouts import bounded
from synchro.models import Reference
from synchro.natural_keys import has_natural_key
from synchro.registry import ManyToMany, ModelClass, keeps_pk, many_to_many_of
from synchro.rows import batched

#: So long may a query take, and so many groups may it return.
_SECONDS = 0.5
_MOST_GROUPS = 20_000
#: About so many rows is the first query, and each query at least.
_FIRST_SPAN = 20_000
_LEAST_SPAN = 1000
#: Of so many groups is it remembered that they are not the same so far. Of more, neighbours are taken together.
_MOST_OPEN = 1 << 17
_BOUNDS = "SELECT min({pk}), max({pk}) FROM {table}"
_BEHIND = "SELECT {pk} FROM {table} WHERE {pk} >= %s ORDER BY {pk} LIMIT 1 OFFSET %s"
_WITHOUT_REFERENCE = """
    SELECT t.{pk} FROM {table} t {joins} WHERE t.{pk} >= %s AND t.{pk} < %s AND {key} IS NULL ORDER BY t.{pk} LIMIT %s
"""


@dataclass(slots=True)
class Scan:
    """How far both sides have been read, and what checksums cannot vouch for so far."""

    #: Where LOCAL and REMOTE are to be read next: the number of the table, and its lowest key; None where it begins.
    places: list[tuple[int, int | None]] = field(default_factory=lambda: [(0, None), (0, None)])
    is_complete: bool = False
    #: LOCAL objects that have been read, and the lowest and the highest of their keys.
    total: int = 0
    bounds: tuple[int, int] = (0, -1)
    #: Groups of REMOTE's keys (key >> shift) that are not the same on both sides: how many more rows LOCAL has, and
    #: the hashes of both. A group that cancels itself out is forgotten, so that the memory needed stays small.
    balance: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Groups are as large as those of the servers, or larger where REMOTE has its rows in quite another order.
    shift: int = SHIFT
    #: Ranges of LOCAL's keys that hold objects without a reference.
    unreferenced: list[tuple[int, int]] = field(default_factory=list)
    #: How many of them were met.
    strangers: int = 0

    @property
    def suspected(self) -> int:
        """How many objects may have to be compared one by one."""
        return (len(self.balance) << self.shift) + self.strangers

    @property
    def is_balanced(self) -> bool:
        """Whether both sides have as many rows in each group."""
        return not any(rows for rows, _ in self.balance.values())

    def groups(self, size: int) -> list[list[range]]:
        """Return the ranges of REMOTE's keys that may differ, in batches of about so many keys."""
        ranges = [range(bucket << self.shift, (bucket + 1) << self.shift) for bucket in sorted(self.balance)]
        return list(batched(ranges, max(size >> self.shift, 1)))

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        """Make a scan of what as_plain() returned, by way of JSON."""
        return cls(
            **{
                **values,
                "places": [(number, low) for number, low in values["places"]],
                "bounds": tuple(values["bounds"]),
                "balance": {bucket: (rows, digest) for bucket, rows, digest in values["balance"]},
                "unreferenced": [(low, high) for low, high in values["unreferenced"]],
            }
        )

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as JSON knows them."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**plain, "balance": [(bucket, *difference) for bucket, difference in self.balance.items()]}

    def add(self, answer: Answer) -> int:
        """Add what one query said, and return how many more of LOCAL's objects have been read."""
        sign = 1 if answer.side == 0 else -1
        is_local = answer.side == 0 and answer.number == 0
        for bucket, count, digest in answer.groups:
            if bucket is None:
                if is_local:
                    self.unreferenced.append(answer.span)
                    self.strangers += count
                continue
            self._weigh(bucket >> (self.shift - SHIFT), sign * count, digest)
        while len(self.balance) > _MOST_OPEN:
            self._take_together()
        low, high = answer.span
        self.places[answer.side] = answer.number, high
        if not is_local:
            return 0
        self.bounds = (self.bounds[0] if self.total else low), high
        self.total += answer.rows
        return answer.rows

    def _weigh(self, bucket: int, count: int, digest: int) -> None:
        rows, hashes = self.balance.get(bucket, (0, 0))
        total = rows + count, hashes ^ digest
        if total == (0, 0):
            self.balance.pop(bucket, None)
        else:
            self.balance[bucket] = total

    def _take_together(self) -> None:
        """Make one group of two: numbers and hashes can be added up in any order."""
        halves, self.balance = self.balance, {}
        self.shift += 1
        for bucket, difference in halves.items():
            self._weigh(bucket >> 1, *difference)


class Answer(NamedTuple):
    """What one query said of a range of keys of one table of one side."""

    side: int
    number: int
    span: tuple[int, int]
    groups: list[tuple[int | None, int, int]]

    @property
    def rows(self) -> int:
        """How many rows it is about."""
        return sum(count for _, count, _ in self.groups)


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of one side, ready to be asked."""

    dialect: Dialect
    using: str
    table: str
    pk: str
    #: REMOTE's key of the row, or of its owner.
    key: str
    columns: tuple[str, ...]
    joins: tuple[str, ...] = ()
    peer: Any = None
    #: LOCAL's content type of the rows.
    type_id: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        return {"table": self.table, "pk": self.pk, "key": self.key, "joins": " ".join(self.joins)}

    def digest(self, cursor: Any, low: int, high: int) -> list[tuple[int | None, int, int]]:
        """Return groups, with the number and the hash of their rows, of a range of the table's own keys."""
        sql = self.dialect.digest.format(row=self.dialect.row(self.columns), **self.parameters)
        with transaction.atomic(using=self.using):
            if self.dialect.prelude:
                cursor.execute(self.dialect.prelude)
            cursor.execute(sql, [*[self.peer] * len(self.joins), low, high])
            rows: list[tuple[int | None, int, int]] = cursor.fetchall()
        return rows

    def bounds(self, cursor: Any) -> tuple[int, int] | None:
        """Return the lowest and the highest key."""
        cursor.execute(_BOUNDS.format(**self.parameters))
        low, high = cursor.fetchone()
        return None if low is None else (low, high)

    def behind(self, cursor: Any, low: int, count: int) -> int | None:
        """Return the key that comes after so many rows from a key on; None where there are not as many."""
        cursor.execute(_BEHIND.format(**self.parameters), [low, count])
        row = cursor.fetchone()
        return None if row is None else int(row[0])

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
    """Return how to compare a model by checksums; None where the two sides can only be compared row by row.

    That is also so where REMOTE has no rows yet: then there is nothing to find out.
    """
    if link.adopts_pks or not see_the_same(link.local, link.remote) or _is_empty(link.remote, model):
        return None
    columns = Columns(model)
    dialect = common(link.local, link.remote)
    if dialect is None or _number_type(model) in (None, dialect.refused_key):
        return None
    if any(isinstance(each, GenericForeignKey) for each in model._meta.private_fields):
        return None
    here = _Side(link, dialect, model, "t")
    if not all(map(here.add, columns.fields)):
        return None
    throughs = [_through(link, dialect, relation) for relation in many_to_many_of(model)]
    if None in throughs:
        return None
    own = here.tables(mapped=_is_mapped(model))
    local, remote = zip(own, *(each for each in throughs if each), strict=True)
    referenced, _ = _Side(link, dialect, model, "t").tables(mapped=True)
    return Plan(local, remote, referenced, is_mapped=_is_mapped(model))


def read(plan: Plan, scan: Scan, *, sleep: float) -> Generator[int]:
    """Read both sides at the same time, from where the scan is; yield how many more of LOCAL's objects have been read.

    Args:
        sleep: seconds to rest after each query.
    """
    sides = [
        partial(_read, side, tables, *scan.places[side], sleep=sleep)
        for side, tables in enumerate((plan.local, plan.remote))
    ]
    # What one side has said of more rows than the other has to be remembered.
    with closing(produced(*sides, ahead=1, weight=lambda answer: answer.rows)) as answers:
        for answer in answers:
            yield scan.add(answer)
    low, high = scan.bounds
    if not plan.is_mapped and low <= high and _count_references(plan.referenced) < scan.total:
        scan.unreferenced.append((low, high + 1))
    scan.is_complete = True


def _read(side: int, tables: tuple[_Table, ...], first: int, start: int | None, *, sleep: float) -> Generator[Answer]:
    """Ask for the groups of one side's tables, in ranges that take about the same time.

    A range is never about more rows than its span: so many keys where rows are close together, and else so many rows.
    How long a range took that was almost empty says nothing about the next one.
    """
    for number, table in enumerate(tables[first:], first):
        connection = connections[table.using] if side == 0 else bounded(connections[table.using])
        with connection.cursor() as cursor:
            low, highest = table.bounds(cursor) or (0, -1)
            if number == first and start is not None:
                low = start
            span, is_dense = _FIRST_SPAN, True
            while low <= highest:
                high = low + span if is_dense else table.behind(cursor, low, span)
                if high is None:
                    high = highest + 1
                started = time.monotonic()
                groups = table.digest(cursor, low, high)
                seconds = max(time.monotonic() - started, 0.001)
                yield (answer := Answer(side, number, (low, high), groups))
                is_dense = answer.rows * 2 > high - low
                growth = min(_SECONDS / seconds, _MOST_GROUPS / max(len(groups), 1), 4)
                if answer.rows * 2 <= span:
                    growth = min(growth, 1)
                span = max(_LEAST_SPAN, int(span * max(growth, 0.25)))
                low = high
                time.sleep(sleep)


def _count_references(table: _Table) -> int:
    with connections[table.using].cursor() as cursor:
        peer = table.dialect.peer
        cursor.execute(
            f"SELECT count(*) FROM synchro_reference r0 WHERE peer = {peer} AND content_type_id = {table.type_id}",
            [table.peer],
        )
        return int(cursor.fetchone()[0])


# How the tables are asked


class _Side:
    """Collects the columns of a table: as LOCAL translates them, and as REMOTE has them."""

    def __init__(self, link: Link, dialect: Dialect, model: ModelClass, kind: str) -> None:
        self.link = link
        self.dialect = dialect
        self.model = model
        self.joins: list[str] = []
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
        key = self._join(field.column, target)
        # A target that REMOTE is not known to have is no NULL.
        self.ours.append(f"CASE WHEN {column} IS NULL THEN NULL ELSE coalesce({key}, -1) END")
        self.theirs.append(self.dialect.number.format(column))
        return True

    def tables(self, *, mapped: bool = False, by_first: bool = False) -> tuple[_Table, _Table]:
        """Return LOCAL's and REMOTE's table.

        Args:
            mapped: translate the primary key.
            by_first: group the rows by the first column instead of the primary key.
        """
        column: Any = self.model._meta.pk.column
        pk = _quoted(self.link, column)
        ours = theirs = self.dialect.number.format(f"t.{pk}")
        if by_first:
            ours, theirs = self.ours[0], self.theirs[0]
        elif mapped:
            ours = self._join(column, self.model)
        table = _quoted(self.link, self.model._meta.db_table)
        kind = self.dialect.text.format(self.kind)
        peer = Reference._meta.get_field("peer").get_db_prep_value(
            self.link.remote_identity, connections[self.link.local]
        )
        type_id = ContentType.objects.db_manager(self.link.local).get_for_model(self.model).pk
        local = _Table(
            self.dialect, self.link.local, table, pk, ours, (kind, ours, *self.ours), tuple(self.joins), peer, type_id
        )
        return local, _Table(self.dialect, self.link.remote, table, pk, theirs, (kind, theirs, *self.theirs))

    def _add_value(self, field: Any, column: str) -> bool:
        cast = self._cast(field)
        if cast is None:
            return False
        self.ours.append(cast.format(column))
        self.theirs.append(cast.format(column))
        return True

    def _cast(self, field: Any) -> str | None:
        pair = self.link.local, self.link.remote
        types = {(field.db_type(connections[using]) or "").partition("(")[0] for using in pair}
        return self.dialect.casts.get(types.pop()) if len(types) == 1 else None

    def _join(self, column: str, target: ModelClass) -> str:
        """Join the references of what a column points to, and return REMOTE's key."""
        connection = connections[self.link.local]
        type_id = ContentType.objects.db_manager(self.link.local).get_for_model(target).pk
        alias = f"r{len(self.joins)}"
        collation = Reference._meta.get_field("local_object_id").db_parameters(connection).get("collation")
        self.joins.append(self.dialect.join(alias, _quoted(self.link, column), type_id, collation or ""))
        return self.dialect.remote_key(alias)


def _through(link: Link, dialect: Dialect, relation: ManyToMany) -> tuple[_Table, _Table] | None:
    if _number_type(relation.owner) is None or _number_type(relation.through) is None:
        return None
    side = _Side(link, dialect, relation.through, relation.through._meta.db_table)
    if not (side.add(relation.source) and side.add(relation.target)):
        return None
    return side.tables(by_first=True)


def _is_empty(using: str, model: ModelClass) -> bool:
    return not model._base_manager.using(using).exists()


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


def _quoted(link: Link, name: str) -> str:
    return str(connections[link.local].ops.quote_name(name))
