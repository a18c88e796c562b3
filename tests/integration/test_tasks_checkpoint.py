"""The tasks checkpoint and synchronize: they do the work without any queued task, in bounded steps."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.exceptions import NoRemote, PermanentError, SynchroError, TransientError
from synchro.models import Attempt, ChangeLog, Option, options
from synchro_tasks import tasks
from synchro_tasks.lease import Lease, lease
from synchro_tasks.tasks import checkpoint, synchronize
from tests import factories
from tests.acceptance.processes import wait_until
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.faults import ambiguous_twin, let_probe, unreachable
from tests.queries import kinds, queries
from tests.shop.models import Article, Product
from tests.threads import PATIENCE, in_thread

DAY = timedelta(days=1)


def test_it_brings_what_was_never_tried(each_vendor: Pair) -> None:
    factories.article()
    factories.product()

    assert checkpoint() == "2 synced, 0 skipped, 0 failed, 0 old rows deleted"

    assert_in_step(Article, Product)


def test_it_brings_what_has_waited_long_enough_and_nothing_else(pair: Pair) -> None:
    over, not_over = factories.article(), factories.article()
    for article, moment in ((over, -DAY), (not_over, DAY)):
        ChangeLog.objects.filter(object_id=str(article.pk)).update(next_attempt_at=timezone.now() + moment)

    assert checkpoint() == "1 synced, 0 skipped, 0 failed, 0 old rows deleted"

    assert_same_on_remote(over)
    assert [entry.object_id for entry in ChangeLog.objects.pending()] == [str(not_over.pk)]


@override_settings(SYNCHRO_BATCH_SIZE=3)
def test_it_goes_on_batch_after_batch(pair: Pair) -> None:
    for _ in range(10):
        factories.article()
    for _ in range(4):
        factories.product()

    assert checkpoint() == "14 synced, 0 skipped, 0 failed, 0 old rows deleted"


@override_settings(SYNCHRO_BATCH_SIZE=3)
def test_it_stops_when_its_time_is_up_and_the_next_one_goes_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(10):
        factories.article()

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "_SECONDS_TO_SYNC", 0.0)
        assert checkpoint() == "3 synced, 0 skipped, 0 failed, 0 old rows deleted"

    assert checkpoint() == "7 synced, 0 skipped, 0 failed, 0 old rows deleted"


@override_settings(SYNCHRO_BATCH_SIZE=2)
def test_models_take_turns(pair: Pair) -> None:
    for _ in range(5):
        factories.article()
    for _ in range(5):
        factories.product()
    turns: list[str] = []

    def note() -> bool:
        turns.append(arrived())
        return True

    engine.sync_due(goes_on=note)

    assert turns == ["2+0", "2+2", "4+2", "4+4", "5+4", "5+5"]


@override_settings(SYNCHRO_BATCH_SIZE=2)
def test_one_that_ended_early_is_followed_by_the_next_model(pair: Pair) -> None:
    for _ in range(4):
        factories.article()
    for _ in range(4):
        factories.product()
    factories.tag()

    for expected in ("2+0", "2+0", "2+2", "4+2", "4+4"):  # the second turn is that of the tag
        engine.sync_due(goes_on=lambda: False)
        assert arrived() == expected

    assert_nothing_pending()


def arrived() -> str:
    """Return how many articles and products are on REMOTE."""
    return "+".join(str(each.objects.using(settings.SYNCHRO_REMOTE).count()) for each in (Article, Product))


@override_settings(SYNCHRO_BATCH_SIZE=2)
def test_objects_that_fail_do_not_keep_it_busy(sqlite_pair: Pair) -> None:
    for _ in range(5):
        ambiguous_twin(sqlite_pair)
    article = factories.article()

    assert checkpoint() == "1 synced, 0 skipped, 5 failed, 0 old rows deleted"

    assert_same_on_remote(article)
    assert Attempt.objects.count() == 5
    assert checkpoint() == "0 synced, 0 skipped, 0 failed, 0 old rows deleted"


def test_it_remembers_when_everything_was_last_looked_at(pair: Pair) -> None:
    before = timezone.now()

    checkpoint()

    assert options.last_check is not None
    assert options.last_check >= before


def test_it_remembers_when_the_last_one_ended_whatever_else_synchronizes(sqlite_pair: Pair) -> None:
    factories.article()
    synchronize()
    assert options.last_checkpoint is None
    before = timezone.now()
    with lease("checkpoint"):
        assert checkpoint() == "Another checkpoint is running."
    assert options.last_checkpoint is None

    checkpoint()
    first = options.last_checkpoint
    assert first is not None
    assert before <= first <= timezone.now()

    factories.article()
    with unreachable(sqlite_pair.remote), pytest.raises(TransientError):
        checkpoint()
    assert options.last_checkpoint is not None
    assert options.last_checkpoint > first, "beat and the workers did their part"


def test_without_a_remote_it_only_prunes(pair: Pair) -> None:
    old_entries(3)
    with override_settings(SYNCHRO_REMOTE=None):
        factories.article()
        assert checkpoint() == "0 synced, 0 skipped, 0 failed, 3 old rows deleted"

    assert ChangeLog.objects.pending().count() == 1


def test_a_remote_that_is_away_is_told_in_a_sentence(sqlite_pair: Pair) -> None:
    factories.article()

    with unreachable(sqlite_pair.remote), pytest.raises(TransientError) as caught:
        checkpoint()

    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert ChangeLog.objects.pending().count() == 1
    assert checkpoint().startswith("0 synced, 0 skipped, 0 failed, REMOTE held: unable to open database file")
    let_probe()
    assert checkpoint() == "1 synced, 0 skipped, 0 failed, 0 old rows deleted"


# One at a time


def test_a_second_one_ends_at_once(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.article()
    second: list[str] = []
    sync_due = engine.sync_due

    def meanwhile(**kwargs: Any) -> engine.Report:
        if not second:
            second.append(in_thread(checkpoint).result(PATIENCE))
        return sync_due(**kwargs)

    monkeypatch.setattr(engine, "sync_due", meanwhile)

    assert checkpoint() == "1 synced, 0 skipped, 0 failed, 0 old rows deleted"
    assert second == ["Another checkpoint is running."]


def test_the_next_one_may_run_when_the_first_has_ended(each_vendor: Pair) -> None:
    checkpoint()

    assert "running" not in checkpoint()


def test_one_that_failed_does_not_keep_the_next_one_out(sqlite_pair: Pair) -> None:
    factories.article()
    with unreachable(sqlite_pair.remote), pytest.raises(TransientError):
        checkpoint()

    assert "running" not in checkpoint()


def test_no_transaction_is_open_while_it_works(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    open_transactions = []
    sync_due = engine.sync_due

    def watched(**kwargs: Any) -> engine.Report:
        open_transactions.append(connections[pair.local].in_atomic_block)
        return sync_due(**kwargs)

    monkeypatch.setattr(engine, "sync_due", watched)
    checkpoint()

    assert open_transactions == [False]


def test_a_lease_has_one_holder(each_vendor: Pair) -> None:
    first, second = Lease("work"), Lease("work")

    assert first.acquire()
    assert not second.acquire()
    assert first.renew()
    first.release()
    assert second.acquire()
    assert not first.renew()


def test_leases_of_different_work_do_not_meet(sqlite_pair: Pair) -> None:
    assert Lease("work").acquire()
    assert Lease("play").acquire()


def test_only_one_of_many_gets_a_lease_that_is_new(each_vendor: Pair) -> None:
    futures = [in_thread(lambda: Lease("work").acquire()) for _ in range(8)]

    assert [future.result(PATIENCE) for future in futures].count(True) == 1


def test_a_dead_holder_frees_itself(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro_tasks.lease._DURATION", timedelta(seconds=1))
    dead, heir = Lease("work"), Lease("work")
    dead.acquire()

    assert not heir.acquire()
    time.sleep(1.05)
    assert heir.acquire()
    assert heir.is_inherited
    assert not dead.renew()
    dead.release()
    assert heir.renew()


@pytest.mark.parametrize("skew", [-DAY, timedelta(seconds=25), DAY], ids=str)
def test_how_wrong_a_worker_s_own_clock_is_makes_no_difference(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch, skew: timedelta
) -> None:
    first = Lease("work")
    with monkeypatch.context() as clock:
        now = timezone.now() + skew
        clock.setattr("django.utils.timezone.now", lambda: now)
        assert first.acquire()
    assert not Lease("work").acquire()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)

    assert not Lease("work").acquire()
    assert first.renew()


def test_a_server_clock_that_was_put_back_does_not_block_for_years(each_vendor: Pair) -> None:
    Lease("work").acquire()
    future = timezone.now() + timedelta(days=1000)
    Option.objects.filter(key="work").update(value=f"{future.isoformat()} somebody")

    assert Lease("work").acquire()


def test_a_holder_that_works_long_keeps_its_lease(each_vendor: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro_tasks.lease._SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr("synchro_tasks.lease._DURATION", timedelta(seconds=1))

    with lease("work") as own:
        assert own is not None
        time.sleep(1.5)
        assert not own.is_lost
        assert not Lease("work").acquire()

    assert Lease("work").acquire()


def test_a_holder_notices_that_somebody_else_has_taken_its_lease(
    sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synchro_tasks.lease._SECONDS_BETWEEN_RENEWALS", 0.05)

    with lease("work") as own:
        assert own is not None
        Option.objects.filter(key="work").update(value="somebody else")
        wait_until(lambda: own.is_lost, "the holder notices")

    assert Option.objects.get(key="work").value == "somebody else"


def test_a_lease_that_was_deleted_can_be_taken_again(pair: Pair) -> None:
    lease = Lease("work")
    lease.acquire()
    Option.objects.filter(key="work").delete()

    assert not lease.renew()
    assert lease.acquire()


# Pruning


def old_entries(count: int, *, model: Any = Article, days: int = 31, state: Any = ChangeLog.State.SYNCED) -> None:
    date = timezone.now() - days * DAY
    content_type = ContentType.objects.get_for_model(model)
    ChangeLog.objects.bulk_create(
        ChangeLog(
            content_type=content_type, object_id=str(number), action=ChangeLog.Action.CHANGE, date=date, state=state
        )
        for number in range(count)
    )


def old_attempt(*, days: int) -> None:
    content_type = ContentType.objects.get_for_model(Article)
    date = timezone.now() - days * DAY
    Attempt.objects.create(content_type=content_type, object_id="1", date=date, error="Error", message="It failed.")


def test_what_is_older_than_the_log_is_kept_goes(pair: Pair) -> None:
    old_entries(2)
    old_entries(3, model=Product, state=ChangeLog.State.SKIPPED)
    old_entries(4, days=29)
    old_attempt(days=31)
    old_attempt(days=29)

    assert checkpoint().endswith("6 old rows deleted")

    assert ChangeLog.objects.count() == 4
    assert Attempt.objects.count() == 1


@override_settings(SYNCHRO_LOG_RETENTION=3)
def test_how_long_it_is_kept_is_a_setting(sqlite_pair: Pair) -> None:
    old_entries(1, days=4)
    old_entries(1, days=2)

    assert checkpoint().endswith("1 old rows deleted")


@pytest.mark.parametrize("state", [ChangeLog.State.PENDING, ChangeLog.State.FAILED])
def test_what_is_still_owed_to_remote_stays_whatever_its_age(sqlite_pair: Pair, state: Any) -> None:
    old_entries(1, days=4000, state=state)
    ChangeLog.objects.update(next_attempt_at=timezone.now() + DAY)

    checkpoint()

    assert ChangeLog.objects.get().state == state


def test_it_goes_in_small_batches(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PRUNE_BATCH", 10)
    old_entries(25)

    with queries(sqlite_pair.local) as statements:
        checkpoint()

    assert kinds(statements).count("DELETE synchro_changelog") == 3
    assert ChangeLog.objects.count() == 0


def test_where_nothing_is_old_the_log_is_not_read(postgres_pair: Pair) -> None:
    old_entries(2000, days=1)
    old_entries(2000, model=Product, days=1)

    with queries(postgres_pair.local) as statements:
        before = timezone.now() - 30 * DAY
        assert ChangeLog.objects.prune(before, limit=1000) == 0

    assert len(statements) <= 7
    assert all(re.search(r"LIMIT 1$", statement) for statement in statements)


def test_a_checkpoint_with_nothing_to_do_reads_next_to_nothing(postgres_pair: Pair) -> None:
    """However much has been synchronized, and however many attempts have failed, in the last days."""
    old_entries(1000, days=1)
    old_entries(1000, model=Product, days=1)
    for _ in range(20):
        old_attempt(days=1)
    checkpoint()

    with queries(postgres_pair.local) as local, queries(postgres_pair.remote) as remote:
        assert checkpoint() == "0 synced, 0 skipped, 0 failed, 0 old rows deleted"

    reads = [each for each in local if each.startswith("SELECT")]
    rows = [each for each in reads if "synchro_changelog" in each or "synchro_attempt" in each]
    assert all(re.search(r"LIMIT 1$|MAX\(", each) for each in rows), rows
    assert len(reads) <= 18, kinds(reads)
    assert remote == []


# synchronize


def test_synchronize_brings_everything_also_what_waits(pair: Pair) -> None:
    factories.article()
    ChangeLog.objects.update(next_attempt_at=timezone.now() + DAY)

    assert synchronize() == "1 synced, 0 skipped, 0 failed"

    assert_nothing_pending()


def test_synchronize_counts_and_names_what_failed(sqlite_pair: Pair) -> None:
    twin = ambiguous_twin(sqlite_pair)
    article = factories.article()

    with pytest.raises(PermanentError, match=rf"1 synced, 0 skipped, 1 failed; first shop.Twin {twin.pk}: ") as caught:
        synchronize()

    assert "\n" not in str(caught.value)
    assert_same_on_remote(article)


def test_synchronize_full_compares_everything(sqlite_pair: Pair) -> None:
    article = factories.article()
    engine.sync_pending()
    Article.objects.update(title="Unlogged")

    request = {"models": ["shop.Article"], "dry_run": True}
    assert synchronize(full=True, request=request) == "1 compared, 1 differences, 0 repaired, 0 failed, 0 skipped"
    assert synchronize(full=True) == "1 compared, 1 differences, 1 repaired, 0 failed, 0 skipped"

    assert_same_on_remote(article)


def test_synchronize_full_says_what_is_left(sqlite_pair: Pair) -> None:
    ambiguous_twin(sqlite_pair)
    ChangeLog.objects.all().delete()

    with pytest.raises(PermanentError, match=r"1 failed, 0 skipped; first shop.Twin: 1 could not be repaired"):
        synchronize(full=True)
    with pytest.raises(SynchroError, match="'shop.Nothing' is no watched model"):
        synchronize(full=True, request={"models": ["shop.Nothing"]})


def test_synchronize_without_a_remote_says_so(sqlite_pair: Pair) -> None:
    with override_settings(SYNCHRO_REMOTE=None), pytest.raises(NoRemote, match="SYNCHRO_REMOTE"):
        synchronize()
