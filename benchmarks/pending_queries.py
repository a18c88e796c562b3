"""The questions that are asked of the log again and again, with a few pending entries beside very many settled ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.models import Min
from django.db.models.functions import Mod
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from benchmarks.content import add_rows
from benchmarks.databases import LOCAL, empty, fetch, settle
from benchmarks.dispatching import without_dispatch
from benchmarks.history import add_synced_entries
from benchmarks.models import Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import median, seconds
from synchro import engine, touch
from synchro.inspection import Status
from synchro.models import ChangeLog

_BATCH = 500
_TURNS = 21

Question = Callable[[], object]
#: A node of a plan as PostgreSQL tells it.
Node = Mapping[str, Any]


def measure(sizes: Sizes) -> Result:
    """Time the questions and look at PostgreSQL's plans for them."""
    _prepare(sizes)
    questions = dict(_questions())
    times: dict[str, list[float]] = {name: [] for name in questions}
    for _ in range(_TURNS):
        for name, question in questions.items():
            times[name].append(seconds(question))
    plans = {name: _plans(question) for name, question in questions.items()}
    rows = [{"question": name, "median ms": 1000 * median(times[name]), **_how(plans[name])} for name in questions]
    return Result(
        name="pending_queries",
        title=f"Questions to a log of {sizes.synced_entries:,} settled and {sizes.pending_entries:,} pending entries",
        rows=rows,
        goals=[Goal(f"{row['question']}: scans of whole tables", int(row["table scans"]), most=0) for row in rows],
        details={"plans": plans},
    )


def _prepare(sizes: Sizes) -> None:
    """Fill the log; of the pending entries a tenth has failed and is due again, and another tenth is not due yet."""
    empty()
    add_rows(sizes.pending_entries)
    add_synced_entries(sizes.synced_entries)
    with without_dispatch():
        touch(Row.objects.all())
    now = timezone.now()
    for remainder, moment in ((0, now - timedelta(minutes=1)), (1, now + timedelta(hours=1))):
        some = ChangeLog.objects.pending().alias(remainder=Mod("id", 10)).filter(remainder=remainder)
        some.update(attempts=1, next_attempt_at=moment)
    settle()


def _questions() -> Iterator[tuple[str, Question]]:
    """Yield what the engine, the tasks and the page ask, each with what it is for."""
    log = ChangeLog.objects.all()
    newest = log.latest("id").pk
    ids = list(log.pending().order_by("id").values_list("object_id", flat=True)[:_BATCH])
    ordered = log.of(Row).filter(id__gt=0, id__lte=newest).order_by("id")
    some = log.unsettled().of_objects(Row, ids).order_by("id")
    one = log.pending().of_objects(Row, ids[:1])
    long_ago = timezone.now() - timedelta(days=36_500)
    yield (
        f"next {_BATCH} pending entries of a model",
        lambda: list(ordered.pending().values_list("id", "object_id")[:_BATCH]),
    )
    yield (
        f"next {_BATCH} of them that are due",
        lambda: list(ordered.due(timezone.now()).values_list("id", "object_id")[:_BATCH]),
    )
    yield f"unsettled entries of {len(ids)} objects", lambda: list(some.values_list("id", "object_id", "action"))
    yield "pending entries of one object", lambda: one.aggregate(Min("id"))
    yield "models with pending entries", log.models_with_pending
    yield "number of pending entries", engine.count_pending
    yield "synced entries to prune, where there are none", lambda: log.prune(long_ago, limit=1000)
    yield "the page: entries by state, oldest pending", Status.read


def _plans(question: Question) -> list[Node]:
    """Return the plans of all statements about the log that a question takes."""
    with CaptureQueriesContext(connections[LOCAL]) as captured:
        question()
    statements = [each["sql"] for each in captured.captured_queries if ChangeLog._meta.db_table in each["sql"]]
    return [_explain(statement) for statement in statements]


def _explain(statement: str) -> Node:
    (answer,) = fetch(LOCAL, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".replace("%", "%%"))
    plan: Node = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return plan


def _how(plans: Sequence[Node]) -> dict[str, Cell]:
    """Return how PostgreSQL finds the rows: its scans of whole tables, the indexes it uses, and rows read in vain."""
    nodes = [node for plan in plans for node in _nodes(plan)]
    indexes = sorted({node["Index Name"] for node in nodes if "Index Name" in node})
    return {
        "statements": len(plans),
        "table scans": sum(node["Node Type"] == "Seq Scan" for node in nodes),
        "rows read": sum(int(node["Actual Rows"] * node["Actual Loops"]) for node in nodes if "Plans" not in node),
        "rows dropped": sum(int(node.get("Rows Removed by Filter", 0)) for node in nodes),
        "indexes": ", ".join(indexes),
    }


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
