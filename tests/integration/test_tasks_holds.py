"""REMOTE down, or a table missing: workers leave it alone together, burn no attempts, and go on when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import Any, TypeVar

import pytest
from django.db import connections
from django.db.models import Model
from django.db.models.signals import pre_save

from synchro import call_synchronize, engine
from synchro.engine import holds
from synchro.engine import run as engine_run
from synchro.exceptions import Held, ObjectsFailed
from synchro.models import Attempt, ChangeLog, Hold
from synchro.signals import synchro_alarm
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.faults import let_probe, unreachable, without_column
from tests.queries import kinds, queries
from tests.running import Queued, Run, run, run_task
from tests.shop.models import Article, Comment, Country, Passport, Product, Song
from tests.threads import PATIENCE, in_thread

M = TypeVar("M", bound=Model)


@pytest.fixture
def alarms() -> Iterator[list[tuple[str, str]]]:
    """The label and the reason of each alarm."""
    found: list[tuple[str, str]] = []

    def note(label: str, reason: str, **kwargs: Any) -> None:
        found.append((label, reason))

    synchro_alarm.connect(note)
    yield found
    synchro_alarm.disconnect(note)


def untouched() -> bool:
    """Whether no entry has been told that something went wrong."""
    entries = ChangeLog.objects.pending().values_list("attempts", "next_attempt_at", "reason")
    return set(entries) <= {(0, None, "")} and not Attempt.objects.exists()


# REMOTE as a whole


def test_tasks_end_and_leave_nothing_in_the_broker(
    sqlite_pair: Pair, alarms: list[tuple[str, str]], queued: Queued, retried: list[dict[str, Any]]
) -> None:
    articles = [factories.article() for _ in range(3)]
    queued.clear()

    with unreachable(sqlite_pair.remote):
        ends = [run("shop.Article", str(article.pk)) for article in articles]

    sentence = "REMOTE cannot be used for now: unable to open database file. "
    sentence += "Everything that has not arrived stays pending."
    assert ends == [Run("SUCCESS", None, sentence)] * 3
    assert alarms == [("", "unable to open database file")]
    assert untouched()
    assert queued == retried == []


def test_a_worker_that_knows_nothing_is_no_second_one_to_try(sqlite_pair: Pair) -> None:
    article = factories.article()

    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(article.pk))
        start_a_process()
        with tries(sqlite_pair.remote) as tried:
            assert run("shop.Article", str(article.pk)).state == "SUCCESS"

    assert tried == [], "it looks before it tries for the first time"
    assert untouched()


def start_a_process() -> None:
    """Let this process know as little as a new one does."""
    holds._met.clear()
    holds._has_looked = False


def test_a_retry_for_another_reason_ends_too_when_remote_is_away(
    sqlite_pair: Pair, retried: list[dict[str, Any]]
) -> None:
    article = factories.article()

    with unreachable(sqlite_pair.remote):
        assert run("shop.Article", str(article.pk), retries=1).state == "SUCCESS"

    assert retried == []
    assert untouched()


def test_a_task_that_ends_at_once_asks_local_once_and_remote_nothing(sqlite_pair: Pair) -> None:
    article = factories.article()
    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(article.pk))

        with queries(sqlite_pair.local) as local, tries(sqlite_pair.remote) as tried:
            run("shop.Article", str(article.pk))

    assert kinds(local) == ["SELECT synchro_hold"]
    assert tried == []


def test_one_task_tries_and_the_next_one_a_second_after_that_has_failed(sqlite_pair: Pair) -> None:
    articles = [factories.article() for _ in range(4)]
    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(articles[0].pk))
    let_probe()

    with tries(sqlite_pair.remote) as tried, unreachable(sqlite_pair.remote):
        for article in articles:
            run("shop.Article", str(article.pk))

        assert len(tried) == 1
        sleep(1.05)
        run("shop.Article", str(articles[0].pk))
        assert len(tried) == 2


def test_while_one_tries_nobody_else_does(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A REMOTE that keeps silent takes longer to try than until the next turn."""
    article = factories.article()
    Hold.objects.hold("", "Away.")
    start_a_process()
    let_probe()
    others: list[str] = []
    open_link = engine_run.open_link

    def slow() -> Any:
        sleep(1.05)
        others.append(in_thread(run, "shop.Article", str(article.pk)).result(PATIENCE).result)
        return open_link()

    monkeypatch.setattr(engine_run, "open_link", slow)

    assert run("shop.Article", str(article.pk)).result == "1 synced, 0 skipped, 0 failed"
    assert others == ["REMOTE cannot be used for now: Away. Everything that has not arrived stays pending."]


def test_a_probe_takes_a_new_connection(postgres_pair: Pair) -> None:
    """One that was kept may be silent for much longer than a new one takes to be refused."""
    article = factories.article()
    connections[postgres_pair.remote].ensure_connection()
    kept = connections[postgres_pair.remote].connection
    Hold.objects.hold("", "Away.")
    start_a_process()
    let_probe()

    assert run("shop.Article", str(article.pk)).result == "1 synced, 0 skipped, 0 failed"

    assert kept is not None
    assert kept.closed


def test_a_task_with_nothing_to_do_passes_its_turn_on(sqlite_pair: Pair) -> None:
    idle, article = synced(factories.article()), factories.article()
    Hold.objects.hold("", "Away.")
    start_a_process()
    let_probe()

    assert run("shop.Article", str(idle.pk)).result == "0 synced, 0 skipped, 0 failed"
    assert run("shop.Article", str(article.pk)).result == "1 synced, 0 skipped, 0 failed"


def test_a_turn_at_remote_is_not_wasted_by_a_model_that_is_held_itself(sqlite_pair: Pair) -> None:
    article, product = factories.article(), factories.product()
    Hold.objects.hold("", "Away.")
    start_a_process()
    let_probe()
    Hold.objects.hold("shop.Article", "No such column.")

    assert "shop.Article cannot be used" in run("shop.Article", str(article.pk)).result
    assert run("shop.Product", str(product.pk)).result == "1 synced, 0 skipped, 0 failed"


@contextmanager
def tries(alias: str) -> Iterator[list[int]]:
    """Count how often somebody wants a connection."""
    found: list[int] = []
    connection = connections[alias]
    connect = connection.connect

    def counted() -> None:
        found.append(1)
        connect()

    connection.connect = counted  # type: ignore[method-assign]
    yield found
    del connection.connect


def test_who_finds_it_back_brings_its_own_and_wakes_the_rest(sqlite_pair: Pair, queued: Queued) -> None:
    article, product = factories.article(), factories.product()
    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(article.pk))
    let_probe()
    queued.clear()

    assert run("shop.Article", str(article.pk)).result == "1 synced, 0 skipped, 0 failed"
    assert queued == [("synchro_tasks.checkpoint", [()])]
    assert not Hold.objects.held().exists()

    queued.clear()
    assert run("shop.Product", str(product.pk)).result == "1 synced, 0 skipped, 0 failed"
    assert queued == [], "once is enough"


def test_the_checkpoint_leaves_it_alone_too_and_brings_everything_when_it_is_back(sqlite_pair: Pair) -> None:
    article = factories.article()
    with unreachable(sqlite_pair.remote):
        run("shop.Article", str(article.pk))
        assert "REMOTE held: unable to open" in run_task("checkpoint").result
        let_probe()
        assert run_task("checkpoint").state == "FAILURE", "it was its turn"
    assert untouched()
    let_probe()

    assert run_task("checkpoint").result == "1 synced, 0 skipped, 0 failed, 0 old rows deleted"

    assert not Hold.objects.held().exists()


def test_it_is_let_go_also_when_nothing_is_left_to_do(sqlite_pair: Pair) -> None:
    Hold.objects.hold("", "Away.")
    let_probe()

    run_task("checkpoint")

    assert not Hold.objects.held().exists()


def test_it_stays_held_while_it_does_not_answer_and_nothing_is_left_to_do(postgres_pair: Pair) -> None:
    engine.sync_due()
    Hold.objects.hold("", "Away.")
    let_probe()

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(connections[postgres_pair.remote].settings_dict, "PORT", "1")
        engine.sync_pending()
        assert Hold.objects.held().exists(), "that a kept connection works says little"
        let_probe()
        with pytest.raises(Held):
            engine.sync_due()

    assert Hold.objects.held().exists()


def test_an_operator_s_synchronization_does_not_wait_for_its_turn_and_lets_go(pair: Pair) -> None:
    article = factories.article()
    Hold.objects.hold("", "Away.")

    call_synchronize()

    assert_same_on_remote(article)
    assert not Hold.objects.held().exists()


def test_a_remote_that_takes_nothing_is_held_although_it_answers(postgres_pair: Pair) -> None:
    articles = [factories.article() for _ in range(2)]
    with connections[postgres_pair.remote].cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")

    for article in articles:
        assert "read-only" in run("shop.Article", str(article.pk)).result
    assert untouched()

    connections[postgres_pair.remote].close()
    let_probe()
    assert run("shop.Article", str(articles[0].pk)).result == "2 synced, 0 skipped, 0 failed"


def test_a_local_that_is_away_holds_nothing_back(sqlite_pair: Pair) -> None:
    article = factories.article()

    with unreachable(sqlite_pair.local):
        assert run("shop.Article", str(article.pk)).state == "RETRY"

    assert not Hold.objects.held().exists()


def test_a_healthy_worker_never_asks_for_holds(pair: Pair) -> None:
    article = factories.article()
    run("shop.Article", str(article.pk))
    article.save()

    with queries(pair.local) as local:
        run("shop.Article", str(article.pk))

    assert not [statement for statement in local if "synchro_hold" in statement]


# A model whose table or column is missing


def test_a_model_without_its_column_is_held_with_one_alarm_and_others_flow(
    each_vendor: Pair, alarms: list[tuple[str, str]], queued: Queued
) -> None:
    articles = [factories.article() for _ in range(5)]
    product = factories.product()

    with without_column(each_vendor.remote, "shop_article", "title"):
        assert "shop.Article cannot be used for now" in run("shop.Article", str(articles[0].pk)).result
        start_a_process()
        assert "shop.Article cannot be used for now" in run("shop.Article", str(articles[1].pk)).result
        assert run("shop.Product", str(product.pk)).result == "1 synced, 0 skipped, 0 failed"
        assert "shop.Article held" in run_task("checkpoint").result

        assert [label for label, _ in alarms] == ["shop.Article"]
        assert "title" in alarms[0][1]
        assert untouched()
        let_probe()
        assert "shop.Article held" in run_task("checkpoint").result, "its probe has failed"

    let_probe()
    queued.clear()
    assert run("shop.Article", str(articles[0].pk)).result == "5 synced, 0 skipped, 0 failed"
    assert queued == [("synchro_tasks.checkpoint", [()])]
    assert not Hold.objects.held().exists()
    assert_in_step(Article, Product)


def test_a_missing_table_of_local_counts_too(pair: Pair) -> None:
    factories.article()

    with without_column(pair.local, "shop_article", "title"):
        assert list(engine.sync_due().held) == ["shop.Article"]

    let_probe()
    assert engine.sync_due().synced == 1
    assert not Hold.objects.held().exists()


def test_a_held_model_with_nothing_to_do_is_let_go_when_it_is_whole(pair: Pair) -> None:
    Hold.objects.hold("shop.Article", "No such column.")
    Hold.objects.hold("shop.NotWatchedAnyMore", "No such column.")
    let_probe()

    engine.sync_due()

    assert not Hold.objects.held().exists()


def test_what_needs_an_object_of_a_held_model_waits_for_it(pair: Pair) -> None:
    country = factories.country()
    city = factories.city(country=country)

    with without_column(pair.remote, "shop_country", "name"):
        report = engine.sync_object("shop.City", str(city.pk))
        assert [(each.object_id, each.waits) for each in report.failures] == [(str(city.pk), True)]
    assert Attempt.objects.count() == 0
    let_probe()

    engine.sync_due()
    engine.sync_due()

    assert_nothing_pending()
    assert_in_step(Country)


@contextmanager
def without_table(alias: str, table: str) -> Iterator[None]:
    """Let a database lack a table."""
    connection = connections[alias]
    quote = connection.ops.quote_name

    def rename(before: str, after: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {quote(before)} RENAME TO {quote(after)}")

    rename(table, "gone")
    try:
        yield
    finally:
        rename("gone", table)


def test_a_table_of_rows_that_might_point_to_a_deleted_object_need_not_be_there(each_vendor: Pair) -> None:
    song = factories.song()
    engine.sync_due()
    song.delete()

    with without_table(each_vendor.remote, "shop_playlist_songs"):
        assert engine.sync_due().synced == 1

    assert not Song.objects.using(each_vendor.remote).exists()


def synced(obj: M) -> M:
    engine.sync_due()
    return obj


NEEDED: dict[str, tuple[str, str | None, set[str], Callable[[], Any]]] = {
    "key of a row that points to it": (
        *("shop_city", "country_id", {"shop.Country"}),
        lambda: synced(factories.country()).delete(),
    ),
    "members to come": (
        *("shop_song", None, {"shop.Playlist", "shop.Song"}),
        lambda: factories.playlist(factories.song()),
    ),
    "members": ("shop_song", None, {"shop.Playlist"}, lambda: factories.playlist(synced(factories.song()))),
    "generic target": (
        *("shop_song", None, {"shop.Comment"}),
        lambda: factories.make(Comment, target=synced(factories.song())),
    ),
}


@pytest.mark.parametrize(("table", "column", "labels", "change"), NEEDED.values(), ids=NEEDED)
def test_tables_of_other_models_that_it_needs_count_too(
    pair: Pair,
    alarms: list[tuple[str, str]],
    table: str,
    column: str | None,
    labels: set[str],
    change: Callable[[], Any],
) -> None:
    change()
    lack = without_table(pair.remote, table) if column is None else without_column(pair.remote, table, column)

    with lack:
        for _ in range(2):
            assert engine.sync_due().held
            let_probe()
        assert {label for label, _ in alarms} == set(Hold.objects.values_list("label", flat=True)) == labels
        assert len(alarms) == len(labels)
        assert not Attempt.objects.exists()
    for _ in range(3):
        let_probe()
        engine.sync_due()

    assert_nothing_pending()
    assert not Hold.objects.held().exists()


def test_a_parent_that_lacks_a_column_on_local_stops_nobody_else(pair: Pair) -> None:
    passport = factories.make(Passport, employee=factories.employee())
    article = factories.article()

    with without_column(pair.local, "shop_employee", "name"):
        assert list(engine.sync_due().held) == ["shop.Employee"]
        report = engine.sync_object("shop.Passport", str(passport.pk))
        assert [each.waits for each in report.failures] in ([], [True])
    assert_same_on_remote(article)
    let_probe()

    engine.sync_due()
    engine.sync_due()

    assert_nothing_pending()
    assert_in_step(Passport)


@pytest.mark.parametrize("table", ["synchro_reference", "synchro_changelog", "synchro_option"])
def test_remote_is_held_while_it_lacks_one_of_synchro_s_tables(
    pair: Pair, alarms: list[tuple[str, str]], table: str
) -> None:
    article, product = synced(factories.article()), synced(factories.product())
    article.save()
    product.save()
    if table == "synchro_option":
        connections[pair.remote].close()  # who it is would be remembered

    with without_table(pair.remote, table):
        for label, each in (("shop.Article", article), ("shop.Product", product)):
            assert table in run(label, str(each.pk)).result
        assert f"REMOTE held: {table_missing(pair, table)}" in run_task("checkpoint").result
        let_probe()
        assert table in str(run_task("checkpoint").error)
        ChangeLog.objects.update(state=ChangeLog.State.SYNCED)
        let_probe()
        run_task("checkpoint")
        assert Hold.objects.held().exists(), "nothing to do is no sign that it works"
        ChangeLog.objects.update(state=ChangeLog.State.PENDING)
        assert [label for label, _ in alarms] == [""]
        assert untouched()
    let_probe()

    engine.sync_due()

    assert_nothing_pending()
    assert_in_step(Article, Product)
    assert not Hold.objects.held().exists()


def table_missing(pair: Pair, table: str) -> str:
    return f"no such table: {table}" if connections[pair.remote].vendor == "sqlite" else f'relation "{table}"'


def test_the_command_tells_what_is_held_and_lets_go_of_what_works(pair: Pair) -> None:
    article, product = factories.article(), factories.product()

    with without_column(pair.remote, "shop_article", "title"), pytest.raises(ObjectsFailed, match=r"shop\.Article"):
        call_synchronize()
    assert_same_on_remote(product)
    assert untouched()

    call_synchronize()

    assert_same_on_remote(article)
    assert not Hold.objects.held().exists()


def test_a_handler_that_misses_its_own_table_is_its_object_s_fault(pair: Pair) -> None:
    """The model is whole, so only the object fails."""
    bad, good = factories.article(title="bad"), factories.article()

    def handler(instance: Article, using: str, **kwargs: Any) -> None:
        if using == pair.remote and instance.title == "bad":
            with connections[using].cursor() as cursor:
                cursor.execute("SELECT 1 FROM no_such_table")

    pre_save.connect(handler, sender=Article)
    try:
        report = engine.sync_due()
    finally:
        pre_save.disconnect(handler, sender=Article)

    assert [each.object_id for each in report.failures] == [str(bad.pk)]
    assert not Hold.objects.held().exists()
    assert_same_on_remote(good)
