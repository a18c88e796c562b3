"""Drawn values in all pairs of vendors: equal on arrival, or one failed entry that names field and reason."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

from django.db import transaction
from django.db.models import JSONField
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from synchro import engine
from synchro.compare.report import Kind
from synchro.models import ChangeLog, Reference
from tests.assertions import comparable
from tests.comparing import full
from tests.databases import Pair, vendor_of
from tests.values.models import Everything

#: What a vendor may well refuse is drawn often: it must be refused by name.
CHARACTERS = st.one_of(st.characters(), st.sampled_from("\0\ud800🐘é '\"\\%"))
TEXT = st.text(CHARACTERS, max_size=20)
INTEGERS = st.one_of(
    st.integers(-(2**15) - 2, 2**15 + 2),
    st.sampled_from([sign * (2**bits) + off for bits in (31, 32, 63, 64) for sign in (-1, 1) for off in (-1, 0, 1)]),
)
MOMENTS = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]),
)
FLOATS = st.one_of(st.floats(), st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]))
DECIMALS = st.one_of(
    st.decimals(-(10**14), 10**14, places=6),
    st.decimals(-100, 100, places=6),
    st.sampled_from([Decimal("NaN"), Decimal("99999999999999.999999"), Decimal("0.000001"), Decimal("-0")]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from([1e23, -0.0, 2**70])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ADDRESSES = st.one_of(st.ip_addresses().map(str), st.sampled_from(["::ffff:1.2.3.4", "::1.2.3.4", "::"]))

DRAWN: dict[str, SearchStrategy[Any]] = {
    "big_integer": INTEGERS,
    "binary": st.binary(max_size=300),
    "boolean": st.booleans(),
    "char": st.one_of(TEXT, st.sampled_from(["x" * 200, "x" * 201, "x" * 200 + "  ", "🐘" * 200])),
    "date": st.dates(),
    "datetime": MOMENTS,
    "decimal": DECIMALS,
    "duration": st.one_of(st.timedeltas(), st.sampled_from([timedelta.min, timedelta.max, timedelta(days=10**6)])),
    "email": TEXT,
    "file": TEXT,
    "file_path": TEXT,
    "float": FLOATS,
    "generic_ip": ADDRESSES,
    "integer": INTEGERS,
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv4_unpacked": ADDRESSES,
    "ipv6": st.ip_addresses(v=6).map(str),
    "json": JSON,
    "json_encoded": JSON,
    "long_file": TEXT,
    "positive_big_integer": INTEGERS,
    "positive_integer": INTEGERS,
    "positive_small_integer": INTEGERS,
    "slug": TEXT,
    "small_integer": INTEGERS,
    "text": TEXT,
    "time": st.times(),
    "url": TEXT,
    "uuid": st.uuids(allow_nil=True),
}
#: A column, a first value of it, and what it is changed to.
CHANGES = st.lists(
    st.sampled_from(sorted(DRAWN)).flatmap(lambda name: st.tuples(st.just(name), DRAWN[name], DRAWN[name])),
    min_size=30,
    max_size=60,
)

Change = tuple[str, Any, Any]


def test_all_columns_are_drawn() -> None:
    assert set(DRAWN) == {field.name for field in Everything._meta.concrete_fields} - {"id"}


def test_values_arrive_or_are_refused_by_name(every_pair: Pair) -> None:
    """Each value in an object of its own, all in one run: new, and changed. A comparison finds what was refused."""
    arrived: list[str] = []
    refused: list[str] = []
    there: set[int] = set()
    behind: set[int] = set()

    def sync_and_look(columns: dict[int, str]) -> None:
        reasons = {int(each.object_id): each.error for each in engine.sync_pending().failures}
        references = dict(Reference.objects.values_list("local_object_id", "remote_object_id"))
        ours = Everything.objects.in_bulk(columns)
        theirs = Everything.objects.using(every_pair.remote).in_bulk()
        for pk, name in columns.items():
            if pk in reasons:
                assert re.search(rf"^{name}: |['`.]{name}['`]", reasons[pk]), reasons[pk]
                refused.append(name)
                behind.add(pk)
            else:
                copy = theirs[int(references[str(pk)])]
                assert _exact(name, getattr(copy, name)) == _exact(name, getattr(ours[pk], name)), name
                arrived.append(name)
                behind.discard(pk)
                there.add(pk)

    # Making an example smaller would take minutes, and the assertions name what differs.
    @settings(
        max_examples=15, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def check(changes: list[Change]) -> None:
        ChangeLog.objects.all().delete()
        made: dict[int, Change] = {}
        for each in changes:
            if (pk := save_if_local_takes_it(every_pair, each[0], each[1])) is not None:
                made[pk] = each
        sync_and_look({pk: name for pk, (name, _, _) in made.items()})
        changed = {
            pk: name for pk, (name, _, new) in made.items() if save_if_local_takes_it(every_pair, name, new, pk=pk)
        }
        sync_and_look(changed)

    check()
    # What was refused in earlier runs is pending no more.
    ChangeLog.objects.all().delete()
    tallies, notes = full(dry_run=True, models=("values.Everything",))
    assert tallies["Everything"].error == ""
    assert {(each.kind, int(each.key)) for each in notes.found} == {
        (Kind.DIFFERENT if pk in there else Kind.MISSING, pk) for pk in behind
    }
    # What is refused is the exception, and everything that is drawn arrives at one time or another.
    is_one_vendor = vendor_of(every_pair.local) == vendor_of(every_pair.remote)
    assert len(refused) <= (0 if is_one_vendor else len(arrived) // 5)
    assert len(set(arrived)) > len(DRAWN) - 3


def save_if_local_takes_it(pair: Pair, name: str, value: Any, *, pk: int | None = None) -> int | None:
    with suppress(Exception), transaction.atomic(using=pair.local):
        made = Everything(pk=pk, **{name: value})
        made.save(using=pair.local)
        # What LOCAL itself makes of a value is its own affair.
        Everything.objects.get(pk=made.pk)
        return made.pk
    return None


def _exact(name: str, value: Any) -> Any:
    """Return the value in a form that equals only what Python calls equal, and of the same type."""
    if isinstance(Everything._meta.get_field(name), JSONField):
        return _exact_json(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, str) and name in ("generic_ip", "ipv4_unpacked", "ipv6"):
        return ip_address(value)  # PostgreSQL writes some of them down in another way
    return comparable(value)


def _exact_json(value: Any) -> Any:
    """Return JSON in a form that equals only what is equal there: numbers by value (1e16 is 10000000000000000)."""
    if isinstance(value, dict):
        return {key: _exact_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact_json(each) for each in value]
    return ("bool", value) if isinstance(value, bool) else value
