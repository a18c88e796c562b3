"""Drawn values in all pairs of vendors: equal on arrival, or one failed entry that names field and reason."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import JSONField
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from synchro import engine
from synchro.models import ChangeLog, Reference
from tests.assertions import comparable
from tests.databases import Pair
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
    "generic_ip": st.ip_addresses().map(str),
    "integer": INTEGERS,
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
CHANGES = st.lists(
    st.sampled_from(sorted(DRAWN)).flatmap(lambda name: st.tuples(st.just(name), DRAWN[name])), min_size=30, max_size=60
)

Change = tuple[str, Any]


def test_all_columns_are_drawn() -> None:
    assert set(DRAWN) == {field.name for field in Everything._meta.concrete_fields} - {"id"}


def test_values_arrive_or_are_refused_by_name(every_pair: Pair) -> None:
    """Each value in an object of its own, all in one run."""

    # Making an example smaller would take minutes, and the assertions name what differs.
    @settings(
        max_examples=25, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def check(changes: list[Change]) -> None:
        ChangeLog.objects.all().delete()
        saved = {pk: name for name, value in changes if (pk := save_if_local_takes_it(every_pair, name, value))}
        refused = {int(each.object_id): each.error for each in engine.sync_pending().failures}
        references = dict(Reference.objects.values_list("local_object_id", "remote_object_id"))
        theirs = Everything.objects.using(every_pair.remote).in_bulk()
        for pk, name in saved.items():
            if pk in refused:
                assert re.search(rf"^{name}: |['`.]{name}['`]", refused[pk]), refused[pk]
            else:
                ours = getattr(Everything.objects.get(pk=pk), name)
                found = getattr(theirs[int(references[str(pk)])], name)
                in_json = isinstance(Everything._meta.get_field(name), JSONField)
                # In JSON, 1e16 is 10000000000000000.
                assert (found == ours) if in_json else (_exact(found) == _exact(ours)), name

    check()


def save_if_local_takes_it(pair: Pair, name: str, value: Any) -> int | None:
    with suppress(Exception), transaction.atomic(using=pair.local):
        made = Everything(**{name: value})
        made.save(using=pair.local)
        # What LOCAL itself makes of a value is its own affair.
        Everything.objects.get(pk=made.pk)
        return made.pk
    return None


def _exact(value: Any) -> Any:
    """Return the value in a form that equals only what Python calls equal, and of the same type."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    return comparable(value)
