"""What operators ask and do: how far everything is, what happened to an object, try again, discard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import Model
from django.test import override_settings
from django.utils import timezone

from synchro import engine, inspection, touch
from synchro.exceptions import SynchroError
from synchro.inspection import Backlog, Status
from synchro.inspection import status as status_module
from synchro.models import Attempt, ChangeLog, Hold, Reference, options
from synchro.signals import changes_logged
from tests import factories
from tests.assertions import assert_same_on_remote, counterpart
from tests.databases import Pair
from tests.faults import ambiguous_twin, unreachable
from tests.integration.test_capture import rolled_back
from tests.queries import queries
from tests.roads import sync
from tests.rows import attempt, entry, reference
from tests.shop.models import Article, Country, Haunted, Product, Tag, Twin
from tests.unwatched.models import Continent

State = ChangeLog.State
NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)
LATER = timezone.now() + timedelta(days=1)
AWAY = "The database could not be used."


def states() -> dict[str, State]:
    return {each.object_id: State(each.state) for each in ChangeLog.objects.order_by("pk")}


def some_of_everything() -> None:
    """Log changes in all states: of articles one of each, of tags one that is retried."""
    entry(object_id="new", date=NOW)
    entry(object_id="retrying", date=NOW - timedelta(days=1), attempts=2, next_attempt_at=LATER, reason="No.")
    entry(object_id="waiting", date=NOW, next_attempt_at=LATER, reason=AWAY)
    for state in (State.SYNCED, State.FAILED, State.SKIPPED, State.DISCARDED):
        entry(object_id=state.name.lower(), date=NOW - timedelta(days=9), state=state, reason="No.")
    entry(Tag, "retrying", attempts=1, next_attempt_at=LATER, reason="No.")


# How far everything is


def test_nothing_to_tell(pair: Pair) -> None:
    status = Status.read()

    assert status == Status(remote=pair.remote, last_check=None, last_checkpoint=None)
    assert (status.total, status.total.lag) == (Backlog(), timedelta())


def test_how_far_everything_is(each_vendor: Pair) -> None:
    some_of_everything()
    options.checked(NOW)
    Hold.objects.hold("shop.Tag", "No such column.")
    Hold.objects.hold("", AWAY)

    status = Status.read()

    assert (status.remote, status.last_check) == (each_vendor.remote, NOW)
    assert [each.label for each in status.holds] == ["", "shop.Tag"]
    assert list(status.models) == ["shop.Article", "shop.Tag"]
    oldest = NOW - timedelta(days=1)
    assert status.models["shop.Article"] == Backlog(3, 1, 1, 1, 1, 1, oldest)
    assert status.total == Backlog(4, 2, 1, 1, 1, 1, oldest)
    assert status.total.lag > timedelta(days=1)
    assert not status.is_capped


def test_counting_ends_somewhere(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "COUNTED", 3)
    for number in range(5):
        entry(object_id=str(number), date=NOW + timedelta(days=number))
    for number in range(2):
        entry(Tag, str(number), state=State.FAILED)

    status = Status.read()

    assert (status.total.pending, status.total.failed, status.total.oldest) == (3, 2, NOW)
    assert status.is_capped


def test_a_clock_that_went_back_makes_no_negative_lag(pair: Pair) -> None:
    entry(date=timezone.now() + timedelta(hours=1))

    assert Status.read().total.lag == timedelta()


def test_questions_read_no_more_of_a_long_log(postgres_pair: Pair) -> None:
    """PostgreSQL tells how many blocks it touches; the table of 200,000 entries has some 2,500."""
    content_type = ContentType.objects.get_for_model(Article).pk
    with connections[postgres_pair.local].cursor() as cursor:
        cursor.execute(
            "INSERT INTO synchro_changelog (content_type_id, object_id, action, date, state, attempts, reason) "
            "SELECT %s, (number %% 20)::text, 2, now() + number * interval '1 second', 2, 0, '' "
            "FROM generate_series(1, 200000) number",
            [content_type],
        )
        cursor.execute("VACUUM ANALYZE synchro_changelog")
    article = factories.article()
    some_of_everything()
    with queries(postgres_pair.local) as found:
        Status.read()
        inspection.explain(Article, "7")
        inspection.explain(Article, str(article.pk))
    asked = [each for each in found if each.startswith("SELECT")]

    def blocks(sql: str) -> int:
        with connections[postgres_pair.local].cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql.replace('%', '%%')}")
            plan = cursor.fetchone()[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    assert len(asked) > 10
    assert {sql: count for sql in asked if (count := blocks(sql)) > 200} == {}


# What happened to an object


def test_an_object_without_a_history(pair: Pair) -> None:
    history = inspection.explain(Article, "77")

    assert (history.label, history.object_id) == ("shop.Article", "77")
    assert history.outcome == "Nothing is logged of this object."
    assert (history.changes, history.attempts, history.references) == ([], [], [])
    assert str(history.remote) == "The object is on neither side."


def test_an_object_that_has_arrived(pair: Pair) -> None:
    article = factories.article()
    assert str(inspection.explain(Article, str(article.pk)).remote) == "The object is on LOCAL, and not on REMOTE."
    sync()
    article.save()
    sync()

    history = inspection.explain(Article, f" {article.pk}")

    assert history.object_id == str(article.pk)
    assert history.outcome == "Everything has arrived."
    assert [each.get_action_display() for each in history.changes] == ["changed", "added"]
    assert history.remote.pk == str(counterpart(article).pk) == history.references[0].remote_object_id
    assert str(history.remote) == "REMOTE's copy is the same."


def test_an_object_that_fails(pair: Pair) -> None:
    twin = ambiguous_twin(pair)
    engine.sync_object("shop.Twin", str(twin.pk), task_id="5f0c")

    history = inspection.explain(Twin, str(twin.pk))

    assert history.outcome.startswith("Failed 1 time, and is tried again at 2")
    assert [each.task_id for each in history.attempts] == ["5f0c"]
    assert str(history.remote).startswith("More than one shop.Twin on REMOTE")
    with override_settings(SYNCHRO_MAX_ATTEMPTS=1):
        engine.sync_pending()
    outcome = inspection.explain(Twin, str(twin.pk)).outcome
    assert outcome.startswith("Given up, until the object changes or an operator retries it: More than one shop.Twin")


def test_what_differs(pair: Pair) -> None:
    article = factories.article()
    sync()
    Article.objects.using(pair.remote).update(title="other")

    remote = inspection.explain(Article, str(article.pk)).remote

    assert str(remote) == "REMOTE's copy is different."
    assert [each.field for each in remote.differences] == ["title"]


def test_what_pending_changes_wait_for(pair: Pair) -> None:
    waiting = entry(object_id="1", next_attempt_at=NOW, reason=AWAY)

    def outcome() -> str:
        return inspection.explain(Article, "1").outcome

    assert outcome() == f"Waits, and is tried again at 2024-02-29 12:00:00: {AWAY}"
    ChangeLog.objects.filter(pk=waiting.pk).retry()
    assert outcome() == "Waits for its turn."
    Hold.objects.hold("shop.Tag", "Not this one.")
    assert outcome() == "Waits for its turn."
    Hold.objects.hold("shop.Article", "No such column.")
    assert outcome() == "Held back for now: No such column."


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.SKIPPED, "The newest change was not copied: REMOTE is newer."),
        (State.DISCARDED, "An operator has discarded the newest change: REMOTE keeps what it has."),
        (State.SYNCED, "Everything has arrived."),
    ],
)
def test_the_newest_change_says_what_became_of_it(pair: Pair, state: State, outcome: str) -> None:
    entry(object_id="1", state=State.SYNCED, date=NOW)
    entry(object_id="1", state=state, reason="REMOTE is newer.", date=NOW + timedelta(seconds=1))

    assert inspection.explain(Article, "1").outcome == outcome


def test_only_the_newest_changes_and_attempts_are_shown(pair: Pair) -> None:
    for number in range(60):
        state = State.SYNCED if number % 2 else State.SKIPPED
        entry(object_id="1", state=state, date=NOW + timedelta(minutes=number))
        attempt(object_id="1", date=NOW + timedelta(minutes=number))

    history = inspection.explain(Article, "1")

    newest = [NOW + timedelta(minutes=number) for number in range(59, 9, -1)]
    assert [each.date for each in history.changes] == newest
    assert [each.date for each in history.attempts] == newest


def test_references_to_all_peers_are_told(pair: Pair) -> None:
    rows = [reference(remote_object_id=str(number)) for number in range(3)]
    reference(Tag)

    assert {each.pk for each in inspection.explain(Article, "1").references} == {each.pk for each in rows}


def test_remote_is_away(sqlite_pair: Pair) -> None:
    article = factories.article()
    with unreachable(sqlite_pair.remote):
        history = inspection.explain(Article, str(article.pk))

    assert str(history.remote) == "unable to open database file"
    assert history.remote.pk is None
    assert len(history.changes) == 1


def test_a_remote_that_workers_leave_alone_is_not_asked(sqlite_pair: Pair) -> None:
    factories.article()
    Hold.objects.hold("", AWAY)

    with queries(sqlite_pair.remote) as asked:
        history = inspection.explain(Article, "1")

    assert asked == []
    assert str(history.remote) == f"REMOTE is not asked now: {AWAY}"


def test_a_hold_that_no_worker_looks_after_hides_nothing(pair: Pair) -> None:
    Hold.objects.hold("", AWAY)
    Hold.objects.update(next_try_at=timezone.now() - timedelta(hours=1))

    assert str(inspection.explain(Article, "1").remote) == "The object is on neither side."


@override_settings(SYNCHRO_REMOTE=None)
def test_there_is_no_remote(pair: Pair) -> None:
    assert str(inspection.explain(Article, "1").remote).startswith("SYNCHRO_REMOTE is not set")


@pytest.mark.parametrize("object_id", ["", "garbage", '["A"]', "9" * 300])
def test_an_id_that_is_no_primary_key(sqlite_pair: Pair, object_id: str) -> None:
    entry(object_id=object_id[:255])

    history = inspection.explain(Article, object_id[:255])

    assert len(history.changes) == 1


def test_models_are_found_by_their_label(pair: Pair) -> None:
    assert inspection.find_model("shop.article") is Article
    assert inspection.find_model("unwatched.Continent") is Continent
    for label in ("nonsense", "shop.Nothing", "", "a.b.c"):
        with pytest.raises(SynchroError, match="is no installed model"):
            inspection.find_model(label)


# Try again


def test_retry_makes_due_what_has_not_arrived(pair: Pair) -> None:
    some_of_everything()

    assert inspection.retry(ChangeLog.objects.of(Article)) == 4

    untouched = {"synced": State.SYNCED, "skipped": State.SKIPPED, "discarded": State.DISCARDED}
    pending = dict.fromkeys(("new", "waiting", "failed", "retrying"), State.PENDING)
    assert states() == untouched | pending
    assert ChangeLog.objects.of(Article).stuck().count() == 0
    assert ChangeLog.objects.of(Tag).stuck().count() == 1


def test_retry_in_many_batches(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro.inspection.actions._BATCH", 2)
    for number in range(5):
        entry(object_id=str(number), state=State.FAILED)

    assert inspection.retry(ChangeLog.objects.failed()) == 5
    assert set(states().values()) == {State.PENDING}


def test_a_retried_object_arrives_by_its_task(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """synchro_tasks hears of it as if the object had changed."""
    article = factories.article()
    ChangeLog.objects.update(state=State.FAILED, attempts=10)
    queued: list[Any] = []

    def run(body: Any, **kwargs: Any) -> None:
        queued.append(body[0])

    before_task_publish.connect(run)
    try:
        inspection.retry(ChangeLog.objects.failed())
    finally:
        before_task_publish.disconnect(run)

    assert queued == [("shop.Article", str(article.pk))]
    engine.sync_object(*queued[0])
    assert_same_on_remote(article)


def announced() -> tuple[list[Any], Any]:
    heard: list[Any] = []

    def listen(objects: Any, **kwargs: Any) -> None:
        heard.extend(objects)

    changes_logged.connect(listen, weak=False)
    return heard, listen


def test_retry_announces_when_the_transaction_commits(sqlite_pair: Pair, stale_type: ContentType) -> None:
    entry(object_id="1", state=State.FAILED)
    entry(object_id="1")
    entry(Continent, "2", state=State.FAILED)
    entry(content_type=stale_type, object_id="3", state=State.FAILED)
    heard, listen = announced()
    try:
        with rolled_back(sqlite_pair.local):
            inspection.retry(ChangeLog.objects.all())
        assert heard == []
        with transaction.atomic(using=sqlite_pair.local):
            assert inspection.retry(ChangeLog.objects.all()) == 4
            assert heard == []
    finally:
        changes_logged.disconnect(listen)

    assert heard == [("shop.Article", "1")]


def test_retry_of_all_of_this_kind(pair: Pair) -> None:
    chosen = entry(object_id="chosen", state=State.FAILED, reason="No.")
    entry(object_id="same", state=State.FAILED, reason="No.")
    entry(object_id="waits", attempts=1, next_attempt_at=LATER, reason="No.")
    entry(object_id="other reason", state=State.FAILED, reason="Never.")
    entry(Product, "other model", state=State.FAILED, reason="No.")
    entry(object_id="skipped", state=State.SKIPPED, reason="No.")

    assert inspection.retry_kinds(ChangeLog.objects.filter(pk=chosen.pk)) == 3

    assert set(ChangeLog.objects.stuck().values_list("object_id", flat=True)) == {"other reason", "other model"}
    assert inspection.retry_kinds(ChangeLog.objects.filter(pk=chosen.pk)) == 0


@pytest.mark.parametrize(
    ("chosen", "alike", "other"),
    [
        (
            "Waits for shop.City 12: more than one.",
            "Waits for shop.City 9c1f-qa: it does not arrive on REMOTE.",
            "Waits for shop.Country 12: more than one.",
        ),
        (
            "REMOTE's shop.Tag winter sale has the same title, which must be unique, and does not give it up.",
            "REMOTE's shop.Tag 7 has the same title, which must be unique, and does not give it up.",
            "REMOTE's shop.Tag 7 has the same slug, which must be unique, and does not give it up.",
        ),
        ("Rows point to it (3 shop.City).", "Rows point to it (12 shop.City).", "Rows point to it (3 shop.Club)."),
    ],
)
def test_objects_and_numbers_in_the_reason_make_no_other_kind(pair: Pair, chosen: str, alike: str, other: str) -> None:
    for reason in (chosen, alike, other):
        entry(object_id=reason[:200], state=State.FAILED, reason=reason)

    assert inspection.retry_kinds(ChangeLog.objects.filter(reason=chosen)) == 2

    assert ChangeLog.objects.stuck().get().reason == other


# Discard


def test_discard(pair: Pair) -> None:
    some_of_everything()

    assert inspection.discard(ChangeLog.objects.of(Article)) == 4

    assert set(states().values()) == {State.PENDING, State.SYNCED, State.SKIPPED, State.DISCARDED}
    discarded = ChangeLog.objects.get(object_id="failed")
    assert (discarded.state, discarded.reason, discarded.next_attempt_at) == (State.DISCARDED, "No.", None)
    assert discarded.synced_at is not None


def test_a_discarded_change_is_not_copied_until_the_object_changes(pair: Pair) -> None:
    article = factories.article()
    inspection.discard(ChangeLog.objects.all())
    assert engine.sync_pending().is_empty
    assert not Article.objects.using(pair.remote).exists()

    touch(article)
    sync()

    assert_same_on_remote(article)
    assert sorted(states().values()) == [State.SYNCED]
    assert ChangeLog.objects.filter(state=State.DISCARDED).count() == 1


def test_a_discarded_parent_comes_along_with_its_child(pair: Pair) -> None:
    city = factories.city()
    inspection.discard(ChangeLog.objects.of(Country))

    sync()

    assert_same_on_remote(city)
    assert_same_on_remote(city.country)


def test_a_discarded_delete_leaves_the_object_on_remote(pair: Pair) -> None:
    article = factories.article()
    sync()
    article.delete()
    inspection.discard(ChangeLog.objects.all())

    sync()

    assert Article.objects.using(pair.remote).count() == 1


def test_a_comparison_of_all_rows_finds_what_was_discarded(pair: Pair) -> None:
    changed, deleted = factories.article(), factories.article()
    sync()
    changed.title = "changed"
    changed.save()
    deleted.delete()
    added = factories.article()
    assert inspection.discard(ChangeLog.objects.all()) == 3

    call_command("synchronize", "shop.Article", full=True, max_delete="1", verbosity=0)

    assert_same_on_remote(changed)
    assert_same_on_remote(added)
    assert Article.objects.using(pair.remote).count() == 2


def test_a_change_that_is_discarded_while_it_is_copied_stays_discarded(pair: Pair) -> None:
    """A worker marks what it has taken, if it is still owed."""
    taken = entry(object_id="1")
    inspection.discard(ChangeLog.objects.all())

    assert ChangeLog.objects.mark_synced([taken.pk]) == 0
    ChangeLog.objects.all().record_failure(attempts=1, next_attempt_at=NOW, reason="No.")

    assert states() == {"1": State.DISCARDED}


def test_discarded_changes_are_pruned_like_others(pair: Pair) -> None:
    entry(object_id="old", state=State.DISCARDED, date=NOW)
    entry(object_id="new", state=State.DISCARDED)

    assert ChangeLog.objects.all().prune(NOW + timedelta(days=1), limit=10) == 1
    assert set(states()) == {"new"}


# Choosing


def chosen(**how: Any) -> set[str]:
    return set(inspection.choose(**how).values_list("object_id", flat=True))


def test_choosing(pair: Pair) -> None:
    some_of_everything()
    by_name: dict[str, ChangeLog] = {each.object_id: each for each in ChangeLog.objects.of(Article)}

    assert chosen() == set()
    assert chosen(ids=[by_name[name].pk for name in ("new", "failed", "synced")]) == {"new", "failed"}
    objects: list[tuple[type[Model], str]] = [(Article, "new"), (Tag, "retrying"), (Article, "skipped")]
    assert chosen(objects=objects) == {"new", "retrying"}
    assert chosen(models=[Article]) == {"retrying", "waiting", "failed"}
    assert chosen(ids=[by_name["new"].pk], models=[Tag]) == {"new", "retrying"}
    assert inspection.choose(everything=True).count() == 4


def test_attempts_of_a_retried_change_stay(pair: Pair) -> None:
    entry(object_id="1", state=State.FAILED)
    attempt(object_id="1")

    inspection.retry(ChangeLog.objects.all())

    assert Attempt.objects.count() == 1
    assert Reference.objects.count() == 0


# Values of rows


@pytest.mark.parametrize("wanted", [True, False])
def test_the_values_of_a_taken_key_are_kept_with_the_attempt_where_they_are_wanted(
    each_vendor: Pair, caplog: pytest.LogCaptureFixture, wanted: bool
) -> None:
    factories.make(Haunted, name="s3cr3t", using=each_vendor.remote)
    haunted = factories.make(Haunted, name="s3cr3t")
    with override_settings(SYNCHRO_LOG_VALUES=wanted):
        (failure,) = engine.sync_pending().failures

    kept = Attempt.objects.get()
    assert kept.object_id == str(haunted.pk)
    assert ("s3cr3t" in kept.message) == wanted
    for text in (failure.error, ChangeLog.objects.get().reason, caplog.text, kept.traceback):
        assert "s3cr3t" not in text
