"""Databases that stop, stand still, crash, restart, or change their tables; objects that REMOTE does not take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connections

from synchro import engine
from synchro.engine import timeouts
from synchro.exceptions import Held
from synchro.models import Attempt, ChangeLog, Hold
from tests import factories
from tests.acceptance.processes import PrivateSite, Process, wait_until
from tests.acceptance.steps import (
    let_pauses_end,
    remote_held_up,
    save_articles,
    start_beat,
    wait_for_attempts,
    wait_until_a_worker_writes,
    wait_until_nothing_is_pending,
)
from tests.assertions import assert_in_step, assert_same_on_remote
from tests.databases import Pair
from tests.faults import ambiguous_twin, let_probe
from tests.shop.models import Article, Product, Twin

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

#: Seconds for which the engine waits for a REMOTE that is silent.
SHORT = {"CONNECT": 2, "STATEMENT": 4, "GRACE": 1}


@pytest.fixture
def workers(private_site: PrivateSite, request: pytest.FixtureRequest) -> list[Process]:
    """A prefork worker, one with threads, and beat. None of them is restarted in these tests."""
    env: dict[str, str] = getattr(request, "param", {})
    first = private_site.start_worker("prefork", concurrency=2, ready=False, **env)
    second = private_site.start_worker("threads", "--pool=threads", concurrency=2, ready=False, **env)
    beat = start_beat(private_site)
    for name, worker in (("prefork", first), ("threads", second)):
        worker.wait_for(f"{name}@test ready.")
    return [first, second, beat]


def deliver(site: PrivateSite) -> None:
    """Wait until everything has arrived, without waiting for pauses of minutes."""

    def nothing_is_pending() -> bool:
        let_pauses_end()
        return not ChangeLog.objects.pending().exists()

    wait_until(nothing_is_pending, "nothing is pending", pause=0.5)
    wait_until_nothing_is_pending(site)


def assert_none_has_ended(processes: list[Process]) -> None:
    for process in processes:
        assert process.is_running, process.log[-3000:]


def execute(alias: str, sql: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def without_column(pair: Pair, model: type[Article], column: str) -> Iterator[None]:
    """Let REMOTE's table lack a column in the block, as a migration does that LOCAL had first."""
    table = model._meta.db_table
    field: Any = model._meta.get_field(column)
    execute(pair.remote, f"ALTER TABLE {table} DROP COLUMN {column}")
    yield
    with connections[pair.remote].schema_editor() as editor:
        editor.add_field(model, field)


def test_remote_is_down_while_many_objects_change(private_site: PrivateSite, workers: list[Process]) -> None:
    articles = save_articles(50)
    wait_until_nothing_is_pending(private_site)

    private_site.servers.remote.stop()
    connections[private_site.pair.remote].close()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for article in articles:
            article.words += 1
            article.save()
        save_articles(10)
        assert private_site.countdowns() == []
    assert not ChangeLog.objects.filter(attempts__gt=0).exists()
    assert Attempt.objects.count() < 5
    private_site.servers.remote.start()

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)
    assert_none_has_ended(workers)


@pytest.mark.parametrize("workers", [{"SYNCHRO_TEST_TIMEOUTS": json.dumps(SHORT)}], indirect=True, ids=["short"])
def test_remote_stands_still_and_neither_saving_nor_the_workers_do(
    private_site: PrivateSite, workers: list[Process]
) -> None:
    save_articles(20)
    wait_until_nothing_is_pending(private_site)

    with private_site.servers.remote.frozen():
        save_articles(100)
        wait_until(Hold.objects.exists, "the workers know that REMOTE is away")
        wait_until(lambda: private_site.queue_length() == 0, "tasks end at once")
        assert private_site.countdowns() == []
        assert ChangeLog.objects.pending().count() == 100
        assert not ChangeLog.objects.filter(attempts__gt=0).exists()
        wait_for_attempts(0)

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article)
    assert not Hold.objects.exists()
    assert_none_has_ended(workers)


STATEMENTS: dict[str, Callable[[Any], Any]] = {
    "query": lambda connection: connection.cursor().execute("SELECT 1"),
    "commit": lambda connection: connection.commit(),
    "copy": lambda connection: copy_rows(connection),
}


def copy_rows(connection: Any) -> None:
    copying = "COPY pg_temp.numbers FROM STDIN"
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(copying) as copy:
        copy.write_row([1])


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_a_worker_does_not_wait_for_a_remote_that_stands_still(
    private_site: PrivateSite, statement: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine answers for it, so that keepalives see nothing, and it does not end its statements itself."""
    for name, seconds in {**SHORT, "STATEMENT": 1}.items():
        monkeypatch.setattr(timeouts, name, seconds)
    remote = connections[private_site.pair.remote]
    remote.close()
    (article,) = save_articles(1)
    engine.sync_object("shop.Article", str(article.pk))
    article.save()
    remote.set_autocommit(False)
    with remote.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE numbers (number integer)")

    started = time.monotonic()
    with private_site.servers.remote.frozen():
        with pytest.raises(OperationalError):
            statement(remote)
        remote.close()
        with pytest.raises(Held):
            engine.sync_object("shop.Article", str(article.pk))
        assert time.monotonic() - started < 20

    let_probe()
    assert engine.sync_due().synced == 1
    assert_same_on_remote(article)


def test_remote_crashes_while_workers_write(private_site: PrivateSite, workers: list[Process]) -> None:
    remote = private_site.servers.remote
    with remote_held_up(private_site):
        save_articles(50)
        wait_until_a_worker_writes(private_site)
        remote.crash()
    connections[private_site.pair.remote].close()
    save_articles(20)
    remote.start()

    deliver(private_site)
    assert_in_step(Article)
    assert_none_has_ended(workers)


def test_local_restarts(private_site: PrivateSite, workers: list[Process]) -> None:
    local = private_site.servers.local
    save_articles(50)
    local.crash()
    connections[private_site.pair.local].close()
    time.sleep(1)
    local.start()
    save_articles(20)
    private_site.flush_broker()

    deliver(private_site)
    assert_in_step(Article)
    assert Article.objects.count() == 70
    assert_none_has_ended(workers)


def test_objects_that_remote_does_not_take_stop_no_others(private_site: PrivateSite, workers: list[Process]) -> None:
    for number in range(300):
        if number % 100 == 50:
            ambiguous_twin(private_site.pair)
        factories.make(Twin, name=factories.unique("twin"))

    wait_until(lambda: ChangeLog.objects.pending().count() == 3, "all others have arrived")
    poison = set(ChangeLog.objects.pending().values_list("object_id", flat=True))
    tried = Attempt.objects.values_list("object_id", flat=True)
    wait_until(lambda: set(tried.all()) >= poison, "those have been tried")
    assert set(tried.all()) == poison
    assert Twin.objects.using(private_site.pair.remote).count() == 300 + 2 * len(poison)


def test_a_column_is_dropped_and_comes_back(private_site: PrivateSite, workers: list[Process]) -> None:
    article, product = factories.article(), factories.product()
    wait_until_nothing_is_pending(private_site)

    with without_column(private_site.pair, Article, "words"):
        article.words = 7
        article.save()
        save_articles(20)
        product.stock = 7
        product.save()
        wait_until(lambda: not ChangeLog.objects.pending().of(Product).exists(), "another model arrives")
        assert_same_on_remote(product)
        assert ChangeLog.objects.pending().of(Article).count() == 21
        assert not ChangeLog.objects.pending().filter(attempts__gt=0).exists()

    wait_until_nothing_is_pending(private_site)
    assert_in_step(Article, Product)
    assert sum(each.log.count("held back model=shop.Article") for each in workers) == 1
    assert_none_has_ended(workers)
