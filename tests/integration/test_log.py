"""The log's rows: selections, state changes, the last check, and the cost of finding what is pending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.utils import timezone

from synchro import reset_synchro
from synchro.models import Attempt, ChangeLog, Option, Reference, options
from tests.databases import Pair
from tests.shop.models import Article, City

State = ChangeLog.State
NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


def entry(object_id: str = "1", *, model: type = Article, **values: Any) -> ChangeLog:
    """Append an entry as it is, without a change that it tells of."""
    content_type = ContentType.objects.get_for_model(model)
    defaults: dict[str, Any] = {
        "content_type": content_type,
        "object_id": object_id,
        "action": ChangeLog.Action.CHANGE,
        "date": NOW,
    }
    return ChangeLog.objects.create(**{**defaults, **values})


def states() -> dict[str, State]:
    return {each.object_id: State(each.state) for each in ChangeLog.objects.order_by("pk")}


def test_selections(each_vendor: Pair) -> None:
    entry("new")
    entry("waits", next_attempt_at=NOW + timedelta(microseconds=1))
    entry("due", next_attempt_at=NOW)
    for state in (State.SYNCED, State.FAILED, State.SKIPPED):
        entry(str(state.label), state=state)
    entry("other", model=City)
    log = ChangeLog.objects.order_by("pk")

    def ids(selected: Any) -> list[str]:
        return [each.object_id for each in selected]

    assert ids(log.pending()) == ["new", "waits", "due", "other"]
    assert ids(log.due(NOW)) == ["new", "due", "other"]
    assert ids(log.failed()) == ["failed"]
    assert ids(log.skipped()) == ["skipped"]
    assert ids(log.of(Article).due(NOW)) == ["new", "due"]
    assert ids(log.of_objects(Article, ["due", "other", "failed"])) == ["due", "failed"]


def test_object_ids_are_compared_exactly(each_vendor: Pair) -> None:
    for object_id in ("qa", "QA", "qá", "qa "):
        entry(object_id)

    for object_id in ("qa", "QA", "qá", "qa "):
        assert [each.object_id for each in ChangeLog.objects.of_objects(Article, [object_id])] == [object_id]


def test_references_tell_case_and_accents_apart(each_vendor: Pair) -> None:
    content_type = ContentType.objects.get_for_model(Article)
    for number, object_id in enumerate(("qa", "QA", "qá")):
        Reference.objects.create(
            peer=Reference.ANONYMOUS, content_type=content_type, local_object_id=object_id, remote_object_id=str(number)
        )

    assert Reference.objects.get(local_object_id="QA").remote_object_id == "1"


def test_marking_settles_what_is_owed_to_remote(pair: Pair) -> None:
    entries = [
        entry("pending", next_attempt_at=NOW, reason="Away."),
        entry("failed", state=State.FAILED, reason="No."),
        entry("synced", state=State.SYNCED),
        entry("skipped", state=State.SKIPPED, reason="Newer."),
    ]
    entry("later")

    assert ChangeLog.objects.mark_synced([each.pk for each in entries]) == 2

    assert states() == {
        "pending": State.SYNCED,
        "failed": State.SYNCED,
        "synced": State.SYNCED,
        "skipped": State.SKIPPED,
        "later": State.PENDING,
    }
    settled = ChangeLog.objects.get(object_id="pending")
    assert (settled.next_attempt_at, settled.reason) == (None, "")
    assert settled.synced_at is not None
    assert timezone.now() - settled.synced_at < timedelta(minutes=1)
    assert ChangeLog.objects.get(object_id="synced").synced_at is None


def test_skipping_keeps_the_reason(pair: Pair) -> None:
    skipped = entry("a")

    assert ChangeLog.objects.mark_skipped({skipped.pk: "REMOTE is newer."}) == 1
    assert ChangeLog.objects.mark_skipped({skipped.pk: "Again?"}) == 0

    skipped.refresh_from_db()
    assert (skipped.state, skipped.reason) == (State.SKIPPED, "REMOTE is newer.")


def test_as_many_reasons_as_entries(each_vendor: Pair) -> None:
    """As in a large batch that loses against REMOTE; however large its batches are."""
    ChangeLog.objects.append_changes(Article, [str(number) for number in range(15_000)])
    reasons = {
        pk: f"REMOTE changed it {object_id}." for pk, object_id in ChangeLog.objects.values_list("pk", "object_id")
    }

    assert ChangeLog.objects.mark_skipped(reasons) == 15_000

    assert dict(ChangeLog.objects.skipped().values_list("pk", "reason")) == reasons


@pytest.mark.parametrize(("later", "state"), [(NOW + timedelta(minutes=5), State.PENDING), (None, State.FAILED)])
def test_what_failed_waits_for_its_next_attempt_or_is_given_up(
    pair: Pair, later: datetime | None, state: State
) -> None:
    failed = entry("a", attempts=1)

    ChangeLog.objects.of_objects(Article, ["a"]).record_failure(attempts=2, next_attempt_at=later, reason="Too long.")

    failed.refresh_from_db()
    assert (failed.state, failed.attempts, failed.reason) == (state, 2, "Too long.")
    assert failed.next_attempt_at == later


def test_a_failure_leaves_settled_entries_alone(pair: Pair) -> None:
    entry("a", state=State.SYNCED, synced_at=NOW)

    ChangeLog.objects.all().record_failure(attempts=1, next_attempt_at=NOW, reason="No.")

    settled = ChangeLog.objects.get()
    assert (settled.state, settled.attempts, settled.reason) == (State.SYNCED, 0, "")


def test_retry_takes_failed_and_waiting_entries(pair: Pair) -> None:
    entry("failed", state=State.FAILED, attempts=10, reason="No.")
    entry("waits", attempts=3, next_attempt_at=NOW + timedelta(days=1), reason="No.")
    entry("synced", state=State.SYNCED, attempts=1)
    entry("skipped", state=State.SKIPPED, reason="Newer.")

    assert ChangeLog.objects.all().retry() == 2

    assert states() == {
        "failed": State.PENDING,
        "waits": State.PENDING,
        "synced": State.SYNCED,
        "skipped": State.SKIPPED,
    }
    for each in ChangeLog.objects.pending():
        assert (each.attempts, each.next_attempt_at, each.reason) == (0, None, "")


# options.last_check


def test_there_is_no_last_check_at_first(pair: Pair) -> None:
    assert options.last_check is None


def test_last_check_keeps_zone_and_microseconds(each_vendor: Pair) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    options.last_check = moment

    assert options.last_check == moment
    assert options.last_check.tzinfo is not None
    assert Option.objects.using(each_vendor.remote).count() == 0


def test_last_check_decides_what_is_pending(each_vendor: Pair) -> None:
    tick = timedelta(microseconds=1)
    entry("before", date=NOW - tick)
    entry("at", date=NOW, state=State.FAILED, attempts=10, reason="No.")
    entry("after", date=NOW + tick, state=State.SYNCED, synced_at=NOW)
    entry("later", date=NOW + timedelta(days=1), state=State.SKIPPED, reason="Newer.")

    options.last_check = NOW

    assert states() == {
        "before": State.SYNCED,
        "at": State.SYNCED,
        "after": State.PENDING,
        "later": State.PENDING,
    }
    for each in ChangeLog.objects.pending():
        assert (each.synced_at, each.attempts, each.next_attempt_at, each.reason) == (None, 0, None, "")


def test_reset_forgets_local_and_leaves_remote(pair: Pair) -> None:
    content_type = ContentType.objects.get_for_model(Article)
    remote_type = ContentType.objects.db_manager(pair.remote).get_for_model(Article)
    entry("a")
    Reference.objects.create(
        peer=Reference.ANONYMOUS, content_type=content_type, local_object_id="1", remote_object_id="2"
    )
    Reference.objects.using(pair.remote).create(
        peer=Reference.ANONYMOUS, content_type=remote_type, local_object_id="2", remote_object_id="1"
    )
    Option.objects.create(key=Option.IDENTITY, value="me")
    before = timezone.now()

    reset_synchro()

    assert ChangeLog.objects.count() == 0
    assert Reference.objects.count() == 0
    assert Reference.objects.using(pair.remote).count() == 1
    assert Option.objects.get(key=Option.IDENTITY).value == "me"
    assert options.last_check is not None
    assert before <= options.last_check <= timezone.now()


# Words


def test_rows_can_be_printed(pair: Pair) -> None:
    content_type = ContentType.objects.get_for_model(Article)
    attempt = Attempt(content_type=content_type, object_id="5", error="IntegrityError", message="No.")
    reference = Reference(content_type=content_type, local_object_id="5", remote_object_id="7")

    assert str(entry("5")) == "shop.article 5: changed"
    assert str(attempt) == "shop.article 5: IntegrityError"
    assert str(reference) == "shop.article: 5 - 7"
    assert str(Option(key="identity", value="me")) == "identity = me"


# What finding the pending entries costs beside a long history


@pytest.fixture
def history(postgres_pair: Pair) -> Pair:
    """200,000 synced entries, then 2,000 pending ones of 20,000 objects."""
    content_type = ContentType.objects.get_for_model(Article).pk
    with connections[postgres_pair.local].cursor() as cursor:
        for state, count in ((State.SYNCED, 200_000), (State.PENDING, 2_000)):
            cursor.execute(
                "INSERT INTO synchro_changelog (content_type_id, object_id, action, date, state, attempts, reason) "
                "SELECT %s, (number %% 20000)::text, 2, now(), %s, 0, '' FROM generate_series(1, %s) number",
                [content_type, state, count],
            )
        cursor.execute("VACUUM ANALYZE synchro_changelog")
    return postgres_pair


def blocks_read(pair: Pair, sql: str, params: Any) -> int:
    """Return how many blocks PostgreSQL touches for a query: what it costs, whatever else the machine does."""
    with connections[pair.local].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
        plan = cursor.fetchone()[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_pending_entries_are_found_without_reading_the_history(history: Pair) -> None:
    log = ChangeLog.objects.all()
    first = log.pending().order_by("id")[0].pk
    in_order = log.pending().of(Article).order_by("id")
    some = [str(number) for number in range(500)]
    questions = {
        "next batch": in_order.filter(id__gt=0).values_list("id", "object_id")[:500],
        "later batch": in_order.filter(id__gt=first + 700).values_list("id", "object_id")[:500],
        "due batch": log.due(timezone.now()).of(Article).order_by("id").values_list("object_id")[:499],
        "another model": log.pending().of(City).filter(id__gt=0).order_by("id").values_list("id")[:500],
        "one object": log.pending().of_objects(Article, ["77"]).values_list("id"),
        "500 objects": log.pending().of_objects(Article, some).values_list("id"),
        "all": log.pending().values_list("id"),
    }

    blocks = {name: blocks_read(history, *question.query.sql_with_params()) for name, question in questions.items()}

    # The whole table has some 2,500 blocks; each object costs the three levels of an index and its row.
    allowed = {name: 2_000 if name == "500 objects" else 100 for name in questions}
    assert {name: count for name, count in blocks.items() if count > allowed[name]} == {}
