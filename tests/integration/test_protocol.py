"""The protocol converges: each test forces the order of steps in which a naive copy loses or doubles a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from synchro import engine
from synchro.engine import batch, locks
from synchro.models import ChangeLog, Reference
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.faults import Crash
from tests.shop.models import Article
from tests.threads import PATIENCE, in_thread


class Gate:
    """A place in the code at which one thread waits until the test lets it go on."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._reached = threading.Event()
        self._open = threading.Event()

    def wrap(self, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        """Return the function with the gate before it, or after it."""

        def gated(*args: Any, **kwargs: Any) -> Any:
            if after:
                result = function(*args, **kwargs)
                self._stop_here()
                return result
            self._stop_here()
            return function(*args, **kwargs)

        return gated

    @contextmanager
    def holding(self, function: Callable[[], Any]) -> Iterator[Future[Any]]:
        """Run the function in a thread; the block begins when it stands at the gate, and lets it through at the end."""

        def run() -> Any:
            self._mine.stops = True
            return function()

        future = in_thread(run)
        assert self._reached.wait(PATIENCE), future.exception(0) if future.done() else "the gate was not reached"
        try:
            yield future
        finally:
            self._open.set()
        future.result(PATIENCE)

    def _stop_here(self) -> None:
        if getattr(self._mine, "stops", False):
            self._mine.stops = False
            self._reached.set()
            assert self._open.wait(PATIENCE)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def replicate(article: Article) -> Callable[[], engine.Report]:
    return lambda: engine.sync_object("shop.Article", str(article.pk))


def wait_until_done_or_locked_out(future: Future[Any], alias: str) -> None:
    """Wait until the other worker has finished, or stands in the queue for a lock on REMOTE."""
    end = time.monotonic() + PATIENCE
    while not future.done() and not _somebody_waits_for_a_lock(alias):
        assert time.monotonic() < end
        # InnoDB shows who waits for a lock from a cache that is only renewed when nobody has asked for 0.1 s.
        threading.Event().wait(0.2)


def _somebody_waits_for_a_lock(alias: str) -> bool:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return True  # whoever has begun to write is alone
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        else:
            cursor.execute(
                "SELECT (SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT')"
                " + (SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock')"
            )
        return bool(cursor.fetchone()[0])


def save(article: Article, title: str) -> None:
    article.title = title
    article.save()


def test_an_older_state_is_never_written_over_a_newer_one(
    each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker A has read version 1 and stops; B brings version 2; A goes on."""
    article = factories.article(title="version 0")
    engine.sync_pending()
    save(article, "version 1")
    monkeypatch.setattr(batch._Batch, "read", gate.wrap(batch._Batch.read, after=True))

    with gate.holding(replicate(article)):
        save(article, "version 2")
        other = in_thread(replicate(article))
        wait_until_done_or_locked_out(other, each_vendor.remote)
    other.result(PATIENCE)
    engine.sync_pending()

    assert_same_on_remote(article)
    assert_nothing_pending()


def test_an_older_state_of_a_new_object_is_never_written_over_a_newer_one(
    each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for an object that REMOTE does not have yet, so that there is no row of it to lock."""
    article = factories.article(title="version 1")
    monkeypatch.setattr(batch._Batch, "read", gate.wrap(batch._Batch.read, after=True))

    with gate.holding(replicate(article)):
        save(article, "version 2")
        other = in_thread(replicate(article))
        wait_until_done_or_locked_out(other, each_vendor.remote)
    other.result(PATIENCE)
    engine.sync_pending()

    assert_same_on_remote(article)
    assert_in_step(Article)


def test_the_state_is_read_after_the_lock(each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that commits while a worker waits for the lock is in what it copies."""
    article = factories.article(title="version 1")
    monkeypatch.setattr(locks, "lock_objects", gate.wrap(locks.lock_objects))

    with gate.holding(replicate(article)):
        save(article, "version 2")

    assert_same_on_remote(article)
    assert_nothing_pending()


def test_entries_are_taken_before_the_state_is_read(
    each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change between the two is copied, and its entry stays pending: it is never marked without having been read."""
    article = factories.article(title="version 1")
    monkeypatch.setattr(batch, "_take", gate.wrap(batch._take, after=True))

    with gate.holding(replicate(article)):
        save(article, "version 2")
    taken, left = ChangeLog.objects.order_by("id")
    assert (taken.state, left.state) == (ChangeLog.State.SYNCED, ChangeLog.State.PENDING)
    engine.sync_pending()

    assert_same_on_remote(article)
    assert_nothing_pending()


def test_a_change_that_commits_before_the_entries_are_taken_is_copied(
    each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the state first would mark this change as synced with the old state."""
    article = factories.article(title="version 1")
    monkeypatch.setattr(batch, "_take", gate.wrap(batch._take))

    with gate.holding(replicate(article)):
        save(article, "version 2")

    assert_same_on_remote(article)
    assert_nothing_pending()


def test_only_the_taken_entries_are_marked(each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that commits while REMOTE commits is not acknowledged with the others."""
    article = factories.article(title="version 1")
    monkeypatch.setattr(batch, "acknowledge", gate.wrap(batch.acknowledge))

    with gate.holding(replicate(article)):
        save(article, "version 2")
    assert ChangeLog.objects.pending().count() == 1
    engine.sync_pending()

    assert_same_on_remote(article)
    assert_nothing_pending()


def test_a_transaction_that_commits_late_is_copied(postgres_pair: Pair, *unused: Any) -> None:
    """Its entry is older, and has a lower number, than what another synchronization has seen meanwhile."""
    with transaction.atomic(using=postgres_pair.local):
        late = factories.article(title="committed late")

        def meanwhile() -> engine.Report:
            factories.article()
            return engine.sync_pending()

        assert in_thread(meanwhile).result(PATIENCE).synced == 1
    engine.sync_pending()

    assert_same_on_remote(late)
    assert_nothing_pending()


def test_a_crash_between_the_two_commits_does_not_double_an_object(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object has an automatic key and no natural key: only the mirror on REMOTE tells."""
    article = factories.article()

    def crash(*args: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(batch, "acknowledge", crash)
        with pytest.raises(Crash):
            engine.sync_pending()
    assert Reference.objects.count() == 0
    assert Article.objects.using(each_vendor.remote).count() == 1

    engine.sync_pending()

    assert_in_step(Article)
    assert_same_on_remote(article)


def test_a_crash_before_remotes_commit_leaves_everything_pending(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    article = factories.article()

    def crash(*args: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(batch._Batch, "_bring_members", crash)
        with pytest.raises(Crash):
            engine.sync_pending()
    assert Article.objects.using(each_vendor.remote).count() == 0
    assert Reference.objects.using(each_vendor.remote).count() == 0

    engine.sync_pending()

    assert_in_step(Article)
    assert_same_on_remote(article)


def test_two_workers_that_add_the_same_object(each_vendor: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    article = factories.article()
    monkeypatch.setattr(batch, "write", gate.wrap(batch.write, after=True))

    with gate.holding(replicate(article)):
        other = in_thread(replicate(article))
        wait_until_done_or_locked_out(other, each_vendor.remote)
    other.result(PATIENCE)

    assert_in_step(Article)
    assert_same_on_remote(article)


def test_local_has_no_open_transaction_while_remote_is_written(
    each_vendor: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.article()
    seen = []
    write = batch.write

    def watched_write(*args: Any) -> Any:
        seen.append(connections[each_vendor.local].in_atomic_block)
        return write(*args)

    monkeypatch.setattr(batch, "write", watched_write)
    engine.sync_pending()

    assert seen == [False]


def test_without_tables_on_remote_one_process_applies_at_a_time(
    bare_pair: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    article = factories.article(title="version 1")
    monkeypatch.setattr(batch._Batch, "read", gate.wrap(batch._Batch.read, after=True))

    with gate.holding(replicate(article)):
        save(article, "version 2")
        other = in_thread(replicate(article))
        wait_until_done_or_locked_out(other, bare_pair.remote)
    other.result(PATIENCE)
    engine.sync_pending()

    assert_same_on_remote(article)
    assert Article.objects.using(bare_pair.remote).count() == 1


def test_without_tables_on_remote_the_acknowledgement_is_part_of_the_lock(
    bare_pair: Pair, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REMOTE has committed, LOCAL has no reference yet: another worker would add the object again."""
    article = factories.article()
    monkeypatch.setattr(batch, "acknowledge", gate.wrap(batch.acknowledge))

    with gate.holding(replicate(article)):
        other = in_thread(replicate(article))
        wait_until_done_or_locked_out(other, bare_pair.remote)
    other.result(PATIENCE)

    assert_same_on_remote(article)
    assert Article.objects.using(bare_pair.remote).count() == 1
