"""Large backlogs: what a checkpoint reads of them, and how it hands them to all workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.models import ChangeLog, Hold
from synchro.signals import object_synced
from synchro_tasks import tasks
from tests import factories
from tests.databases import Pair
from tests.faults import let_probe
from tests.queries import kinds, queries
from tests.running import Queued, run_task
from tests.shop.models import Article, Product
from tests.vendors import only_on

MANY = 20_000


def fill(model: Any, count: int, **values: Any) -> None:
    """Log changes of objects that do not exist: they are settled when their turn comes."""
    type_id = ContentType.objects.get_for_model(model).pk
    now = timezone.now()
    ChangeLog.objects.bulk_create(
        (
            ChangeLog(
                content_type_id=type_id, object_id=str(number), action=ChangeLog.Action.CHANGE, date=now, **values
            )
            for number in range(1, count + 1)
        ),
        batch_size=5000,
    )


@contextmanager
def rows_read(using: str) -> Iterator[list[int]]:
    """Count the rows that each statement on a database may return at most, by its LIMIT; -1 where it has none."""
    found: list[int] = []
    with queries(using) as statements:
        yield found
    for statement in statements:
        if statement.startswith("SELECT") and "synchro_changelog" in statement:
            limits = re.findall(r"LIMIT (\d+)", statement)
            found.append(int(limits[-1]) if limits else -1)


@override_settings(SYNCHRO_BATCH_SIZE=100)
def test_a_backlog_is_handed_out_in_batches_between_models(pair: Pair, queued: Queued) -> None:
    fill(Article, 450)
    fill(Product, 250)
    queued.clear()

    run_task("checkpoint")

    assert queued == [
        (
            "synchro_tasks.replicate",
            [
                *(("shop.Article", number) for number in ("201", "301", "401")),
                *(("shop.Product", number) for number in ("101", "201")),
            ],
        )
    ]


@override_settings(SYNCHRO_BATCH_SIZE=100)
def test_all_workers_help_as_soon_as_remote_is_back(pair: Pair, queued: Queued) -> None:
    """The tasks of the backlog have ended while REMOTE was away, and the checkpoint that finds it back works alone."""
    fill(Article, 500)
    Hold.objects.hold("", "Away.")
    let_probe()
    queued.clear()
    held: list[bool] = []

    def note(**kwargs: Any) -> None:
        held.append(Hold.objects.held().exists())

    object_synced.connect(note)
    run_task("checkpoint")
    object_synced.disconnect(note)

    assert queued == [("synchro_tasks.replicate", [("shop.Article", number) for number in ("201", "301", "401")])]
    assert held == [True, False, False, False, False]


@override_settings(SYNCHRO_BATCH_SIZE=10)
def test_so_many_at_most_are_handed_out_and_each_model_gets_its_share(pair: Pair) -> None:
    fill(Article, 500)
    fill(Product, 500)

    handed = engine.backlog(most=6)

    assert [label for label, _ in handed] == ["shop.Article"] * 3 + ["shop.Product"] * 3


@override_settings(SYNCHRO_BATCH_SIZE=10)
def test_what_waits_for_its_time_is_not_handed_out(pair: Pair) -> None:
    fill(Article, 100, next_attempt_at=timezone.now() + timedelta(hours=1))
    fill(Article, 5)

    assert engine.backlog(most=6) == []


@override_settings(SYNCHRO_BATCH_SIZE=10)
def test_what_is_held_back_is_not_handed_out(pair: Pair) -> None:
    fill(Article, 30)
    fill(Product, 30)
    Hold.objects.hold("shop.Article", "No such column.")
    assert {label for label, _ in engine.backlog(most=6)} == {"shop.Product"}

    Hold.objects.hold("", "Away.")
    assert engine.backlog(most=6) == []


def test_a_small_backlog_is_the_checkpoint_s_own(pair: Pair, queued: Queued) -> None:
    for _ in range(3):
        factories.article()
    queued.clear()

    run_task("checkpoint")

    assert queued == []


@override_settings(SYNCHRO_BATCH_SIZE=100)
def test_what_is_read_does_not_depend_on_the_size_of_the_backlog(
    postgres_pair: Pair, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_SECONDS_TO_SYNC", 0.0)
    fill(Article, MANY)

    with rows_read(postgres_pair.local) as limits:
        assert run_task("checkpoint").result.startswith("100 synced")

    pages = [limit for limit in limits if limit > 1]
    assert pages == [100]
    # Two without a limit: the newest entry, and the entries of the batch's own objects.
    assert limits.count(-1) == 2
    assert len(limits) < 120


@pytest.mark.parametrize("waiting", [False, True])
@only_on("postgres", "mariadb")
def test_the_oldest_entries_are_read_from_the_index(each_vendor: Pair, waiting: bool) -> None:
    """However many entries are done, and whether or not as many wait for their time."""
    fill(Article, MANY, state=ChangeLog.State.SYNCED)
    if waiting:
        fill(Product, MANY, next_attempt_at=timezone.now() + timedelta(hours=1))
    fill(Article, 2000)
    with connections[each_vendor.local].cursor() as cursor:
        cursor.execute("ANALYZE " + ("TABLE " * (each_vendor.local.startswith("maria"))) + "synchro_changelog")
    due = ChangeLog.objects.using(each_vendor.local).due(timezone.now()).oldest_first(Article)

    plan = due.values_list("id", "object_id")[:100].explain()

    assert "synchro_log_pending" in plan
    assert not [word for word in ("Seq Scan", "Sort", "filesort") if word in plan]


def test_with_nothing_to_do_it_looks_into_some_indexes(postgres_pair: Pair, queued: Queued) -> None:
    fill(Article, 2000, state=ChangeLog.State.SYNCED)
    fill(Product, 2000, state=ChangeLog.State.SYNCED)
    run_task("checkpoint")

    with queries(postgres_pair.local) as local, queries(postgres_pair.remote) as remote:
        run_task("checkpoint")

    assert remote == []
    reading = [statement for statement in local if statement.startswith("SELECT")]
    assert len(reading) <= 20
    assert all(
        "LIMIT" in each or "MAX(" in each or "synchro_option" in each or "synchro_hold" in each for each in reading
    )
    assert set(kinds(local)) - set(kinds(reading)) == {"UPDATE synchro_option"}
